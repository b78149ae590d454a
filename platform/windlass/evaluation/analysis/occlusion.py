"""Which part of a picture an answer rests on: occlusion through the served graph, as PNG heat maps.

Zeiler and Fergus (2014), "Visualizing and understanding convolutional networks", by captum. It asks for answers only,
so what is explained is what is served, quantized or not.

Shapes: N rows of the sample, H height, W width, C channels, B covered copies of one picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from captum.attr import Occlusion
from torch import Tensor

from windlass.data.description import PixelsTransform
from windlass.data.features import IMAGE_INPUT
from windlass.evaluation.analysis.documents import ExplainedAnswer, ImageExample, ImageExamples
from windlass.evaluation.analysis.sample import Array
from windlass.evaluation.analysis.subject import BATCH_ROWS, Subject

_EXAMPLES_OF_EACH = 4
_WINDOW_SHARE = 1 / 7
_LEAST_WINDOW_PIXELS = 2
_LEAST_PNG_PIXELS = 128
_RED, _BLUE = np.array([214, 40, 40]), np.array([42, 110, 220])


def explained_examples(subject: Subject, output: Path) -> ImageExamples | None:
    """Write pictures and heat maps of a few right and a few wrong answers into `output`.

    Right and wrong are as the first variant answers: the first right picture of each of the first classes, and the
    wrong ones of which it is surest. None where there was no time for any.
    """
    pixels_NHWC = subject.sample.inputs[IMAGE_INPUT]
    window_pixels = max(_LEAST_WINDOW_PIXELS, round(_WINDOW_SHARE * min(pixels_NHWC.shape[1:3])))
    examples = subject.limit.each(
        "image_examples", _chosen(subject), lambda index: _example(subject, index, window_pixels, output)
    )
    return ImageExamples(window_pixels=window_pixels, examples=examples) if examples else None


def _example(subject: Subject, index: int, window_pixels: int, output: Path) -> ImageExample:
    """Its files are written once all is known of it: before that, the time may be over."""
    sample, names = subject.sample, subject.sample.description.class_names
    assert names is not None
    image_HWC, row = sample.inputs[IMAGE_INPUT][index], int(sample.positions[index])
    answers = {variant: answers_NC[index] for variant, answers_NC in subject.answers.items()}
    influences = {
        variant: occlusion(subject, variant, image_HWC, int(answer_C.argmax()), window_pixels)
        for variant, answer_C in answers.items()
    }
    picture = f"example-{row}.png"
    _write_png(output / picture, _as_colors(image_HWC))
    by_variant = {}
    for variant, answer_C in answers.items():
        heat_map, answered = f"example-{row}-{variant}.png", int(answer_C.argmax())
        _write_png(output / heat_map, _as_heat(image_HWC, influences[variant]))
        by_variant[variant] = ExplainedAnswer(
            answered=names[answered],
            probability=float(answer_C[answered]),
            largest_influence=float(np.abs(influences[variant]).max()),
            heat_map=heat_map,
        )
    return ImageExample(row=row, picture=picture, actual=names[int(sample.targets[index])], by_variant=by_variant)


def _chosen(subject: Subject) -> list[int]:
    first = next(iter(subject.answers))
    wrong_N, targets_N = subject.errors[first] > 0, subject.sample.targets
    right = [np.flatnonzero(~wrong_N & (targets_N == index)) for index in np.unique(targets_N)]
    surest = np.argsort(-subject.answers[first].max(axis=1), kind="stable")
    mistakes = surest[wrong_N[surest]]
    return [
        *[int(rows[0]) for rows in right if len(rows)][:_EXAMPLES_OF_EACH],
        *map(int, mistakes[:_EXAMPLES_OF_EACH]),
    ]


def occlusion(subject: Subject, variant: str, image_HWC: Array, answered: int, window_pixels: int) -> Array:
    """How much the answered class's probability falls when a window over each pixel is covered: float32 [H, W].

    Mean over the windows that cover the pixel; they move by half their side.
    """
    (transform,) = (t for t in subject.sample.description.transforms if isinstance(t, PixelsTransform))
    channels = image_HWC.shape[2]
    mean_C = torch.tensor(transform.mean, dtype=torch.float32).mul(255).round()

    def answer(pictures_BHWC: Tensor) -> Tensor:
        return torch.from_numpy(subject.predict(variant, {IMAGE_INPUT: pictures_BHWC.numpy().astype(np.uint8)}))

    image_1HWC = torch.from_numpy(image_HWC[None].astype(np.float32))
    step = max(1, window_pixels // 2)
    influence_1HWC: Tensor = Occlusion(answer).attribute(
        image_1HWC,
        sliding_window_shapes=(window_pixels, window_pixels, channels),
        strides=(step, step, channels),
        baselines=mean_C.expand_as(image_1HWC),
        target=answered,
        perturbations_per_eval=BATCH_ROWS,
    )
    influence_HW: Array = influence_1HWC[0].mean(dim=-1).numpy()
    return influence_HW


def _as_colors(image_HWC: Array) -> Array:
    """uint8 [H, W, 3]."""
    return np.repeat(image_HWC, 3, axis=2) if image_HWC.shape[2] == 1 else image_HWC


def _as_heat(image_HWC: Array, influence_HW: Array) -> Array:
    """The picture in faint grey, reddened where it speaks for the answer and made blue where against: [H, W, 3]."""
    grey_HW1 = 128 + image_HWC.mean(axis=2, keepdims=True) / 4
    largest = float(np.abs(influence_HW).max()) or 1.0
    weight_HW1 = (np.abs(influence_HW) / largest)[..., None] * 0.85
    color_HW3 = np.where((influence_HW > 0)[..., None], _RED, _BLUE)
    mixed_HW3: Array = np.rint(grey_HW1 * (1 - weight_HW1) + color_HW3 * weight_HW1).astype(np.uint8)
    return mixed_HW3


def _write_png(path: Path, image_HW3: Array) -> None:
    """Small pictures enlarged by a whole factor, so that their pixels stay squares."""
    from PIL import Image

    factor = max(1, -(-_LEAST_PNG_PIXELS // min(image_HW3.shape[:2])))
    Image.fromarray(image_HW3.repeat(factor, axis=0).repeat(factor, axis=1)).save(path, format="PNG", optimize=True)
