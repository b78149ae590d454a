"""The training loop. What it learns from, how it steps, and what watches it are handed to it.

Shapes: B examples of this worker's part of a batch, N examples of a split.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from windlass.training.augment import Augment
from windlass.training.checkpoint import Checkpoints, TrainState
from windlass.training.config import TrainConfig
from windlass.training.documents import EpochRecord
from windlass.training.errors import TrainingInterruptedError
from windlass.training.optimizers import Schedule
from windlass.training.sampler import GlobalBatchSampler
from windlass.training.step import StepStrategy
from windlass.training.workers import Workers

_AGREE_EVERY_S = 0.5
_MOST_STEPS_BETWEEN = 500


class Callback(Protocol):
    """Watches a training; called on every worker with the same values."""

    def on_start(self, step: int, total_steps: int) -> None:
        """Training starts or continues after `step` updates."""

    def on_steps(self, first_step: int, losses: list[float]) -> None:
        """Some updates were done: each one's mean loss over the global batch."""

    def on_epoch(self, record: EpochRecord) -> None:
        """An epoch is whole and validated."""


@dataclass(frozen=True)
class Evaluation:
    """What validation says of the weights; without validation rows all is None or empty."""

    loss: float | None
    metric: float | None
    quality: dict[str, float]


@dataclass(frozen=True)
class Parts:
    """What a trainer is put together from; each part can be another one.

    Attributes:
        features, targets: the train split as whole tensors on the device.
        preprocess: from a batch of features to the network's inputs.
        evaluate: measures the network as it is; called by all workers at the end of each epoch.
    """

    features: Tensor
    targets: Tensor
    network: nn.Module
    optimizer: Optimizer
    sampler: GlobalBatchSampler
    strategy: StepStrategy
    preprocess: Callable[[Tensor], Tensor]
    augment: Augment | None
    evaluate: Callable[[], Evaluation]
    callbacks: tuple[Callback, ...]
    stop_requested: Callable[[], bool]


