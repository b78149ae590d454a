"""Faults 1 to 5 of training: real signals, real bytes flipped, a real full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from training_pods import PodRuns, s3_client, s3_root
from windlass.data.bundle import BundleWriter
from windlass.data.description import DATASET_NAME, Column, DatasetDescription, NumberTransform
from windlass.errors import EXIT_INTERRUPTED
from windlass.models import make_spec
from windlass.models.spec import HISTORY_NAME, STEPS_NAME, WEIGHTS_NAME
from windlass.training import CheckpointSpaceError, train
from windlass.training.config import TrainConfig
from windlass.training.documents import TRAINING_NAME, TrainingSummary
from windlass.training.history import read_epochs
from windlass.training.worker import PROCESS_NAME

__all__ = ["s3_root"]  # a fixture

pytestmark = [pytest.mark.fault, pytest.mark.slow]

WIDTH = 8
LAUNCH = """
import json, sys
from pathlib import Path
from windlass.errors import WindlassError
from windlass.models.spec import ModelSpec
from windlass.training import train
from windlass.training.config import TrainConfig

request = json.loads(sys.argv[1])
paths = {name: Path(request[name]) for name in ("dataset", "output", "work")}
try:
    train(TrainConfig(**request["config"]), task="tabular-regression", spec=ModelSpec(**request["spec"]),
          module_path=None, threads=2, **paths)
except WindlassError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("numbers")
    generator = np.random.default_rng(0)
    features_ND = generator.normal(size=(4000, WIDTH))
    names = [f"x{i}" for i in range(WIDTH)]
    table = pa.table({**dict(zip(names, features_ND.T, strict=True)), "y": features_ND.sum(axis=1)})
    with BundleWriter(directory, table.schema) as writer:
        writer.write("train", table.slice(0, 3200))
        writer.write("validation", table.slice(3200, 400))
        writer.write("test", table.slice(3600))
    columns = tuple(Column(name=name, type="number", role="feature") for name in names)
    DatasetDescription(
        modality="table",
        target_kind="number",
        target="y",
        columns=(*columns, Column(name="y", type="number", role="target")),
        class_names=None,
        rows=writer.rows,
        class_counts=None,
        shards=writer.shards,
        transforms=tuple(NumberTransform(column=name, mean=0, scale=1, missing_indicator=False) for name in names),
        fingerprint="numbers",
    ).write(directory / DATASET_NAME)
    return directory


class Run:
    """A training in a process of its own, in a session of its own."""

    def __init__(self, dataset: Path, directory: Path, hidden: int, config: dict[str, Any]) -> None:
        self.dataset, self.config = dataset, config
        self.output, self.work = directory / "output", directory / "work"
        self.output.mkdir()
        self.work.mkdir(exist_ok=True)
        self.spec = make_spec("mlp", {"hidden": [hidden, hidden]}, input_shape=(WIDTH,), num_outputs=1)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        request = {
            "config": self.config,
            "spec": self.spec.model_dump(mode="json"),
            "dataset": str(self.dataset),
            "output": str(self.output),
            "work": str(self.work),
        }
        command = [sys.executable, "-c", LAUNCH, json.dumps(request)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        return self.process

    def finish_here(self, **config: Any) -> TrainingSummary:
        """Continue in this process until the model is published."""
        train(
            TrainConfig(**{**self.config, **config}),
            task="tabular-regression",
            spec=self.spec,
            module_path=None,
            dataset=self.dataset,
            output=self.output,
            work=self.work,
            threads=2,
        )
        return TrainingSummary.read(self.output / TRAINING_NAME)

    def steps(self) -> list[int]:
        path = self.work / STEPS_NAME
        if not path.exists():
            return []
        return [json.loads(line)["step"] for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def workers(self) -> list[psutil.Process]:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if _is_worker(child)]

    def kill_all(self) -> None:
        assert self.process is not None
        doomed = [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children(recursive=True))]
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.name() == PROCESS_NAME
    except psutil.NoSuchProcess:
        return False


def wait_until(reached: Callable[[], bool], seconds: float = 150) -> None:
    deadline_s = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.002)


