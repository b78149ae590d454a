"""What a step is made of: batches, augmentation, schedules, optimizers, one update."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from windlass.tasks import get_task
from windlass.training.arrays import class_weights
from windlass.training.augment import Augment, draw
from windlass.training.config import AugmentConfig, TrainConfig
from windlass.training.errors import TrainingDivergedError
from windlass.training.optimizers import Schedule, build_optimizer
from windlass.training.sampler import Batch, GlobalBatchSampler
from windlass.training.step import SupervisedStep

CPU = torch.device("cpu")


def batches(num_examples: int, size: int, num_workers: int, *, epoch: int = 0, first: int = 0) -> list[list[Batch]]:
    """For each worker, its parts of the epoch's batches."""
    return [
        list(
            GlobalBatchSampler(
                num_examples=num_examples,
                global_batch_size=size,
                seed=1,
                rank=rank,
                num_workers=num_workers,
                device=CPU,
            ).epoch(epoch, first)
        )
        for rank in range(num_workers)
    ]


def together(parts: Sequence[Batch]) -> list[int]:
    return [example for part in parts if part.scale for example in part.examples.tolist()]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize(("num_examples", "size"), [(10, 4), (9, 4), (8, 4), (3, 64)])
def test_any_number_of_workers_sees_the_same_global_batches(num_workers: int, num_examples: int, size: int) -> None:
    alone = [together([batch]) for batch in batches(num_examples, size, 1)[0]]
    shared = [together(parts) for parts in zip(*batches(num_examples, size, num_workers), strict=True)]
    assert shared == alone
    assert sorted(example for batch in alone for example in batch) == list(range(num_examples))


def test_the_workers_losses_average_to_the_mean_over_the_global_batch() -> None:
    losses_N = torch.arange(9.0)
    for parts in zip(*batches(9, 4, 2), strict=True):
        shares = [(losses_N[part.examples].sum() * part.scale).item() for part in parts]
        assert sum(shares) / 2 == pytest.approx(losses_N[together(parts)].mean().item())


def test_a_worker_without_a_part_gets_an_example_that_does_not_count() -> None:
    last = [worker[-1] for worker in batches(9, 4, 2)]
    assert sorted((len(part.examples), part.scale) for part in last) == [(1, 0.0), (1, 2.0)]


def test_each_epoch_has_its_own_order_and_an_epoch_can_be_continued() -> None:
    first, again = (together(batches(20, 4, 1, epoch=3)[0]) for _ in range(2))
    assert first == again
    assert first != together(batches(20, 4, 1, epoch=4)[0])
    assert together(batches(20, 4, 1, epoch=3, first=2)[0]) == first[8:]


def test_draws_depend_on_example_epoch_and_seed_alone() -> None:
    examples = torch.randperm(1000)
    draws = draw(1, 2, examples, 8)
    assert torch.equal(draw(1, 2, examples[:5], 8), draws[:5])
    assert not torch.equal(draw(1, 3, examples, 8), draws)
    assert not torch.equal(draw(2, 2, examples, 8), draws)


