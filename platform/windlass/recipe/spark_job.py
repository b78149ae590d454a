"""A prepare step on Spark in a cluster: a Job whose pod has Spark does the step, and this process follows it.

The image of the steps holds torch and no Spark, that of Spark no torch; and only the Job's account may make pods.
What the Job's pod runs is `windlass.recipe.spark_pod`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from importlib.util import find_spec

from pydantic import ValidationError

from windlass import progress
from windlass.cluster.errors import JobError, OutOfMemoryError, PodFailedError
from windlass.cluster.jobs import DistributedJob, Owner, Resources
from windlass.cluster.launcher import Launcher, find_owner, own_pod_name
from windlass.cluster.placement import pod_fields
from windlass.cluster.settings import SETTINGS_VARIABLE, ClusterSettings
from windlass.data.spark.kubernetes import ExecutorPods, SparkCluster
from windlass.errors import (
    EXIT_BAD_INPUT,
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    InterruptedRunError,
    InvalidInputError,
    WindlassError,
)
from windlass.recipe.model import Recipe
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepError
from windlass.storage import Reference, StorageUnreachableError, Workspace

_FINAL_EXIT_CODES = (EXIT_FAILURE, EXIT_BAD_INPUT, EXIT_INTERRUPTED)


class NoSparkError(InvalidInputError):
    """The installation lets no step use Spark."""

    def __init__(self, release: str, namespace: str) -> None:
        super().__init__(
            f"data.engine: spark: the installation {release!r} in {namespace} has no Spark; let an administrator type "
            f"helm -n {namespace} upgrade {release} charts/windlass --reuse-values --set spark.enabled=true, "
            "or use duckdb"
        )
        self.release, self.namespace = release, namespace


class PrepareMemoryError(WindlassError):
    """The driver's pod went over its limit."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            f"the pod of Spark's driver ran out of memory: its limit is {limit}; raise resources.cluster.step.memory"
        )
        self.limit = limit


def request_name(key: str) -> str:
    """The document below the root that tells the Job's pod what to do: a resolved recipe."""
    return f"jobs/prepare/{key}/request.json"


def scratch_name(key: str) -> str:
    """Where, below the root, the tasks of a step put what its driver takes."""
    return f"work/prepare/{key}"


def cluster_of(resolved: ResolvedRecipe, *, scratch: str) -> SparkCluster | None:
    """The cluster for Spark's executors, where this process is a pod of a run on Spark; None elsewhere.

    Raises:
        InvalidSettingsError: the settings of the run are of another version.
    """
    data, asked = resolved.recipe.data, resolved.recipe.resources.cluster
    settings = ClusterSettings.from_environment() if data.engine == "spark" else None
    if settings is None:
        return None
    pods = ExecutorPods(
        count=data.executors,
        memory_bytes=data.executor_memory,
        cpu=asked.step.cpu,
        placement=asked.placement(),
    )
    return SparkCluster(settings, pods, scratch)


def settings_for_job(resolved: ResolvedRecipe) -> ClusterSettings | None:
    """The settings of the run in whose pod this process is, if a Job has to do the step; None where it is done here.

    Raises:
        InvalidSettingsError: the settings of the run are of another version.
    """
    if resolved.recipe.data.engine != "spark" or find_spec("pyspark") is not None:
        return None
    return ClusterSettings.from_environment()


def check_spark(settings: ClusterSettings, recipe: Recipe) -> None:
    """Refuse a recipe on Spark where the installation has none, before anything runs.

    Raises:
        NoSparkError: so it is.
    """
    if recipe.data.engine == "spark" and settings.spark is None:
        raise NoSparkError(settings.release, settings.namespace)


