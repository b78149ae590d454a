"""Training's own metric files, mirrored to MLflow while they grow; an outage there never blocks training."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from windlass.progress import message
from windlass.registry.errors import RegistryUnreachableError
from windlass.registry.redaction import redact
from windlass.registry.tracking import RUN_TAG, connect, find_or_create_run, pause_s, refusals, repeated

_METRICS_PER_CALL = 500
_FOLLOW_INTERVAL_S = 0.5
_POSITIONS = frozenset({"step", "epoch", "time"})
STEPS_PREFIX = "step/"
"""Of the metrics that are logged at each step; those of each epoch have their plain names."""

_END_ATTEMPTS = 2
Ending = Literal["FINISHED", "FAILED", "KILLED"]
"""What MLflow calls the end of a run."""
ENDINGS: Mapping[str, Ending] = {"succeeded": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""By the status of a Windlass run."""

Position = tuple[str, int]
"""A metric's name and its step: what may be there only once."""


class MetricFile:
    """A JSONL file of metrics, read as far as it is written.

    Each line is an object: numbers, also of objects inside it, are metrics, except `step` and `epoch`, which place it,
    and `time`, seconds since 1970. A position that comes again, because training went back to a checkpoint, is taken
    the first time only.
    """

    def __init__(self, path: Path, prefix: str, position: str) -> None:
        self._path, self._prefix, self._position = path, prefix, position
        self._offset = 0
        self._seen: set[Position] = set()

    def new_lines(self) -> Iterator[tuple[Position, float, float | None]]:
        """Position, value and time of what was written since the last call; a line still being written waits."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    yield from self._metrics(line)
        except FileNotFoundError:
            return

    def _metrics(self, line: bytes) -> Iterator[tuple[Position, float, float | None]]:
        try:
            values = json.loads(line)
        except ValueError:
            return
        if not isinstance(values, dict) or not isinstance(step := values.get(self._position), int):
            return
        written_s = values.get("time")
        for name, value in _numbers(values, self._prefix):
            if (position := (name, step)) not in self._seen:
                self._seen.add(position)
                yield position, value, float(written_s) if isinstance(written_s, int | float) else None


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif type(value) in (int, float) and name not in _POSITIONS and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


class _Sender:
    """Sends positions to one run, each once, whatever is sent again.

    The time of a metric is part of its identity in MLflow's database and follows from the file and the run alone: a
    batch whose acknowledgement was lost may be sent again, the server keeps one of each.
    """

    def __init__(self, client: Any, tracking_uri: str, run_id: str) -> None:
        self._client, self._tracking_uri, self._run_id = client, tracking_uri, run_id
        run = repeated(tracking_uri, lambda: client.get_run(run_id))
        self._started_ms = int(run.info.start_time)
        self._logged = set(run.data.metrics)
        self._there: dict[str, set[int]] = {}

    def send(self, batch: Mapping[Position, tuple[float, float | None]], attempts: int) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(written_s * 1000) if written_s else self._started_ms + step, step)
            for (name, step), (value, written_s) in batch.items()
            if step not in self._steps_there(name)
        ]
        if metrics:
            repeated(
                self._tracking_uri, lambda: self._client.log_batch(self._run_id, metrics=metrics), attempts=attempts
            )

    def _steps_there(self, name: str) -> set[int]:
        """Steps that an earlier process has sent already."""
        if name not in self._there:
            history = (
                repeated(self._tracking_uri, lambda: self._client.get_metric_history(self._run_id, name))
                if name in self._logged
                else ()
            )
            self._there[name] = {metric.step for metric in history}
        return self._there[name]


def _files(history: Path, steps: Path) -> tuple[MetricFile, MetricFile]:
    return MetricFile(history, "", "epoch"), MetricFile(steps, STEPS_PREFIX, "step")


def send_missing(client: Any, tracking_uri: str, run_id: str, history: Path, steps: Path) -> None:
    """Send what the run does not have yet of the two files.

    Raises:
        RegistryUnreachableError: MLflow went away; what it acknowledged stays, the same call sends the rest.
    """
    sender = _Sender(client, tracking_uri, run_id)
    pending = {position: (value, at) for file in _files(history, steps) for position, value, at in file.new_lines()}
    while pending:
        batch = _head(pending)
        sender.send(batch, attempts=6)
        for position in batch:
            del pending[position]


def end_run(tracking_uri: str, *, experiment: str, run_id_tag: str, ending: Ending) -> None:
    """End the MLflow run of a Windlass run that did not come to `register`; one that is adopted is not ours to end.

    Raises:
        RegistryUnreachableError, RegistryRefusedError: it stays as it is.
    """
    if os.environ.get("MLFLOW_RUN_ID"):
        return
    client = connect(tracking_uri)
    with refusals(tracking_uri):
        found = repeated(tracking_uri, lambda: client.get_experiment_by_name(experiment), attempts=_END_ATTEMPTS)
        if found is None:
            return
        query = f"tags.`{RUN_TAG}` = '{run_id_tag}' and attributes.status = 'RUNNING'"
        for run in repeated(tracking_uri, lambda: client.search_runs([found.experiment_id], filter_string=query)):
            repeated(tracking_uri, partial(client.set_terminated, run.info.run_id, ending))


def _head(pending: Mapping[Position, tuple[float, float | None]]) -> dict[Position, tuple[float, float | None]]:
    return {position: pending[position] for position, _ in zip(pending, range(_METRICS_PER_CALL), strict=False)}


class MetricsMirror:
    """Follows training's metric files in a thread and logs them to the run.

    `with MetricsMirror(...):` around training. What MLflow acknowledged is not sent again; while it is away, lines
    wait and are sent when it is back. At the end it is given `flush_timeout_s` for the rest; what is still missing
    then, `register` sends.
    """

    def __init__(
        self,
        history: Path,
        steps: Path,
        tracking_uri: str,
        *,
        experiment: str,
        run_id_tag: str,
        tags: Mapping[str, str] | None = None,
        flush_timeout_s: float = 10.0,
    ) -> None:
        self._files = _files(history, steps)
        self._tracking_uri, self._experiment, self._run_id_tag = tracking_uri, experiment, run_id_tag
        self._tags = dict(tags or {})
        self._flush_timeout_s = flush_timeout_s
        self._pending: dict[Position, tuple[float, float | None]] = {}
        self._sender: _Sender | None = None
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="metrics mirror", daemon=True)

    def __enter__(self) -> MetricsMirror:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def flush(self) -> bool:
        """Stop following; wait a bounded time until everything is sent, and say whether it was."""
        self._stopping.set()
        self._thread.join(self._flush_timeout_s)
        self._abandoned.set()
        return not self._thread.is_alive() and not self._pending

    def _follow(self) -> None:
        from mlflow import MlflowException

        failures = 0
        while not self._abandoned.is_set():
            stopping = self._stopping.is_set()
            for file in self._files:
                self._pending.update((position, (value, at)) for position, value, at in file.new_lines())
            try:
                self._send()
                failures = 0
            except RegistryUnreachableError as error:
                if failures == 0:
                    message(f"metrics wait, training goes on: {error}")
                failures += 1
            except MlflowException as error:
                message(f"metrics are no longer mirrored to MLflow, training goes on: {redact(str(error))}")
                return
            if stopping and not failures:
                return
            wake = self._abandoned if stopping else self._stopping
            wake.wait(pause_s(failures) if failures else _FOLLOW_INTERVAL_S)

    def _send(self) -> None:
        while self._pending and not self._abandoned.is_set():
            if self._sender is None:
                self._sender = self._connect()
            batch = _head(self._pending)
            self._sender.send(batch, attempts=1)
            for position in batch:
                del self._pending[position]

    def _connect(self) -> _Sender:
        client = connect(self._tracking_uri)
        run_id = find_or_create_run(
            client, self._tracking_uri, experiment=self._experiment, run_id_tag=self._run_id_tag, tags=self._tags
        )
        return _Sender(client, self._tracking_uri, run_id)
