"""Runs on a cluster without Kubeflow Pipelines: one Job whose pod runs the pipeline. Imports no KFP."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass

from windlass.cluster.errors import JobError, PodFailedError
from windlass.cluster.jobs import DistributedJob, Resources
from windlass.cluster.launcher import Launcher
from windlass.cluster.placement import pod_fields
from windlass.cluster.settings import SETTINGS_VARIABLE, ClusterSettings
from windlass.cluster.status import JobReport
from windlass.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OVER_BUDGET, EXIT_TEST_OVER_BUDGET
from windlass.recipe.runs import finish_run, mark_cancelled, read_recipe, read_run
from windlass.storage import S3Settings, Workspace
from windlass_pipelines.local import EventHandler
from windlass_pipelines.request import STEPS

RUN_ANNOTATION = "windlass.io/run-id"
_RESTARTS = 2
"""Of the run's pod, where its node is lost or it is killed; what is done is not done again."""
_FINAL_EXIT_CODES = (
    EXIT_FAILURE,
    EXIT_BAD_INPUT,
    EXIT_OVER_BUDGET,
    EXIT_TEST_OVER_BUDGET,
    EXIT_INTERRUPTED,
)


@dataclass(frozen=True)
class ClusterRun:
    """One run that was opened in a root, as the Job that carries it out."""

    settings: ClusterSettings
    workspace: Workspace
    run_id: str
    last_step: str = STEPS[-1]

    def describe(self) -> DistributedJob:
        """The Job; root and run name it, so that it is found again from any machine."""
        settings, root = self.settings, self.workspace.uri
        asked = read_recipe(self.workspace, self.run_id).recipe.resources.cluster
        command = ("python", "-m", "windlass_pipelines.pod", "--root", root, "--run-id", self.run_id)
        variables = {
            "MLFLOW_TRACKING_URI": settings.tracking_uri,
            SETTINGS_VARIABLE: settings.model_dump_json(),
        }
        return DistributedJob(
            name=job_name(root, self.run_id),
            command=(*command, "--last-step", self.last_step),
            resources=Resources(cpu=f"{asked.step.cpu:g}", memory=str(asked.step.memory), gpus=asked.step.gpus),
            api_access=True,
            restarts=_RESTARTS,
            final_exit_codes=_FINAL_EXIT_CODES,
            labels={"app.kubernetes.io/managed-by": "windlass", "windlass.io/part": "run"},
            annotations={RUN_ANNOTATION: self.run_id},
            **pod_fields(
                settings,
                asked.placement(),
                service_account=settings.pipeline_service_account,
                variables=variables,
            ),
        )

    def start(self, launcher: Launcher, on_event: EventHandler) -> None:
        """Create the Job; the cluster carries it out whether or not somebody follows.

        Raises:
            JobRefusedError, ApiError, ClusterUnreachableError: nothing was started; the run is closed as failed.
        """
        launcher.start(self.describe(), _StateMessages(on_event))

    def follow(self, launcher: Launcher, on_event: EventHandler) -> int:
        """Hand on the run's events from its first one on, until it ends; a lost connection is taken up again.

        Returns:
            The exit code of the run.

        Raises:
            JobGoneError: somebody deleted the Job before it was done.
            JobError: the pod ended without a word: out of memory, evicted, its image cannot be pulled.
        """
        try:
            launcher.follow(self.describe(), on_log=_Events(on_event), on_state=_StateMessages(on_event))
        except JobError as error:
            if self._exit_code() is None:
                finish_run(self.workspace, self.run_id, EXIT_FAILURE)
                raise
            # The run itself said how it ended; that its pod then failed is no news.
            if not isinstance(error, PodFailedError):
                raise
        return self._exit_code() or 0

    def cancel(self, launcher: Launcher) -> None:
        """Delete the Job, if it is still there; the cluster deletes its pod and the training jobs that it owns."""
        mark_cancelled(self.workspace, self.run_id)
        launcher.delete(job_name(self.workspace.uri, self.run_id), self.settings.namespace)
        if self._exit_code() is None:
            finish_run(self.workspace, self.run_id, EXIT_INTERRUPTED)

    def _exit_code(self) -> int | None:
        return read_run(self.workspace, self.run_id).exit_code


def job_name(root: str, run_id: str) -> str:
    """Short enough for every name that Kubernetes makes of it."""
    return f"windlass-run-{hashlib.sha256(f'{root} {run_id}'.encode()).hexdigest()[:12]}"


def storage_from_outside(settings: ClusterSettings, endpoint: str | None) -> S3Settings:
    """How this machine reaches the object store of the installation.

    Args:
        endpoint: what the environment of this machine says, which comes first.
    """
    storage = settings.storage
    return S3Settings.from_environment().model_copy(
        update={
            "endpoint_url": endpoint or storage.public_endpoint or storage.endpoint,
            "region": storage.region,
            "addressing": storage.addressing,
        }
    )


class _Events:
    """Takes the lines of the pod's log apart into events."""

    def __init__(self, on_event: EventHandler) -> None:
        self._on_event = on_event

    def __call__(self, line: str) -> None:
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and "kind" in event:
                self._on_event(event)
                return
        self._on_event({"kind": "log", "time": time.time(), "source": "run", "text": line})


class _StateMessages:
    """Says why the run's pod waits; once it runs, its own events say the rest."""

    def __init__(self, on_event: EventHandler) -> None:
        self._on_event = on_event

    def __call__(self, report: JobReport) -> None:
        self._on_event({"kind": "message", "time": time.time(), "text": f"run: {report.text}"})