class Trainer:
    """Trains a network until its epochs are done, it no longer improves, or it is asked to stop."""

    def __init__(
        self, config: TrainConfig, parts: Parts, *, workers: Workers, checkpoints: Checkpoints, training_digest: str
    ) -> None:
        self.config, self.parts, self.workers, self.checkpoints = config, parts, workers, checkpoints
        self.schedule = Schedule(config, steps_per_epoch=parts.sampler.steps_per_epoch)
        self.state = TrainState(training_digest=training_digest)
        self._steps_between = 1

    def fit(self) -> TrainState:
        """Train from the newest checkpoint on, or from the start.

        Raises:
            TrainingInterruptedError: it was asked to stop; a checkpoint is saved.
            TrainingDivergedError: a gradient is not finite.
            CheckpointSpaceError: the disk is full.
        """
        self._resume()
        for callback in self.parts.callbacks:
            callback.on_start(self.state.step, self.schedule.total_steps)
        while self.state.epoch < self.config.epochs and not self.state.stopped_early:
            self._train_epoch()
            self._finish_epoch()
        return self.state

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers and the optimizer's moments, by name: what a checkpoint holds."""
        names: dict[Tensor, str] = {tensor: name for name, tensor in self.parts.network.named_parameters()}
        tensors = {f"network.{name}": tensor for name, tensor in self.parts.network.state_dict().items()}
        for parameter, moments in self.parts.optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in moments.items()}
        return {name: tensor.detach() for name, tensor in tensors.items() if isinstance(tensor, Tensor)}

    def _train_epoch(self) -> None:
        parts, state = self.parts, self.state
        parts.network.train()
        groups = parts.optimizer.param_groups
        step, losses, started_s = state.step, list[Tensor](), time.perf_counter()
        for index_B, scale in parts.sampler.epoch(state.epoch, state.step_in_epoch):
            rate = self.schedule.rate(step)
            for group in groups:
                group["lr"] = rate
            features = parts.features.index_select(0, index_B)
            if parts.augment is not None:
                features = parts.augment(features, index_B, state.epoch)
            targets_B = parts.targets.index_select(0, index_B)
            losses.append(parts.strategy(parts.preprocess(features), targets_B, scale, step))
            step += 1
            if len(losses) >= self._steps_between:
                self._agree(losses, time.perf_counter() - started_s)
                losses, started_s = [], time.perf_counter()
        if losses:
            self._agree(losses, time.perf_counter() - started_s)

    def _agree(self, losses: list[Tensor], seconds: float) -> None:
        """Twice a second: add up the workers' losses, and stop on all if one was asked to stop.

        Between two agreements the workers exchange nothing but gradients. All arrive at the same number of steps
        until the next one, for they compute it from the same sums.
        """
        stop = float(self.parts.stop_requested())
        local = torch.stack(losses).double().tolist()
        *sums, stops, seconds_sum = self.workers.sum([*local, stop, seconds])
        means = [total / self.workers.count for total in sums]
        elapsed_s = seconds_sum / self.workers.count
        step_s = elapsed_s / len(losses)
        self._steps_between = max(1, min(int(_AGREE_EVERY_S / step_s), _MOST_STEPS_BETWEEN))
        for callback in self.parts.callbacks:
            callback.on_steps(self.state.step + 1, means)
        self.state = self.state.model_copy(
            update={
                "step": self.state.step + len(losses),
                "step_in_epoch": self.state.step_in_epoch + len(losses),
                "loss_sum": self.state.loss_sum + sum(means),
                "epoch_seconds": self.state.epoch_seconds + elapsed_s,
                "seconds": self.state.seconds + elapsed_s,
                "metric": None,
            }
        )
        if stops and self.state.step_in_epoch < self.parts.sampler.steps_per_epoch:
            self._save()
            raise TrainingInterruptedError(self.state.step)

    def _finish_epoch(self) -> None:
        started_s = time.perf_counter()
        # Batch norm's statistics are each worker's own; the first worker's are the model's.
        self.workers.broadcast(list(self.parts.network.buffers()))
        evaluation = self.parts.evaluate()
        state = self.state
        seconds = self.workers.sum([time.perf_counter() - started_s])[0] / self.workers.count
        record = EpochRecord(
            epoch=state.epoch + 1,
            step=state.step,
            train_loss=state.loss_sum / self.parts.sampler.steps_per_epoch,
            validation_loss=evaluation.loss,
            metric=evaluation.metric,
            quality=evaluation.quality,
            learning_rate=self.schedule.rate(state.step - 1),
            seconds=state.epoch_seconds + seconds,
        )
        self.state = self._judge(record, state.seconds + seconds)
        for callback in self.parts.callbacks:
            callback.on_epoch(record)
        self._save_if_due()

    def _judge(self, record: EpochRecord, seconds: float) -> TrainState:
        """The state after an epoch: is it the best, and is it time to stop?"""
        state, metric, stopping = self.state, record.metric, self.config.early_stopping
        update: dict[str, object] = {"epoch": record.epoch, "step_in_epoch": 0, "loss_sum": 0.0, "epoch_seconds": 0.0}
        update |= {"seconds": seconds, "metric": metric}
        if _is_better(record, state):
            update |= {"best_epoch": record.epoch, "best_step": record.step}
            update |= {"best_metric": metric, "best_loss": record.validation_loss}
        if stopping is not None and metric is not None:
            improved = state.waited_metric is None or metric > state.waited_metric + stopping.min_delta
            waited = 0 if improved else state.waited_epochs + 1
            update |= {"waited_epochs": waited, "stopped_early": waited >= stopping.patience_epochs}
            update |= {"waited_metric": metric} if improved else {}
        return state.model_copy(update=update)

    def _save_if_due(self) -> None:
        state = self.state
        last = state.epoch == self.config.epochs or state.stopped_early
        asked = self.workers.sum([float(self.parts.stop_requested())])[0] > 0
        if last or asked or state.best_step == state.step or state.epoch % self.config.checkpoint_every_epochs == 0:
            self._save()
        if asked and not last:
            raise TrainingInterruptedError(state.step)

    def _save(self) -> None:
        random_state = torch.get_rng_state().to(self.workers.device)
        lengths = [len(random_state)] * self.workers.count
        everyone = self.workers.gather_rows(random_state, lengths).cpu().reshape(self.workers.count, -1)
        self.state = self.state.model_copy(
            update={
                "strategy": self.parts.strategy.state(),
                "random_states": tuple(bytes(row.tolist()).hex() for row in everyone),
            }
        )
        self.checkpoints.save(self.tensors(), self.state)

    def _resume(self) -> None:
        newest = self.workers.together(
            lambda: self.checkpoints.newest_valid(self.state.training_digest) if self.workers.is_first else None
        )
        found = self.workers.sum([0.0 if newest is None else float(newest.step)])[0]
        if not found:
            return
        # The others read the same file; what the first worker decided about the best one reaches them with it.
        self.state = self.workers.together(lambda: newest or self.checkpoints.verify(int(found)))
        best = self.workers.sum([float(newest.best_step), float(newest.best_epoch)] if newest else [0.0, 0.0])
        if int(best[0]) != self.state.best_step:
            update = {"best_step": int(best[0]), "best_epoch": int(best[1]), "best_metric": self.state.metric}
            self.state = self.state.model_copy(update=update)
        self._create_moments()
        self.checkpoints.load(self.tensors(), self.state.step)
        self.parts.strategy.restore(self.state.strategy)
        if len(self.state.random_states) == self.workers.count:
            random_state = bytes.fromhex(self.state.random_states[self.workers.rank])
            torch.set_rng_state(torch.frombuffer(bytearray(random_state), dtype=torch.uint8))

    def _create_moments(self) -> None:
        """Let the optimizer allocate its state, which a checkpoint then fills: one update at a rate of 0."""
        groups = self.parts.optimizer.param_groups
        for group in groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.parts.optimizer.step()
        self.parts.optimizer.zero_grad(set_to_none=True)


def _is_better(record: EpochRecord, state: TrainState) -> bool:
    """Without validation the newest epoch is the best; equal metrics are told apart by the loss."""
    if record.metric is None or state.best_metric is None:
        return True
    if record.metric != state.best_metric or record.validation_loss is None or state.best_loss is None:
        return record.metric > state.best_metric
    return record.validation_loss < state.best_loss
