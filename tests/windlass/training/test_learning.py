"""Networks that learn from more than labels: from weights that are there, from a teacher, with rounding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from windlass import models
from windlass.models.spec import STEPS_NAME, WEIGHTS_NAME
from windlass.storage import Reference
from windlass.tasks import get_task
from windlass.training import train
from windlass.training.config import TrainConfig
from windlass.training.documents import Learning, TrainRequest
from windlass.training.errors import TrainingInterruptedError
from windlass.training.fake_quantization import FakeQuantized, RangesCalibrated, round_activation, round_weight
from windlass.training.optimizers import build_optimizer
from windlass.training.step import DistillationStep
from windlass.training.worker import TrainingRun
from windlass.training.workers import Workers

MakeRequest = Callable[..., TrainRequest]
CPU = torch.device("cpu")
SOFT = {"temperature": 2.0, "label_weight": 0.5}


def reference(digit: str = "0", uri: str = "somewhere") -> Reference:
    return Reference(uri=uri, digest=digit * 64)


def never() -> bool:
    return False


def losses(directory: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (directory / STEPS_NAME).read_text().splitlines()]


def published(directory: Path, request: TrainRequest, *, zeros: float = 0.0) -> Path:
    """A model of the request's specification, part of its weights zero."""
    torch.manual_seed(5)
    network = models.build(request.spec)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight[torch.rand_like(weight) < zeros] = 0
    directory.mkdir()
    models.save(directory, request.spec, network)
    return directory


def learns(request: TrainRequest, tmp_path: Path, name: str = "start", **learning: Any) -> TrainRequest:
    """The request with a start that has zeros, and a teacher where the labels do not weigh everything."""
    start = published(tmp_path / f"{name}-start", request, zeros=0.5)
    teacher = published(tmp_path / f"{name}-teacher", request) if learning.get("label_weight", 1) < 1 else None
    asked = Learning(start=reference("1"), teacher=reference("2") if teacher else None, **learning)
    return request.model_copy(update={"learning": asked, "start": start, "teacher": teacher})


def stop_after(agreements: int) -> Callable[[], bool]:
    asked = iter(range(10**9))
    return lambda: next(asked) >= agreements


def distillation(network: nn.Module, teacher: nn.Module, task: str, **learning: float) -> DistillationStep:
    config = TrainConfig(optimizer="sgd", momentum=0, weight_decay=0, learning_rate=1e-3)
    return DistillationStep(
        teacher=teacher,
        model=network,
        optimizer=build_optimizer(config, network.parameters()),
        task=get_task(task),
        weights_C=None,
        config=config,
        device=CPU,
        **learning,
    )


def test_a_class_is_learned_from_labels_and_from_the_teachers_softened_probabilities() -> None:
    torch.manual_seed(0)
    network, teacher, inputs = nn.Linear(4, 3), nn.Linear(4, 3), torch.randn(5, 4)
    labels_B = torch.tensor([0, 1, 2, 1, 0])
    own_BC, wanted_BC = network(inputs).detach(), teacher(inputs).detach()
    soft = nn.functional.kl_div((own_BC / 3).log_softmax(1), (wanted_BC / 3).softmax(1), reduction="batchmean") * 9
    hard = nn.functional.cross_entropy(own_BC, labels_B)
    step = distillation(network, teacher, "tabular-classification", temperature=3, label_weight=0.25)
    loss = step(inputs, labels_B, 1 / 5, 0)
    assert loss.item() == pytest.approx(0.25 * hard.item() + 0.75 * soft.item(), rel=1e-5)