@pytest.fixture
def make_run(dataset: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(hidden: int = 64, **config: Any) -> Run:
        runs.append(Run(dataset, tmp_path, hidden, {"global_batch_size": 32, **config}))
        return runs[-1]

    yield make
    for run in runs:
        if run.process is not None and run.process.poll() is None:
            run.kill_all()
        if run.process is not None and run.process.stderr is not None:
            run.process.stderr.close()


def test_fault_1_a_kill_in_the_middle_of_a_checkpoint_loses_at_most_one_interval(make_run: Callable[..., Run]) -> None:
    run = make_run(hidden=2000, epochs=4, global_batch_size=800, num_workers=1)
    run.start()
    wait_until(lambda: (run.work / "step-000004").exists() and any(run.work.glob(".writing-*/*")))
    run.kill_all()
    done = max(run.steps())
    newest = max(int(path.name.removeprefix("step-")) for path in run.work.glob("step-*"))
    assert any(run.work.glob(".writing-*"))
    summary = run.finish_here()
    assert done - newest <= 4
    assert summary.steps == 16
    assert run.steps() == list(range(1, 17))
    assert not any(run.work.glob(".writing-*"))


def test_fault_2_a_flipped_byte_is_named_and_the_checkpoint_before_it_is_used(
    make_run: Callable[..., Run], capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(epochs=2)
    run.finish_here()
    weights = (run.output / WEIGHTS_NAME).read_bytes()
    shard = run.work / "step-000200" / "__0_0.distcp"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    summary = run.finish_here()
    assert "step-000200/__0_0.distcp is damaged" in capfd.readouterr().err
    assert "step-000200/__0_0.distcp is damaged" in summary.warnings[0]
    assert (run.output / WEIGHTS_NAME).read_bytes() == weights


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root to mount a small tmpfs")
def test_fault_3_a_full_disk_is_a_clear_error_and_the_old_checkpoint_is_kept(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(hidden=600, epochs=4, keep_checkpoints=4)
    # A checkpoint of 366,000 weights and two moments of each has 4.4 MB: the second one does not fit.
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "windlass", str(run.work)], check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        with pytest.raises(CheckpointSpaceError, match=r"no space left.*run the same command again"):
            run.finish_here()
        assert [path.name for path in run.work.glob("*step-*")] == ["step-000100"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(run.work)], check=True)
        assert run.finish_here().steps == 400
        assert run.steps() == list(range(1, 401))
    finally:
        subprocess.run(["umount", str(run.work)], check=True)


def test_fault_4_sigterm_saves_within_25_s_and_another_number_of_workers_continues_at_that_step(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(epochs=6, num_workers=2)
    process = run.start()
    wait_until(lambda: len(run.steps()) > 150)
    process.send_signal(signal.SIGTERM)
    asked_s = time.monotonic()
    _, stderr = process.communicate(timeout=25)
    assert time.monotonic() - asked_s < 25
    assert process.returncode == EXIT_INTERRUPTED
    saved = max(run.steps())
    assert f"training was interrupted, saved at step {saved}; run the same command again" in stderr
    assert (run.work / f"step-{saved:06d}").is_dir()
    summary = run.finish_here(num_workers=1)
    assert summary.steps == 600
    assert run.steps() == list(range(1, 601))
    assert [record.epoch for record in read_epochs(run.output / HISTORY_NAME)] == list(range(1, 7))


def test_fault_5_a_killed_rank_is_replaced_within_60_s_and_the_steps_are_the_same(make_run: Callable[..., Run]) -> None:
    run = make_run(epochs=5, num_workers=2)
    process = run.start()
    wait_until(lambda: len(run.steps()) > 120)
    first = {worker.pid for worker in run.workers()}
    assert len(first) == 2
    run.workers()[1].kill()
    killed_s, done = time.monotonic(), len(run.steps())
    wait_until(lambda: bool(run.workers()) and not first & {worker.pid for worker in run.workers()})
    wait_until(lambda: len(run.steps()) > done, seconds=60)
    assert time.monotonic() - killed_s < 60
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "was killed by SIGKILL; continuing from the newest checkpoint" in stderr
    assert TrainingSummary.read(run.output / TRAINING_NAME).steps == 500
    assert run.steps() == list(range(1, 501))


def test_workers_of_a_killed_launcher_save_and_end(make_run: Callable[..., Run]) -> None:
    run = make_run(epochs=200, num_workers=1)
    process = run.start()
    wait_until(lambda: len(run.steps()) > 150)
    workers = run.workers()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=25)
    assert not alive
    assert (run.work / f"step-{max(run.steps()):06d}").is_dir()


@pytest.fixture
def make_pods(
    dataset: Path, s3_root: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., PodRuns]]:
    made: list[PodRuns] = []

    def make(**config: Any) -> PodRuns:
        config = {"global_batch_size": 32, "num_workers": 2, **config}
        made.append(PodRuns(f"{s3_root}/{request.node.name[:30]}", tmp_path, TrainConfig(**config)))
        spec = make_spec("mlp", {"hidden": [64, 64]}, input_shape=(WIDTH,), num_outputs=1)
        made[-1].request("tabular-regression", spec, dataset)
        return made[-1]

    yield make
    for pods in made:
        pods.close()


