"""What crosses the border between the pods of a training and the step that waits for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient, Configuration

from installations import installation_settings
from windlass.cluster.errors import DeadlineExceededError, OutOfMemoryError, PodFailedError, PodFailure
from windlass.cluster.jobs import DistributedJob, SecretVariable
from windlass.cluster.launcher import Launcher
from windlass.cluster.render import render_pytorchjob, render_trainjob
from windlass.cluster.settings import SETTINGS_VARIABLE
from windlass.errors import CorruptedError, InvalidInputError, WindlassError
from windlass.models import make_spec
from windlass.models.spec import HISTORY_NAME, STEPS_NAME
from windlass.storage import StorageUnreachableError, Workspace
from windlass.training.cluster import TrainingPods, describe_job, explain, explain_deadline
from windlass.training.config import TrainConfig
from windlass.training.documents import EpochRecord, PodEnding, Training
from windlass.training.errors import (
    CheckpointSpaceError,
    TrainingDivergedError,
    TrainingFailedError,
    TrainingInterruptedError,
    TrainingMemoryError,
    WorkerKilledError,
    WorkerLostError,
)
from windlass.training.place import InCluster, ThisMachine, find_place
from windlass.training.pod import MOST_TERMINATION_BYTES, termination_message
from windlass.training.relay import PREFIX, LogRelay, PodsEndedError
from windlass.training.reports import describe_error, rebuild_error

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = installation_settings()


def event(kind: str, **fields: object) -> str:
    return f"{PREFIX}{json.dumps({'kind': kind, 'time': 0, **fields})}"


def steps(directory: Path) -> list[tuple[int, float]]:
    lines = (directory / STEPS_NAME).read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def job(num_workers: int = 4, root: str = "s3://bucket/trial", **pods: object) -> DistributedJob:
    config = TrainConfig(num_workers=num_workers)
    return describe_job(config, root, "k", settings=SETTINGS, pods=TrainingPods(**pods), owner=None)  # type: ignore[arg-type]


def pod_failure(message: str, *, reason: str = "Error") -> PodFailure:
    return PodFailure("pod-1", 1, reason, 1, message, "the log's tail")


def test_lines_that_come_twice_after_a_lost_connection_count_once(tmp_path: Path) -> None:
    with LogRelay(tmp_path, print) as relay:
        relay(event("train-started", step=0, total_steps=6))
        relay(event("train-steps", first_step=1, losses=[3.0, 2.0]))
        relay(event("train-steps", first_step=1, losses=[3.0, 2.0]))
        relay(event("train-steps", first_step=2, losses=[2.0, 1.0]))
    assert steps(tmp_path) == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_pods_that_go_on_from_a_checkpoint_take_the_curves_back_to_it(tmp_path: Path) -> None:
    record = EpochRecord(
        epoch=1, step=2, train_loss=1, validation_loss=1, metric=1, quality={}, learning_rate=1, seconds=1
    )
    with LogRelay(tmp_path, print) as relay:
        for first_step, losses in ((0, [3.0, 2.0, 1.0]), (2, [0.5])):
            relay(event("train-started", step=first_step, total_steps=6))
            relay(event("train-steps", first_step=first_step + 1, losses=losses))
            relay(event("train-epoch", record=record.model_dump(mode="json")))
    assert steps(tmp_path) == [(1, 3.0), (2, 2.0), (3, 0.5)]
    assert len((tmp_path / HISTORY_NAME).read_text().splitlines()) == 1


def test_what_is_no_event_goes_to_the_log_of_the_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    others: list[str] = []
    cut = event("train-steps", first_step=1, losses=[3.0])[:-4]
    with LogRelay(tmp_path, others.append) as relay:
        relay("a user's print")
        relay(cut)
        relay(event("message", text="a checkpoint was damaged"))
    assert others == ["a user's print", cut]
    assert capfd.readouterr().err == "a checkpoint was damaged\n"


def test_the_pods_word_that_no_restart_helps_ends_the_waiting(tmp_path: Path) -> None:
    ending = PodEnding(retryable=False, error=describe_error(TrainingDivergedError(3, float("inf"))))
    with LogRelay(tmp_path, print) as relay, pytest.raises(PodsEndedError) as caught:
        relay(event("train-ended", ending=ending.model_dump(mode="json")))
    assert caught.value.ending == ending


@pytest.mark.parametrize(
    "error",
    [
        TrainingDivergedError(7, float("inf")),
        TrainingFailedError(1, "LookupError: x", "a traceback"),
        TrainingMemoryError(0, "killed by the system"),
        TrainingInterruptedError(12),
        TrainingInterruptedError(None),
        WorkerKilledError(1, "SIGKILL", 0),
        WorkerLostError(1, "Connection closed by peer", 0),
        CheckpointSpaceError("/checkpoints"),
        CorruptedError("a shard is damaged"),
        InvalidInputError("train.precision: bf16 needs a CUDA GPU"),
        StorageUnreachableError("http://s3", "uploading model.json", 150.0, "refused"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_reads_the_same_on_both_sides_of_the_border(error: WindlassError) -> None:
    rebuilt = rebuild_error(type(describe_error(error)).model_validate_json(describe_error(error).model_dump_json()))
    assert str(rebuilt) == str(error)
    assert rebuilt.exit_code == error.exit_code
    assert isinstance(error, type(rebuilt))


def test_a_long_traceback_is_cut_at_its_beginning_until_the_kubelet_keeps_all(tmp_path: Path) -> None:
    traceback = "\n".join(f'  File "net.py", line {i}, in förward "' for i in range(1000))
    error = describe_error(TrainingFailedError(1, "LookupError: x", traceback))
    data = termination_message(PodEnding(retryable=False, error=error))
    assert len(data) <= MOST_TERMINATION_BYTES
    rebuilt = rebuild_error(PodEnding.model_validate_json(data).error)
    assert str(rebuilt).startswith("worker 1 failed: LookupError: x\n…")
    assert str(rebuilt).endswith('line 999, in förward "')


def test_a_job_is_named_after_its_root_and_key_and_has_no_more_than_the_stores_credentials() -> None:
    described = job(processes=2, cpu=0.5, memory_bytes=10**9, checkpoint_claim="shared")
    assert described.name == job(num_workers=8).name != job(root="s3://other").name
    assert (described.workers, described.processes_per_worker) == (2, 2)
    assert described.resources.memory == "1000000000"
    assert described.env["AWS_ENDPOINT_URL"] == "http://s3:7070"
    assert SecretVariable("AWS_SECRET_ACCESS_KEY", "store", "AWS_SECRET_ACCESS_KEY") in described.secrets
    assert described.service_account == "training"
    assert described.volumes[0].path == "/checkpoints"


@pytest.mark.parametrize(("kind", "render"), [("pytorchjob", render_pytorchjob), ("trainjob", render_trainjob)])
def test_the_keys_of_the_secrets_of_a_recipe_are_variables_by_reference_of_either_kind_of_job(
    kind: str, render: Callable[[DistributedJob], dict[str, Any]]
) -> None:
    keys = {"tokens": ("API_TOKEN", "HOME", "AWS_ACCESS_KEY_ID", "not a name", "BOTH"), "database": ("BOTH",)}
    settings = SETTINGS.model_copy(update={"env_secrets": keys})
    described = describe_job(TrainConfig(), "s3://b/r", "k", settings=settings, pods=TrainingPods(), owner=None)
    assert render(described) == yaml.safe_load((GOLDEN / f"{kind}.yaml").read_text(encoding="utf-8"))


def test_workers_that_do_not_fill_their_pods_and_roots_that_pods_cannot_reach_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"train\.num_workers: 4 workers do not fill pods of 3 each"):
        job(processes=3)
    with pytest.raises(InvalidInputError, match=r"pods cannot reach results; use a root on an object store"):
        job(root="results")


def test_a_pod_over_its_limit_is_out_of_memory_with_the_key_to_change() -> None:
    described = job(memory_bytes=10**9)
    killed = OutOfMemoryError(described.name, pod_failure("", reason="OOMKilled"), 0, "1000000000")
    assert "its pod's limit is 1.0 GB); raise resources.cluster.worker.memory" in str(explain(killed, described))


def test_a_pods_word_becomes_the_error_of_the_laptop_and_silence_stays_the_clusters() -> None:
    described = job()
    ending = PodEnding(retryable=True, error=describe_error(WorkerKilledError(1, "SIGKILL", 0)))
    said = explain(PodFailedError(described.name, pod_failure(ending.model_dump_json()), 3), described)
    assert isinstance(said, WorkerKilledError)
    assert "was killed by SIGKILL, after 3 restarts" in str(said)
    silent = PodFailedError(described.name, pod_failure("exec format error"), 3)
    assert explain(silent, described) is silent


def test_a_training_that_took_too_long_says_what_its_pods_had_to_start_again_for() -> None:
    ending = PodEnding(retryable=True, error=describe_error(WorkerLostError(1, "timed out", 0)))
    said = "training_timeout, 60 s; raise it, .*; before, its pods had to start again: "
    for message, cause in ((ending.model_dump_json(), "worker 1 lost the others"), ("", "rank 1 ended with Error")):
        error = explain_deadline(DeadlineExceededError("job", 60, pod_failure(message)))
        assert re.search(said + cause, str(error))
    alone = str(explain_deadline(DeadlineExceededError("job", 60)))
    assert alone.endswith("the same command continues")


def test_a_step_trains_on_this_machine_unless_it_runs_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    with find_place(threads=3, pods=TrainingPods()) as place:
        assert isinstance(place, ThisMachine)


def test_what_is_published_already_starts_no_job(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    published, _ = workspace.once("train", "k", lambda output: (output / "model.json").touch())
    # An address at which nobody listens: a request would fail.
    launcher = Launcher(ApiClient(Configuration(host="http://127.0.0.1:9")))
    training = Training(
        config=TrainConfig(),
        task="tabular-regression",
        spec=make_spec("linear", {}, input_shape=(6,), num_outputs=1),
        module=None,
        dataset=published,
        key="k",
    )
    place = InCluster(SETTINGS, TrainingPods(), None, launcher)
    found = place.train(training, workspace, watch=lambda work: nullcontext())  # noqa: ARG005
    assert found == (published, True)
