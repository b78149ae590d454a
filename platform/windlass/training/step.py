"""One update of the network. Sharding, distillation or private training replace this part of the trainer.

Shapes: B examples of this worker's part of a batch, C outputs, or classes.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from windlass.tasks import Task
from windlass.training.config import TrainConfig
from windlass.training.errors import TrainingDivergedError

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_SCALE = 2.0**-14


class StepStrategy(Protocol):
    """How the network learns from one batch."""

    def __call__(self, inputs: Tensor, targets_B: Tensor, scale: float, step: int) -> Tensor:
        """Update the network and return this worker's share of the loss, detached, on the device.

        Raises:
            TrainingDivergedError: the gradient is not finite; no weight was changed.
        """

    def state(self) -> dict[str, float]:
        """What a checkpoint has to keep beside weights and optimizer."""

    def restore(self, state: dict[str, float]) -> None:
        """Take up what `state` gave."""


class SupervisedStep:
    """Forward, backward, clip, update, in the recipe's precision."""

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        task: Task,
        weights_C: Tensor | None,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self.model, self.optimizer, self.task, self.weights_C = model, optimizer, task, weights_C
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.max_grad_norm = math.inf if config.max_grad_norm is None else config.max_grad_norm
        self.precision = _PRECISIONS.get(config.precision)
        self.device_type = device.type
        self.scaler = torch.amp.GradScaler(device.type) if config.precision == "fp16" else None

    def __call__(self, inputs: Tensor, targets_B: Tensor, scale: float, step: int) -> Tensor:
        loss = self._loss(inputs, targets_B) * scale
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        if not math.isfinite(norm) and (self.scaler is None or self.scaler.get_scale() < _SMALLEST_SCALE):
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingDivergedError(step, norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            # Skips the update and halves the scale where fp16 overflowed.
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def state(self) -> dict[str, float]:
        if self.scaler is None:
            return {}
        scaler: dict[str, Any] = self.scaler.state_dict()
        return {key: float(scaler[key]) for key in ("scale", "_growth_tracker")}

    def restore(self, state: dict[str, float]) -> None:
        if self.scaler is not None and state:
            tracker = int(state["_growth_tracker"])
            self.scaler.load_state_dict(
                {**self.scaler.state_dict(), "scale": state["scale"], "_growth_tracker": tracker}
            )

    def _loss(self, inputs: Tensor, targets_B: Tensor) -> Tensor:
        """Summed over the examples."""
        return self.task.loss(self._outputs(self.model, inputs), targets_B, self.weights_C).sum()

    def _outputs(self, model: nn.Module, inputs: Tensor) -> Tensor:
        if self.precision is None:
            outputs_BC: Tensor = model(inputs)
            return outputs_BC
        with torch.autocast(self.device_type, dtype=self.precision):
            outputs_BC = model(inputs)
        return outputs_BC.float()

    def _clip(self) -> float:
        """Scale the gradient down to `max_grad_norm` and return its norm before that."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm: float = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item()
        if norm > self.max_grad_norm and math.isfinite(norm):
            torch._foreach_mul_(gradients, self.max_grad_norm / (norm + 1e-6))
        return norm


class DistillationStep(SupervisedStep):
    """Learns from the labels and from a teacher's answers to the same inputs: Hinton, Vinyals and Dean (2015).

    Args:
        teacher: a trained network of the same outputs, on the device.
        temperature: softens the probabilities of both.
        label_weight: share of the labels in the loss, at least 0 and less than 1; the rest is the teacher's.
    """

    def __init__(self, *, teacher: nn.Module, temperature: float, label_weight: float, **step: Any) -> None:
        super().__init__(**step)
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature, self.label_weight = temperature, label_weight

    @override
    def _loss(self, inputs: Tensor, targets_B: Tensor) -> Tensor:
        outputs_BC = self._outputs(self.model, inputs)
        with torch.no_grad():
            teacher_BC = self._outputs(self.teacher, inputs)
        losses_B = (1 - self.label_weight) * self.task.distillation_loss(outputs_BC, teacher_BC, self.temperature)
        if self.label_weight:
            losses_B = losses_B + self.label_weight * self.task.loss(outputs_BC, targets_B, self.weights_C)
        return losses_B.sum()


class ZerosKept:
    """Another strategy, after each of whose updates the weights that are zero now are zero again.

    Made before a checkpoint is continued, so that the zeros are those of the start.
    """

    def __init__(self, step: StepStrategy, network: nn.Module) -> None:
        self.inner = step
        weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
        self.masks = [(weight, weight.detach() == 0) for weight in weights]

    def __call__(self, inputs: Tensor, targets_B: Tensor, scale: float, step: int) -> Tensor:
        loss = self.inner(inputs, targets_B, scale, step)
        with torch.no_grad():
            for weight, zero in self.masks:
                weight.masked_fill_(zero, 0.0)
        return loss

    def state(self) -> dict[str, float]:
        return self.inner.state()

    def restore(self, state: dict[str, float]) -> None:
        self.inner.restore(state)