def published(pods: PodRuns) -> TrainingSummary:
    assert pods.wait() == [0, 0], pods.log(0).read_text() + pods.log(1).read_text()
    lines = (pods.model() / STEPS_NAME).read_text().splitlines()
    summary = TrainingSummary.read(pods.model() / TRAINING_NAME)
    assert [json.loads(line)["step"] for line in lines] == list(range(1, summary.steps + 1))
    return summary


def test_fault_5_a_killed_rank_ends_all_pods_which_go_on_from_the_store_and_name_a_damaged_checkpoint(
    make_pods: Callable[..., PodRuns],
) -> None:
    pods = make_pods(epochs=5)
    pods.start()
    wait_until(lambda: len(pods.checkpoints()) >= 2)
    (killed,) = pods.workers(1)
    killed.kill()
    killed_s = time.monotonic()
    assert pods.wait(40) == [129, 137]
    assert time.monotonic() - killed_s < 40
    assert all(pods.ending(number).retryable for number in range(2))
    newest = max(pods.checkpoints())
    name = next(
        name
        for name in pods.workspace.list_documents("work/train/")
        if f"step-{newest:06d}" in name and name.endswith("__1_0.distcp")
    )
    bucket, prefix = pods.workspace.uri.removeprefix("s3://").split("/", 1)
    shard = bytearray(s3_client().get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read())
    shard[len(shard) // 2] ^= 1
    s3_client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=bytes(shard))
    pods.start()
    summary = published(pods)
    assert summary.steps == 500
    assert "__1_0.distcp is not what was published" in summary.warnings[0]
    assert f"step-{newest:06d}" in summary.warnings[0]


def test_fault_4_sigterm_to_one_pod_saves_and_ends_all(make_pods: Callable[..., PodRuns]) -> None:
    pods = make_pods(epochs=6)
    pods.start()
    wait_until(lambda: bool(pods.checkpoints()))
    pods.processes[1].send_signal(signal.SIGTERM)
    assert pods.wait(30) == [143, 143]
    saved = max(pods.checkpoints())
    said = {pods.ending(number).error.message for number in range(2)}
    assert said == {f"training was interrupted, saved at step {saved}; run the same command again to continue"}
    pods.start()
    assert published(pods).steps == 600


def test_fault_6_a_rank_that_no_longer_answers_ends_all_pods_and_one_result_is_published(
    make_pods: Callable[..., PodRuns],
) -> None:
    pods = make_pods(epochs=4)
    pods.start()
    wait_until(lambda: bool(pods.checkpoints()))
    (silent,) = pods.workers(1)
    silent.suspend()
    assert pods.processes[0].wait(60) == 129
    ending = pods.ending(0)
    assert ending.retryable
    assert "worker 0 lost the others" in ending.error.message
    silent.resume()
    assert pods.wait(60) == [129, 129]
    pods.start()
    assert published(pods).steps == 400
    manifests = [name for name in pods.workspace.list_documents("steps/train/") if name.endswith("/manifest.json")]
    assert len(manifests) == 1
