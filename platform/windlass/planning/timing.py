"""How long one step of training takes here.

Shapes: B examples of one worker's part of a batch.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from windlass import models
from windlass.data.bundle import Bundle
from windlass.data.features import encode_batch, learned_targets, targets
from windlass.tasks import get_task
from windlass.training.documents import Training
from windlass.training.optimizers import build_optimizer
from windlass.training.step import SupervisedStep
from windlass.training.worker import preprocessing

_WARM_UP_STEPS = 3
_LEAST_STEPS = 5
_TIMED_S = 1.5


def time_steps(training: Training, dataset: Path, module: Path | None, *, threads: int) -> tuple[float, int]:
    """Seconds of one update with one worker's share of a batch, and how many parameters are learned.

    The network is built, its batch read from train, and updates run for at least 5 steps and 1.5 s, on the threads that
    one worker has. What workers say to each other is not in it.

    Args:
        module: directory of the user's source file, if the class is theirs.
    """
    config, task = training.config, get_task(training.task)
    bundle = Bundle.open(dataset)
    rows = max(1, min(config.global_batch_size // config.num_workers, bundle.description.rows["train"]))
    batch = next(iter(bundle.batches("train", rows)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = torch.tensor(encode_batch(bundle.description, batch), device=device)
    targets_B = torch.tensor(learned_targets(bundle.description, targets(bundle.description, batch)), device=device)
    network = models.build(training.spec, module).to(device).train()
    preprocess = preprocessing(bundle.description).to(device)
    optimizer = build_optimizer(config, network.parameters())
    step = SupervisedStep(model=network, optimizer=optimizer, task=task, weights_C=None, config=config, device=device)
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // config.num_workers))
    taken_s: list[float] = []
    try:
        while len(taken_s) < _WARM_UP_STEPS + _LEAST_STEPS or sum(taken_s) < _TIMED_S:
            started_s = time.perf_counter()
            step(preprocess(features), targets_B, 1 / rows, len(taken_s)).item()
            taken_s.append(time.perf_counter() - started_s)
    finally:
        torch.set_num_threads(before)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return statistics.median(taken_s[_WARM_UP_STEPS:]), parameters
