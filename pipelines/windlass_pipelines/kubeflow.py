"""Runs on Kubeflow Pipelines: compiled for their recipe, started, followed to their end. Imports no KFP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from windlass.cluster.discovery import KubeflowService
from windlass.cluster.errors import ApiError, ClusterUnreachableError
from windlass.cluster.settings import ClusterSettings
from windlass.cluster.workflows import WorkflowPods
from windlass.errors import EXIT_FAILURE, EXIT_INTERRUPTED
from windlass.recipe.errors import RecipeError
from windlass.recipe.model import Recipe
from windlass.recipe.runs import (
    RunRecord,
    StepError,
    StepResult,
    finish_run,
    read_error,
    read_recipe,
    read_run,
    record_error,
)
from windlass.schema import Document
from windlass.storage import Workspace
from windlass_pipelines.kubeflow_api import KubeflowApi, RunState
from windlass_pipelines.local import EventHandler, verdict_code
from windlass_pipelines.request import STEPS

FOUND = "auto"
"""In the place of an address: look for it in the cluster."""
_WAITING_EVERY = 5
"""Polls between two looks at the pods."""
_CANCELLED_WITHIN_S = 30.0


class KubeflowRecord(Document):
    """Where a run went, below its root at `runs/<run_id>/kubeflow.json`."""

    format_version: Literal[1] = 1
    url: str
    """What `--kfp` was given."""
    kubeflow_id: str
    """Kubeflow Pipelines' own id of the run."""
    namespace: str | None = None
    """Where it was found in the cluster; None where it was named by its address."""

    @property
    def page(self) -> str:
        """Of the run, in the web interface: where it is served at the API's address, or what brings it here."""
        page = f"#/runs/details/{self.kubeflow_id}"
        if self.namespace is None:
            return f"{self.url}/{page}"
        forward = f"kubectl -n {self.namespace} port-forward service/ml-pipeline-ui 8080:80"
        return f"http://127.0.0.1:8080/{page} with `{forward}`"

    def pod_selector(self) -> str:
        """Finds the pods of the run."""
        return f"pipeline/runid={self.kubeflow_id}"


def find_record(workspace: Workspace, run_id: str) -> KubeflowRecord | None:
    """Where the run went; None if Kubeflow Pipelines does not carry it out."""
    data = workspace.read_document(_document(run_id))
    return None if data is None else KubeflowRecord.model_validate_json(data)


def check_recipe(recipe: Recipe) -> None:
    """Refuse what the pods of Kubeflow Pipelines have no place for.

    Raises:
        RecipeError: it asks for such a thing.
    """
    wanted = recipe.resources.cluster.priority_class
    if wanted is not None:
        problem = (
            f"resources.cluster.priority_class: {wanted}: Kubeflow Pipelines cannot set it on the pods of steps; leave "
            "it out, or run without --kfp"
        )
        raise RecipeError(f"recipe {recipe.name!r}", [problem])


def start_run(
    api: KubeflowApi,
    settings: ClusterSettings,
    workspace: Workspace,
    run_id: str,
    *,
    last_step: str,
    found: KubeflowService | None = None,
) -> KubeflowRecord:
    """Compile an opened run for its recipe, and start it.

    Args:
        settings: with the Secrets that the recipe names.
        found: where the API was not named but found in the cluster.

    Raises:
        KubeflowRefusedError, KubeflowUnreachableError, NotKubeflowError: nothing runs; the run is left open.
    """
    from windlass_pipelines.kubeflow_package import compile_run

    resolved = read_recipe(workspace, run_id)
    spec = compile_run(settings, resolved.recipe.resources.cluster, run_id, last_step=last_step)
    arguments = {"root": workspace.uri, "run_id": run_id}
    kubeflow_id = api.create_run(run_id, experiment=resolved.name, spec=spec, arguments=arguments)
    url, namespace = (api.url, None) if found is None else (FOUND, found.namespace)
    record = KubeflowRecord(url=url, kubeflow_id=kubeflow_id, namespace=namespace)
    workspace.write_document(_document(run_id), record.model_dump_json(indent=2).encode())
    return record


