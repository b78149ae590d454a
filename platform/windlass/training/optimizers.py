"""Optimizers and learning-rate schedules by the recipe's names."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from windlass.training.config import TrainConfig


def build_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer, fused where torch has it: one kernel for all parameters, on the CPU as well."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay, fused=True)
    return torch.optim.RMSprop(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)


class Schedule:
    """The learning rate of each step, counted from 0: a function of the step alone, so it has no state to save.

    After a linear warm-up, `linear` and `cosine` fall to 0 at the last step of the run.
    """

    def __init__(self, config: TrainConfig, *, steps_per_epoch: int) -> None:
        self.config, self.steps_per_epoch = config, steps_per_epoch
        self.total_steps = config.epochs * steps_per_epoch

    def rate(self, step: int) -> float:
        config = self.config
        if step < config.warmup_steps:
            return config.learning_rate * (step + 1) / config.warmup_steps
        if config.schedule == "constant":
            return config.learning_rate
        if config.schedule == "step":
            falls = step // self.steps_per_epoch // config.step_every_epochs
            return config.learning_rate * config.step_factor**falls
        done = (step - config.warmup_steps) / max(self.total_steps - config.warmup_steps, 1)
        if config.schedule == "linear":
            return config.learning_rate * (1 - done)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
