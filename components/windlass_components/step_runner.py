"""What all components do around their one call of the library. Imports no KFP: artifacts are told by their shape."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from windlass import progress
from windlass.errors import InterruptedRunError, WindlassError
from windlass.evaluation.documents import EVALUATION_NAME, REPORT_HTML_NAME, VERDICT_NAME, Evaluation, Verdict
from windlass.recipe.pages import markdown
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepError, StepResult, read_recipe, record_error, record_step
from windlass.recipe.summaries import figures
from windlass.storage import Reference, Workspace
from windlass_components.stopping import STOP_VARIABLE


class Artifact(Protocol):
    """The part of a KFP artifact that is used here; never its URI, which is a path in one place and s3:// elsewhere."""

    path: str
    metadata: dict[str, Any]


class Metrics(Protocol):
    def log_metric(self, metric: str, value: float) -> None: ...


def read_reference(artifact: Artifact) -> Reference:
    """The published directory that another step's artifact names."""
    return Reference.model_validate_json(Path(artifact.path).read_bytes())


def run_step(
    step: str,
    call: Callable[[ResolvedRecipe, Workspace], StepResult],
    *,
    root: str,
    run_id: str,
    output: Artifact,
    metrics: Metrics | None = None,
    page: Artifact | None = None,
) -> StepResult:
    """Run one step of a run, record it, and describe its result in `output` and, as Markdown, in `page`.

    An error that a user can act upon goes to `runs/<run_id>/error.json`, for a failed step of kfp.local says nothing
    else to the pipeline; the process then ends with the error's exit code and without a traceback.
    """
    workspace = Workspace(root)
    progress.emit("step", step=step, status="started")
    try:
        with _stop_on_sigterm():
            started_s = time.monotonic()
            result = call(read_recipe(workspace, run_id), workspace)
            result = result.model_copy(update={"seconds": time.monotonic() - started_s})
            record_step(workspace, run_id, result)
    except WindlassError as error:
        _fail(workspace, run_id, step, error)
    _describe(result, output, metrics)
    if page is not None:
        Path(page.path).write_text(markdown(step, workspace.fetch(result.reference)), encoding="utf-8")
    progress.emit(
        "step", step=step, status="finished", cached=result.cached, seconds=result.seconds, summary=result.summary
    )
    return result


def log_candidates(root: str, result: StepResult, metrics: Metrics) -> None:
    """Log every figure of every candidate that `evaluate` measured, by `candidate figure`."""
    directory = Workspace(root).fetch(result.reference)
    for measurement in Evaluation.read(directory / EVALUATION_NAME).measurements:
        for name, value in figures(measurement).items():
            metrics.log_metric(f"{measurement.candidate} {name}", float(value))


def read_verdict(root: str, result: StepResult, report: Artifact) -> int:
    """Copy the report that `select` published to a KFP artifact, and say whether there is a version to register.

    Returns:
        1 if the verdict has a winner, else 0.
    """
    directory = Workspace(root).fetch(result.reference)
    shutil.copyfile(directory / REPORT_HTML_NAME, report.path)
    return int(Verdict.read(directory / VERDICT_NAME).winner is not None)


def _describe(result: StepResult, output: Artifact, metrics: Metrics | None) -> None:
    Path(output.path).parent.mkdir(parents=True, exist_ok=True)
    Path(output.path).write_text(result.reference.model_dump_json(), encoding="utf-8")
    output.metadata.update(
        published_uri=result.reference.uri, digest=result.reference.digest, key=result.key, cached=result.cached
    )
    for name, value in result.summary.items():
        if metrics is not None and not isinstance(value, str):
            metrics.log_metric(name, float(value))
        else:
            output.metadata[name] = value


def _fail(workspace: Workspace, run_id: str, step: str, error: WindlassError) -> NoReturn:
    said = StepError(type=type(error).__name__, message=str(error), exit_code=error.exit_code, step=step)
    record_error(workspace, run_id, said)
    progress.emit("step", step=step, status="failed", error=said.model_dump())
    sys.stderr.write(f"{step} failed: {error}\n")  # the log of a pod has no other word of it
    raise SystemExit(error.exit_code) from None


@contextlib.contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an error that unwinds the step, so that temporary directories go and locks are released."""

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError("the run was stopped; the same command continues it")

    if os.environ.get(STOP_VARIABLE):
        stop(signal.SIGTERM, None)
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