def prepare_in_job(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    *,
    key: str,
    settings: ClusterSettings,
) -> tuple[Reference, bool]:
    """Let a Job prepare the data, until they are published under `steps/prepare/<key>/`.

    The Job is deleted at its end, however that is: executors belong to its pod and go with it.

    Returns:
        The published bundle, and whether it was there before.

    Raises:
        NoSparkError: the installation lets no step use Spark.
        InvalidInputError, InterruptedRunError, WindlassError: as the step says in its pod.
        PrepareMemoryError: the driver had too little memory.
        JobError: what only a cluster can do to it.
    """
    if (found := workspace.find("prepare", key)) is not None:
        return found, True
    from kubernetes import client, config

    config.load_incluster_config()
    api = client.ApiClient()
    owner = find_owner(api, settings.namespace, own_pod_name())
    launcher, job = Launcher(api, kind="job"), describe_job(resolved, workspace.uri, key, settings, owner)
    workspace.write_document(request_name(key), resolved.model_dump_json(indent=2, by_alias=True).encode())
    try:
        launcher.run(job, on_log=_relay, on_state=lambda report: progress.message(f"prepare on Spark: {report.text}"))
    except PodFailedError as error:
        raise explain(error) from error
    finally:
        launcher.delete(job.name, job.namespace)
        with contextlib.suppress(StorageUnreachableError):  # it must not hide why the Job ended
            _clear_scratch(workspace, key)
    reference = workspace.find("prepare", key)
    if reference is None:
        raise JobError(
            job.name, f"it has ended, but {workspace.uri} does not hold its data; run the same command again"
        )
    return reference, False


def describe_job(
    resolved: ResolvedRecipe, root: str, key: str, settings: ClusterSettings, owner: Owner | None
) -> DistributedJob:
    """The Job of one prepare step; the root and the key name it.

    A driver that is lost takes the step with it: the next one starts clean.

    Raises:
        NoSparkError: the installation lets no step use Spark.
    """
    check_spark(settings, resolved.recipe)
    spark, asked = settings.spark, resolved.recipe.resources.cluster
    assert spark is not None
    variables = {
        "HOME": "/tmp",  # noqa: S108 - an emptyDir
        "PYTHONUNBUFFERED": "1",
        SETTINGS_VARIABLE: settings.model_dump_json(),
        progress.EVENTS_VARIABLE: "/dev/stdout",
    }
    return DistributedJob(
        name=f"windlass-prepare-{hashlib.sha256(f'{root}{key}'.encode()).hexdigest()[:12]}",
        command=("python", "-m", "windlass.recipe.spark_pod", "--root", root, "--key", key),
        resources=Resources(cpu=f"{asked.step.cpu:g}", memory=str(asked.step.memory)),
        api_access=True,
        restarts=0,
        final_exit_codes=_FINAL_EXIT_CODES,
        labels={"app.kubernetes.io/managed-by": "windlass", "windlass.io/step": "prepare"},
        owner=owner,
        **pod_fields(
            settings,
            asked.placement(),
            service_account=spark.driver_service_account,
            variables=variables,
            image=spark,
        ),
    )


def _clear_scratch(workspace: Workspace, key: str) -> None:
    """The driver does so, unless it was lost."""
    if workspace.list_documents(f"{scratch_name(key)}/"):
        workspace.remove(Reference(uri=f"{workspace.uri}/{scratch_name(key)}", digest="unpublished"))


def explain(error: PodFailedError) -> WindlassError:
    """A pod's end as the error that the step itself raised; as it is where the pod left no word."""
    if isinstance(error, OutOfMemoryError):
        return PrepareMemoryError(error.limit)
    try:
        said = StepError.model_validate_json(error.failure.message)
    except ValidationError:
        return error
    if said.exit_code == EXIT_BAD_INPUT:
        return InvalidInputError(said.message)
    if said.exit_code == EXIT_INTERRUPTED:
        return InterruptedRunError(said.message)
    return WindlassError(said.message)


def _relay(line: str) -> None:
    """An event of the step goes where this process's events go; what else its pod says, to the log."""
    with contextlib.suppress(json.JSONDecodeError):
        event = json.loads(line)
        if isinstance(event, dict) and "kind" in event:
            fields = {name: value for name, value in event.items() if name not in ("kind", "time")}
            progress.emit(event["kind"], **fields)
            return
    sys.stderr.write(f"{line}\n")
