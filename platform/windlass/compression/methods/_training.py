"""What methods on networks share: fine-tuning, and the check of a network that was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.compression.errors import NotApplicableError
from windlass.training.documents import Learning

if TYPE_CHECKING:
    from torch import nn

    from windlass.compression.config import CompressConfig
    from windlass.models.spec import Edit, ModelSpec
    from windlass.training.config import TrainConfig

_FEWEST_EPOCHS = 8
"""Of fine-tuning, unless training itself was shorter: half of 8 left pruned networks four times as far behind."""


def fine_tuning(
    config: CompressConfig, train: TrainConfig, *, fake_quantized: bool = False
) -> tuple[TrainConfig, Learning]:
    """Training on from the weights that are there, with the uncompressed model as the teacher; zeros stay zero."""
    asked, distillation = config.fine_tune, config.distillation
    changes = {
        "epochs": asked.epochs or min(train.epochs, max(_FEWEST_EPOCHS, -(-train.epochs // 2))),
        "learning_rate": asked.learning_rate or train.learning_rate,
        "warmup_steps": 0,
    }
    learning = Learning(
        temperature=distillation.temperature,
        label_weight=distillation.label_weight,
        zeros_kept=True,
        fake_quantized=fake_quantized,
        calibration_rows=config.calibration_rows,
    )
    return train.model_copy(update=changes), learning


def edited(candidate: str, spec: ModelSpec, network: nn.Module, edits: tuple[Edit, ...]) -> tuple[ModelSpec, nn.Module]:
    """The changed network with a specification that says how it was changed, if it still answers.

    Raises:
        NotApplicableError: the code of its forward() counts on the sizes that it had.
    """
    import torch

    try:
        with torch.no_grad():
            outputs = network(torch.zeros(2, *spec.input_shape))
    except Exception as error:  # a user's own code can raise anything
        cause = f"afterwards forward() of {spec.architecture} fails with {type(error).__name__}: {error}"
        raise NotApplicableError(candidate, cause) from error
    if tuple(outputs.shape) != (2, spec.num_outputs):
        cause = (
            f"afterwards {spec.architecture} gives {list(outputs.shape)} for 2 examples, not {spec.num_outputs} each"
        )
        raise NotApplicableError(candidate, cause)
    return spec.model_copy(update={"edits": (*spec.edits, *edits)}), network
