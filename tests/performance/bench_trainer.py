"""What the trainer costs a step over the best bare torch loop: `python tests/performance/bench_trainer.py`.

Both learn with the same network, data, batch, workers, fused optimizer and clipping; the bare loop indexes whole
tensors by the batch and does nothing else. Rounds are alternated in one process, and medians compared. Writes
bench-results/trainer.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from results import write_results
from torch import Tensor, distributed, nn
from torch.nn import functional

from windlass.tasks import get_task
from windlass.training.checkpoint import Checkpoints, TrainState
from windlass.training.checkpoint_stores import SharedDirectory
from windlass.training.config import TrainConfig
from windlass.training.optimizers import build_optimizer
from windlass.training.sampler import GlobalBatchSampler
from windlass.training.step import SupervisedStep
from windlass.training.trainer import Evaluation, Parts, Trainer
from windlass.training.workers import Workers

STEPS, ROUNDS, BATCH = 80, 9, 256
FEATURES, HIDDEN, CLASSES = 64, 256, 10
CONFIG = TrainConfig(global_batch_size=BATCH, schedule="constant", learning_rate=1e-4)
TARGET = 1.03


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
    )


def build_trainer(workers: Workers, features: Tensor, targets: Tensor) -> Trainer:
    net = network()
    optimizer = build_optimizer(CONFIG, net.parameters())
    strategy = SupervisedStep(
        model=workers.wrap(net),
        optimizer=optimizer,
        task=get_task("tabular-classification"),
        weights_C=None,
        config=CONFIG,
        device=workers.device,
    )
    sampler = GlobalBatchSampler(
        num_examples=len(targets),
        global_batch_size=BATCH,
        seed=0,
        rank=workers.rank,
        num_workers=workers.count,
        device=workers.device,
    )
    parts = Parts(
        features=features,
        targets=targets,
        network=net,
        optimizer=optimizer,
        sampler=sampler,
        strategy=strategy,
        preprocess=nn.Identity(),
        augment=None,
        evaluate=lambda: Evaluation(None, None, {}),
        callbacks=(),
        stop_requested=lambda: False,
    )
    checkpoints = Checkpoints(SharedDirectory(Path(tempfile.gettempdir()), workers), workers, keep=1)
    return Trainer(CONFIG, parts, workers=workers, checkpoints=checkpoints, training_digest="bench")


class BareLoop:
    """The best loop that torch allows, without a trainer."""

    def __init__(self, workers: Workers, features: Tensor, targets: Tensor) -> None:
        self.workers, self.features, self.targets = workers, features, targets
        self.net = network()
        self.model = workers.wrap(self.net)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4, fused=True)

    def epoch(self) -> None:
        order = torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(0))
        part = BATCH // self.workers.count
        for batch in torch.split(order, BATCH):
            index = batch[self.workers.rank * part : (self.workers.rank + 1) * part]
            loss = functional.cross_entropy(self.model(self.features[index]), self.targets[index])
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def trainer_epoch(trainer: Trainer) -> None:
    trainer.state = TrainState(training_digest="bench")
    trainer._train_epoch()


def measure(output: Path) -> None:
    """In each worker: alternate rounds; the first worker writes the medians in milliseconds a step."""
    workers = Workers.join("fp32")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(STEPS * BATCH, FEATURES, generator=generator)
    targets = torch.randint(0, CLASSES, (STEPS * BATCH,), generator=generator)
    trainer, bare = build_trainer(workers, features, targets), BareLoop(workers, features, targets)
    rounds: dict[str, list[float]] = {"trainer": [], "bare": []}
    trainer_epoch(trainer)
    bare.epoch()
    for number in range(ROUNDS):
        for name in ("trainer", "bare") if number % 2 else ("bare", "trainer"):
            workers.barrier()
            started_s = time.perf_counter()
            trainer_epoch(trainer) if name == "trainer" else bare.epoch()
            workers.barrier()
            rounds[name].append((time.perf_counter() - started_s) / STEPS * 1e3)
    if workers.is_first:
        ratio = statistics.median(ours / bare for ours, bare in zip(rounds["trainer"], rounds["bare"], strict=True))
        medians = {f"{name}_ms": statistics.median(values) for name, values in rounds.items()}
        output.write_text(json.dumps({"workers": workers.count, **medians, "ratio": ratio, "rounds": rounds}))
    distributed.destroy_process_group()


def main() -> None:
    results = []
    with tempfile.TemporaryDirectory() as directory:
        for num_workers in (1, 2):
            output = Path(directory) / f"{num_workers}.json"
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(num_workers), __file__, str(output)]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            results.append(json.loads(output.read_text()))
    print(f"{'workers':>8} {'bare ms':>9} {'trainer ms':>11} {'ratio':>7}   target {TARGET}")
    for result in results:
        print(f"{result['workers']:8} {result['bare_ms']:9.3f} {result['trainer_ms']:11.3f} {result['ratio']:7.3f}")
    write_results("trainer", {"target": TARGET, "results": results})


if __name__ == "__main__":
    measure(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