@dataclass(frozen=True)
class KubeflowRun:
    """One run that was started there. Its steps record themselves below the root; how it ended, whoever follows."""

    record: KubeflowRecord
    workspace: Workspace
    run_id: str
    api: KubeflowApi
    pods: WorkflowPods
    poll_s: float = 2.0
    """The API has no way to be told of changes."""

    def follow(self, on_event: EventHandler) -> int:
        """Hand on what happens, from the first step on, until the end of the run; then close its record.

        Returns:
            The exit code of the run.

        Raises:
            KubeflowRefusedError: a token has expired, or the run was deleted there.
            KubeflowUnreachableError: no answer for five minutes; the run goes on.
        """
        steps, waits = _StepEvents(on_event), _WaitingPods(self.pods, on_event)
        while True:
            there = self.api.get_run(self.record.kubeflow_id, on_outage=lambda text: _say(on_event, text))
            record = read_run(self.workspace, self.run_id)
            steps.show(there, record.steps)
            if record.exit_code is not None:
                return record.exit_code
            if there.is_final:
                return self._close(there, record)
            waits.look()
            time.sleep(self.poll_s)

    def cancel(self) -> list[str]:
        """End the run there, close its record as interrupted, and delete the training job that a step left behind.

        A run that has ended there while nobody followed is closed as it ended.

        Returns:
            The names of the training jobs that had to be deleted.

        Raises:
            KubeflowRefusedError, KubeflowUnreachableError: it was not ended.
            ApiError: it was, but this identity may not look for its training jobs.
        """
        kubeflow_id = self.record.kubeflow_id
        if (there := self.api.get_run(kubeflow_id)).is_final:
            self._close(there, read_run(self.workspace, self.run_id))
            return []
        self.api.terminate(kubeflow_id)
        # A step that is told to stop deletes its job itself; one that is killed may have just made it.
        give_up_s = time.monotonic() + _CANCELLED_WITHIN_S
        while not self.api.get_run(kubeflow_id).is_final and time.monotonic() < give_up_s:
            time.sleep(self.poll_s)
        if read_run(self.workspace, self.run_id).exit_code is None:
            finish_run(self.workspace, self.run_id, EXIT_INTERRUPTED)
        return self.pods.delete_jobs()

    def _close(self, there: RunState, record: RunRecord) -> int:
        if there.state in ("SUCCEEDED", "SKIPPED"):
            code = verdict_code(self.workspace, self.run_id)
        elif there.is_cancelled:
            code = EXIT_INTERRUPTED
        else:
            code = self._error_code(there, record)
        finish_run(self.workspace, self.run_id, code)
        return code

    def _error_code(self, there: RunState, record: RunRecord) -> int:
        """What the step itself said; where it had no time to, what can be said for it."""
        done = {result.step for result in record.steps}
        said = read_error(self.workspace, self.run_id)
        # A pod that was replaced may have left the word of its first life.
        if said is not None and said.step not in done:
            return said.exit_code
        step = next((step for step in STEPS if there.tasks.get(step) == "FAILED"), None)
        step = step or next((step for step in STEPS if step not in done), STEPS[-1])
        cause = f": {there.error}" if there.error else ""
        message = f"its pod ended without a word{cause}; its log: {self.record.page}"
        lost = StepError(type="StepLostError", message=message, exit_code=EXIT_FAILURE, step=step)
        record_error(self.workspace, self.run_id, lost)
        return EXIT_FAILURE


class _StepEvents:
    """Makes events of what two places say: that a step runs or failed, and what came out of it."""

    def __init__(self, on_event: EventHandler) -> None:
        self._on_event = on_event
        self._shown: dict[str, str] = {}

    def show(self, there: RunState, results: Sequence[StepResult]) -> None:
        done = {result.step: result for result in results}
        for step in STEPS:
            if (result := done.get(step)) is not None:
                self._emit(step, "started")
                figures = {"cached": result.cached, "seconds": result.seconds, "summary": result.summary}
                self._emit(step, "finished", **figures)
            elif there.tasks.get(step) == "RUNNING":
                self._emit(step, "started")
            elif there.tasks.get(step) == "FAILED":
                self._emit(step, "started")
                self._emit(step, "failed")

    def _emit(self, step: str, status: str, **figures: Any) -> None:
        before = self._shown.get(step)
        if before == status or (before is not None and status == "started"):
            return
        self._shown[step] = status
        self._on_event({"kind": "step", "time": time.time(), "step": step, "status": status, **figures})


class _WaitingPods:
    """Says why pods wait, each reason once; the run's state tells none of it."""

    def __init__(self, pods: WorkflowPods, on_event: EventHandler) -> None:
        self._pods, self._on_event = pods, on_event
        self._said: set[str] = set()
        self._polls = 0
        self._is_refused = False

    def look(self) -> None:
        self._polls += 1
        if self._is_refused or self._polls % _WAITING_EVERY:
            return
        try:
            reasons = self._pods.why_they_wait()
        except ClusterUnreachableError:
            return
        except ApiError as error:
            self._is_refused = True
            _say(self._on_event, f"why pods wait cannot be told: {error}")
            return
        for reason in reasons:
            if reason not in self._said:
                self._said.add(reason)
                _say(self._on_event, reason)


def _say(on_event: EventHandler, text: str) -> None:
    on_event({"kind": "message", "time": time.time(), "text": text})


def _document(run_id: str) -> str:
    return f"runs/{run_id}/kubeflow.json"