def test_a_number_is_learned_from_the_teachers_number_and_the_teacher_stays_as_it_is() -> None:
    torch.manual_seed(0)
    network, teacher, inputs = nn.Linear(4, 1), nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)), torch.randn(5, 4)
    teacher.eval()
    difference = (network(inputs) - teacher(inputs)).square().mean().item()
    before = [parameter.clone() for parameter in teacher.parameters()]
    step = distillation(network, teacher.train(), "tabular-regression", temperature=1, label_weight=0)
    assert step(inputs, torch.zeros(5), 1 / 5, 0).item() == pytest.approx(difference, rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def test_a_training_of_other_weights_or_another_teacher_is_another_training(make_request: MakeRequest) -> None:
    request = make_request("digest")

    def digest(**learning: Any) -> str:
        return request.model_copy(update={"learning": Learning(**learning)}).training_digest("x")

    digests = [digest(), digest(start=reference("1")), digest(teacher=reference("1")), digest(fake_quantized=True)]
    assert len(set(digests)) == 4
    assert digest(start=reference("1")) == digest(start=reference("1", uri="elsewhere"))


@pytest.mark.parametrize(
    ("task", "learning"),
    [
        ("image-classification", {"label_weight": 0.3, "temperature": 2.0, "zeros_kept": True}),
        ("tabular-regression", {"label_weight": 0.5, "zeros_kept": True, "fake_quantized": True}),
    ],
    ids=["distilled", "fake-quantized"],
)
def test_a_learning_stopped_in_mid_epoch_ends_with_the_same_weights_and_its_zeros(
    make_request: MakeRequest, workers: Workers, tmp_path: Path, task: str, learning: dict[str, Any]
) -> None:
    config = {"task": task, "epochs": 2, "architecture": "cnn" if task.startswith("image") else "mlp"}
    whole = learns(make_request("whole", **config), tmp_path, "whole", **learning)
    parted = make_request("parted", **config).model_copy(
        update={"learning": whole.learning, "start": whole.start, "teacher": whole.teacher}
    )
    TrainingRun(whole, workers, never).carry_out()
    with pytest.raises(TrainingInterruptedError, match=r"saved at step \d+"):
        TrainingRun(parted, workers, stop_after(1)).carry_out()
    TrainingRun(parted, workers, never).carry_out()
    assert whole.output is not None
    assert parted.output is not None
    assert whole.start is not None
    assert losses(parted.output) == losses(whole.output)
    assert (parted.output / WEIGHTS_NAME).read_bytes() == (whole.output / WEIGHTS_NAME).read_bytes()
    (_, before), (_, after) = models.load(whole.start), models.load(parted.output)
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert old.dim() == 1 or torch.equal(old == 0, new == 0)
        assert not torch.equal(old, new)


@pytest.mark.slow
@pytest.mark.parametrize("fake_quantized", [False, True])
def test_one_and_two_workers_learn_alike_from_a_teacher(
    make_request: MakeRequest, workers: Workers, tmp_path: Path, fake_quantized: bool
) -> None:
    config = {
        "task": "image-classification",
        "architecture": "cnn",
        "epochs": 1,
        "global_batch_size": 50,
        "learning_rate": 5e-4,
        "augment": {"shift": 1},
    }
    one = learns(
        make_request("one", **config), tmp_path, label_weight=0.3, zeros_kept=True, fake_quantized=fake_quantized
    )
    two = make_request("two", num_workers=2, **config)
    TrainingRun(one, workers, never).carry_out()
    assert one.output is not None
    assert two.output is not None
    train(
        two.config,
        task=two.task,
        spec=two.spec,
        module_path=None,
        dataset=two.dataset,
        output=two.output,
        work=two.work,
        threads=2,
        learning=one.learning,
        start=one.start,
        teacher=one.teacher,
    )
    # A value at the edge of two steps of 8 bits falls to either side by the rounding of sums in another order.
    assert losses(two.output) == pytest.approx(losses(one.output), rel=1e-2 if fake_quantized else 1e-4)


def test_weights_are_rounded_per_channel_to_seven_bits_and_gradients_pass() -> None:
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    rounded = round_weight(weight)
    steps = rounded.detach().flatten(1) / weight.detach().flatten(1).abs().amax(1, keepdim=True) * 64
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert steps.abs().max() <= 64.001
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))  # type: ignore[arg-type]
    assert torch.equal(round_weight(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_activations_are_rounded_to_256_values_of_which_zero_is_one() -> None:
    values = torch.linspace(-1, 3, 5000)
    rounded = round_activation(values, -1, 3)
    assert len(rounded.unique()) == 256
    assert (rounded - values).abs().max() <= 4 / 255 / 2 + 1e-6
    assert 0 in rounded
    assert round_activation(torch.tensor([9.0]), 0, 3).item() == pytest.approx(3)


def test_ranges_are_those_of_the_rows_that_calibrate_and_follow_the_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    fake = FakeQuantized(network)
    rows = torch.tensor([[-1.0, 0.0, 2.0], [0.5, 1.0, 1.0]])
    step = RangesCalibrated(distillation(fake, nn.Linear(3, 2), "tabular-classification", **SOFT), fake, lambda: rows)
    step(rows, torch.tensor([0, 1]), 0.5, 0)
    hidden = network.train()[0](rows).relu().max().item()
    assert fake.ranges["0"] == (-1.0, 2.0)
    assert fake.ranges["2"][0] == 0
    before = fake.ranges["2"][1]
    assert before != hidden, "the weights have been updated since"
    step(rows, torch.tensor([0, 1]), 0.5, 19)
    assert fake.ranges["2"][1] == before
    state = step.state()
    step(rows, torch.tensor([0, 1]), 0.5, 20)
    assert fake.ranges["2"][1] != before
    step.restore(state)
    assert fake.ranges == {"0": (-1.0, 2.0), "2": (0.0, before)}
    assert network.training
    assert set(network.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
