"""Training as a job of a cluster: the request for its pods, the job, what comes back through its log, its errors."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from windlass import progress
from windlass.cluster.errors import DeadlineExceededError, LaunchInterruptedError, OutOfMemoryError, PodFailedError
from windlass.cluster.jobs import Claim, DistributedJob, Owner, Resources
from windlass.cluster.launcher import Launcher
from windlass.cluster.placement import ANYWHERE, Placement, pod_fields
from windlass.cluster.settings import ClusterSettings
from windlass.errors import InvalidInputError, WindlassError
from windlass.schema import format_size
from windlass.storage import Reference, Workspace
from windlass.training.config import TrainConfig
from windlass.training.documents import PodEnding, PodTrainRequest, Training, ending_name, request_name
from windlass.training.errors import (
    TrainingInterruptedError,
    TrainingMemoryError,
    TrainingTimeoutError,
    WorkerKilledError,
    WorkerLostError,
)
from windlass.training.relay import LogRelay, PodsEndedError
from windlass.training.reports import rebuild_error

_CHECKPOINTS_PATH = "/checkpoints"
_MEMORY_ADVICE = (
    "raise resources.cluster.worker.memory, or use a smaller train.global_batch_size, fewer "
    "resources.cluster.worker.processes (each holds the data and the network), or a smaller model"
)


@dataclass(frozen=True)
class TrainingPods:
    """What a training asks of a cluster."""

    processes: int = 1
    """Workers in each pod."""
    cpu: float = 1.0
    memory_bytes: int = 2 * 10**9
    gpus: int = 0
    placement: Placement = ANYWHERE
    checkpoint_claim: str | None = None
    """A volume claim that all pods can write; None keeps checkpoints below the root."""
    queue: str | None = None
    timeout_s: float | None = None


class NotPublishedError(WindlassError):
    """The job of a training has ended well, and its model is not there."""

    def __init__(self, job: str, root: str) -> None:
        super().__init__(f"job {job} has ended, but {root} does not hold its model; run the same command again")
        self.job, self.root = job, root


def train_on_cluster(
    training: Training,
    workspace: Workspace,
    *,
    work: Path,
    settings: ClusterSettings,
    pods: TrainingPods,
    owner: Owner | None,
    launcher: Launcher,
) -> Reference:
    """Train in pods until the model is published under `steps/train/<key>/`; adopts the job if it is there already.

    Args:
        work: gets history.jsonl and steps.jsonl as they grow.
        owner: of the job, which is deleted with it.

    Raises:
        InvalidInputError: the pods cannot share the workers evenly, or cannot reach the root.
        TrainingInterruptedError, TrainingDivergedError, TrainingMemoryError, TrainingFailedError, WorkerKilledError,
        WorkerLostError, CheckpointSpaceError, CorruptedError: as of a training on this machine.
        TrainingTimeoutError: it took longer than it may.
        JobError: what only a cluster can do to it.
    """
    job = describe_job(training.config, workspace.uri, training.key, settings=settings, pods=pods, owner=owner)
    request = PodTrainRequest(
        training=training,
        workers_per_pod=pods.processes,
        threads=max(1, int(pods.cpu / pods.processes)),
        checkpoint_directory=Path(_CHECKPOINTS_PATH) if pods.checkpoint_claim else None,
    )
    workspace.delete_document(ending_name(training.key))
    workspace.write_document(request_name(training.key), request.model_dump_json(indent=2).encode())
    # A job that has succeeded stays for a while, also when somebody has removed its model meanwhile.
    for _ in range(2):
        _run(launcher, job, work)
        if (reference := workspace.find("train", training.key)) is not None:
            _clear_checkpoints(workspace, training.key)
            return reference
        launcher.delete(job.name, job.namespace)
    raise NotPublishedError(job.name, workspace.uri)


def _clear_checkpoints(workspace: Workspace, key: str) -> None:
    """The first pod does so, unless it was killed in between."""
    name = f"work/train/{key}"
    if workspace.list_documents(f"{name}/"):
        workspace.remove(Reference(uri=f"{workspace.uri}/{name}", digest="unpublished"))


def describe_job(
    config: TrainConfig,
    root: str,
    key: str,
    *,
    settings: ClusterSettings,
    pods: TrainingPods,
    owner: Owner | None,
) -> DistributedJob:
    """The job of one training; the root and the key name it.

    Raises:
        InvalidInputError: the pods cannot share the workers evenly, or cannot reach the root.
    """
    if config.num_workers % pods.processes:
        raise InvalidInputError(
            f"train.num_workers: {config.num_workers} workers do not fill pods of {pods.processes} each; "
            "use a multiple of resources.cluster.worker.processes"
        )
    if not root.startswith("s3://"):
        raise InvalidInputError(f"pods cannot reach {root}; use a root on an object store, s3://BUCKET/PREFIX")
    claim = pods.checkpoint_claim
    return DistributedJob(
        name=f"windlass-train-{hashlib.sha256(f'{root}{key}'.encode()).hexdigest()[:12]}",
        command=("python", "-m", "windlass.training.pod", "--root", root, "--key", key),
        workers=config.num_workers // pods.processes,
        processes_per_worker=pods.processes,
        resources=Resources(cpu=f"{pods.cpu:g}", memory=str(pods.memory_bytes), gpus=pods.gpus),
        volumes=(Claim(_CHECKPOINTS_PATH, claim),) if claim else (),
        queue=pods.queue,
        deadline_s=None if pods.timeout_s is None else round(pods.timeout_s),
        labels={"app.kubernetes.io/managed-by": "windlass", "windlass.io/step": "train"},
        owner=owner,
        **pod_fields(
            settings,
            pods.placement,
            service_account=settings.training_service_account,
            variables={"PYTHONUNBUFFERED": "1", "HOME": "/tmp"},  # noqa: S108 - an emptyDir
        ),
    )


def _run(launcher: Launcher, job: DistributedJob, work: Path) -> None:
    with LogRelay(work, on_other=_show_line) as relay:
        try:
            launcher.run(job, on_log=relay, on_state=lambda report: progress.message(f"training: {report.text}"))
        except PodsEndedError as ended:
            launcher.delete(job.name, job.namespace)
            raise _as_in_a_pod(rebuild_error(ended.ending.error), job) from None
        except LaunchInterruptedError as error:
            raise TrainingInterruptedError(None) from error
        except PodFailedError as error:
            raise explain(error, job) from error
        except DeadlineExceededError as error:
            raise explain_deadline(error) from error


def explain_deadline(error: DeadlineExceededError) -> WindlassError:
    """With what the first pod said that had to start again before, which may have taken the time."""
    if error.deadline_s is None:
        return error
    if error.failure is None:
        return TrainingTimeoutError(error.deadline_s)
    try:
        said = PodEnding.model_validate_json(error.failure.message).error.message
    except ValidationError:
        said = f"rank {error.failure.rank} ended with {error.failure.reason}"
    return TrainingTimeoutError(error.deadline_s, said)


def explain(error: PodFailedError, job: DistributedJob) -> WindlassError:
    """A pod's end as the error that the same training raises on one machine; as it is where the pod left no word."""
    if isinstance(error, OutOfMemoryError):
        return _out_of_memory(error.failure.rank * job.processes_per_worker, job)
    try:
        ending = PodEnding.model_validate_json(error.failure.message)
    except ValidationError:
        return error
    own = rebuild_error(ending.error)
    if isinstance(own, WorkerKilledError):
        return WorkerKilledError(own.rank, own.signal_name, error.restarts)
    if isinstance(own, WorkerLostError):
        return WorkerLostError(own.rank, own.cause, error.restarts)
    return _as_in_a_pod(own, job)


def _as_in_a_pod(error: WindlassError, job: DistributedJob) -> WindlassError:
    return _out_of_memory(error.rank, job) if isinstance(error, TrainingMemoryError) else error


def _out_of_memory(rank: int, job: DistributedJob) -> TrainingMemoryError:
    limit = format_size(int(job.resources.memory))
    return TrainingMemoryError(rank, f"its pod's limit is {limit}", _MEMORY_ADVICE)


def _show_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