def test_draws_are_uniform_and_independent() -> None:
    draws = draw(0, 0, torch.arange(20_000), 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    torch.testing.assert_close(draws.mean(0), torch.full((4,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(torch.corrcoef(draws.T), torch.eye(4), atol=0.03, rtol=0)


def test_the_augmented_batch_does_not_depend_on_the_number_of_workers() -> None:
    images, examples = torch.randint(0, 256, (12, 8, 8, 3), dtype=torch.uint8), torch.randperm(12)
    augment = Augment(AugmentConfig(shift=2, flip=True, crop=1, erase=0.5), seed=5)
    whole = augment(images[examples], examples, 1)
    parts = [augment(images[part], part, 1) for part in torch.split(examples, 5)]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.dtype == torch.uint8


def test_a_shift_moves_by_at_most_its_pixels_and_fills_with_black() -> None:
    image = torch.zeros(200, 9, 9, 1, dtype=torch.uint8)
    image[:, 4, 4] = 255
    moved = Augment(AugmentConfig(shift=2), seed=0)(image, torch.arange(200), 0)
    places = moved.squeeze(-1).nonzero()[:, 1:]
    assert len(places) == 200
    assert set(places.flatten().tolist()) == {2, 3, 4, 5, 6}


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    image = torch.arange(8, dtype=torch.uint8).reshape(1, 1, 8, 1).expand(1000, 1, 8, 1)
    flipped = Augment(AugmentConfig(flip=True), seed=0)(image, torch.arange(1000), 0)
    mirrored = (flipped[:, 0, 0, 0] == 7).sum().item()
    assert 400 < mirrored < 600
    assert torch.equal(flipped.sort(dim=2).values, image)


def test_an_erased_box_has_at_most_its_share_of_the_area() -> None:
    white = torch.full((500, 10, 10, 1), 255, dtype=torch.uint8)
    erased = Augment(AugmentConfig(erase=0.25), seed=0)(white, torch.arange(500), 0)
    black = (erased == 0).sum(dim=(1, 2, 3))
    assert 0 < black.max() <= 25
    assert len(set(black.tolist())) > 3


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        ({"schedule": "constant"}, [1.0, 1.0, 1.0, 1.0]),
        ({"schedule": "linear"}, [1.0, 0.75, 0.5, 0.25]),
        ({"schedule": "cosine"}, [1.0, 0.853553, 0.5, 0.146447]),
        ({"schedule": "step", "step_every_epochs": 1, "step_factor": 0.5}, [1.0, 1.0, 0.5, 0.5]),
        ({"schedule": "constant", "warmup_steps": 2}, [0.5, 1.0, 1.0, 1.0]),
        ({"schedule": "linear", "warmup_steps": 2}, [0.5, 1.0, 1.0, 0.5]),
    ],
)
def test_schedules(config: dict[str, object], rates: list[float]) -> None:
    schedule = Schedule(TrainConfig.model_validate({"epochs": 2, "learning_rate": 1.0, **config}), steps_per_epoch=2)
    assert [schedule.rate(step) for step in range(4)] == pytest.approx(rates, abs=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_every_optimizer_lowers_a_loss(name: str) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = build_optimizer(TrainConfig.model_validate({"optimizer": name, "learning_rate": 0.05}), [weight])
    for _ in range(20):
        weight.grad = 2 * weight.detach()
        optimizer.step()
    assert abs(weight.item()) < 2.5


def test_balanced_weights_make_each_class_count_alike_and_average_to_one() -> None:
    targets = torch.tensor([0, 0, 0, 2])
    weights = class_weights(targets, 3)
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 0.0, 2.0]))
    assert weights[targets].mean().item() == pytest.approx(1.0)


def step_of(network: nn.Module, **config: object) -> SupervisedStep:
    train_config = TrainConfig.model_validate({"optimizer": "sgd", "momentum": 0, "weight_decay": 0, **config})
    return SupervisedStep(
        model=network,
        optimizer=build_optimizer(train_config, network.parameters()),
        task=get_task("tabular-regression"),
        weights_C=None,
        config=train_config,
        device=CPU,
    )


def ones(value: float) -> tuple[Tensor, Tensor]:
    return torch.ones(2, 1), torch.full((2,), value)


def test_the_gradient_is_clipped_to_its_norm() -> None:
    network = nn.Linear(1, 1)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])
    step_of(network, max_grad_norm=0.5, learning_rate=1.0)(*ones(1e4), 0.5, 0)
    after = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("max_grad_norm", [1.0, None])
def test_a_gradient_that_is_not_finite_changes_no_weight_and_says_what_to_try(max_grad_norm: float | None) -> None:
    network = nn.Linear(1, 1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(TrainingDivergedError, match=r"at step 7 .*smaller train\.learning_rate"):
        step_of(network, max_grad_norm=max_grad_norm)(*ones(float("inf")), 0.5, 7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
