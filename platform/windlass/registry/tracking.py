"""The one place that opens MLflow: where it is, with which limits, and what is tried again."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from windlass.errors import MissingExtraError
from windlass.registry.errors import RegistryRefusedError, RegistryUnreachableError

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlartifacts"
RUN_TAG = "windlass.run_id"
_SQLITE_PREFIX = "sqlite:///"
_READ_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0

# MLflow's own retries are off for every call: one whose reply is lost would otherwise be repeated unseen.
_FORCED = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # a redirect would lead the client, with its credentials, wherever a server wants
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

Result = TypeVar("Result")


def default_tracking_uri(local: Path) -> str:
    """MLFLOW_TRACKING_URI if it is set, else a SQLite file in `local`, which is `.windlass/` of a project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE_PREFIX}{local.resolve() / DATABASE_NAME}"


def sqlite_path(tracking_uri: str) -> Path | None:
    """The database file of a SQLite store, None for any other."""
    return Path(tracking_uri.removeprefix(_SQLITE_PREFIX)) if tracking_uri.startswith(_SQLITE_PREFIX) else None


def local_artifacts(tracking_uri: str) -> Path | None:
    """The folder beside a SQLite file that holds its artifacts; a server knows by itself where they are."""
    database = sqlite_path(tracking_uri)
    return database.resolve().parent / ARTIFACTS_NAME if database else None


def connect(tracking_uri: str) -> Any:
    """An `mlflow.MlflowClient` with short timeouts, without telemetry, unpickling and retries of its own.

    Raises:
        RegistryUnreachableError: the database cannot be opened. A server is asked only by the first call.
    """
    os.environ.update(_FORCED)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    database = sqlite_path(tracking_uri)
    if database is None:
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    return _open_database(tracking_uri, database)


def _open_database(tracking_uri: str, database: Path) -> Any:
    try:
        from alembic.util import CommandError
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise MissingExtraError("tracking in a SQLite file", "train") from None
    from mlflow import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        # the client creates and migrates the tables, and two that do so at the same time fail
        with _locked(database):
            client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
            client.search_registered_models(max_results=1)
    except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        raise RegistryUnreachableError(tracking_uri, str(error)) from error
    return client


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later: no connection, an overloaded server, a locked database."""
    code = getattr(error, "error_code", "")
    return code in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED"} or (
        "database is locked" in str(error)
    )


def is_missing(error: Exception) -> bool:
    """Whether MLflow says that there is no such thing."""
    return getattr(error, "error_code", "") in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "ENDPOINT_NOT_FOUND"}


def exists_already(error: Exception) -> bool:
    return getattr(error, "error_code", "") in {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}


def is_conflict(error: Exception) -> bool:
    """Whether another client wrote the same row at the same time: MLflow passes on what its database says."""
    text = str(error).lower()
    return "uniqueviolation" in text or "unique constraint" in text or "duplicate entry" in text


def pause_s(attempt: int) -> float:
    """How long to wait after a failed attempt: doubling, with jitter, so that clients do not come back together."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**attempt) * random.uniform(0.5, 1.5)  # noqa: S311


def repeated(
    tracking_uri: str,
    call: Callable[[], Result],
    attempts: int = _READ_ATTEMPTS,
    mendable: Callable[[Exception], bool] = is_transient,
) -> Result:
    """The result of a call that may be made twice: a failure that is `mendable` is tried again.

    Raises:
        RegistryUnreachableError: every attempt failed.
        MlflowException: a failure that another attempt cannot mend, as it came.
    """
    from mlflow import MlflowException
    from requests import RequestException  # type: ignore[import-untyped]

    last = ""
    for attempt in range(attempts):
        try:
            return call()
        except MlflowException as error:
            if not mendable(error):
                raise
            last = str(error)
        except (RequestException, ConnectionError) as error:
            last = str(error)
        if attempt + 1 < attempts:
            time.sleep(pause_s(attempt))
    raise RegistryUnreachableError(tracking_uri, last)


@contextmanager
def refusals(tracking_uri: str) -> Iterator[None]:
    """Turn what is left of MLflow's own errors into ours, without credentials."""
    from mlflow import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RegistryRefusedError(tracking_uri, str(error)) from error


def find_or_create_run(
    client: Any, tracking_uri: str, *, experiment: str, run_id_tag: str, tags: Mapping[str, str]
) -> str:
    """The MLflow run of a Windlass run: the one that MLFLOW_RUN_ID names, or the one with its tag, or a new one.

    Of two that were created at the same time the older one counts.
    """
    if adopted := os.environ.get("MLFLOW_RUN_ID"):
        run = repeated(tracking_uri, lambda: client.get_run(adopted))
        if run.data.tags.get(RUN_TAG) != run_id_tag:
            repeated(tracking_uri, lambda: client.set_tag(adopted, RUN_TAG, run_id_tag))
        return adopted
    experiment_id = _experiment(client, tracking_uri, experiment)

    def find() -> str | None:
        quoted = run_id_tag.replace("'", "")
        found = client.search_runs([experiment_id], filter_string=f"tags.`{RUN_TAG}` = '{quoted}'")
        found.sort(key=lambda run: (run.info.start_time, run.info.run_id))
        return found[0].info.run_id if found else None

    def find_or_create() -> str:
        if (run_id := find()) is None:
            client.create_run(experiment_id, run_name=run_id_tag, tags={**tags, RUN_TAG: run_id_tag})
            run_id = find()
            assert run_id is not None
        return run_id

    return repeated(tracking_uri, find_or_create)


def _experiment(client: Any, tracking_uri: str, name: str) -> str:
    from mlflow import MlflowException

    artifacts = local_artifacts(tracking_uri)

    def find_or_create() -> str:
        if (found := client.get_experiment_by_name(name)) is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name, artifact_location=artifacts.as_uri() if artifacts else None))
        except MlflowException as error:
            if not exists_already(error):
                raise
            return str(client.get_experiment_by_name(name).experiment_id)

    return repeated(tracking_uri, find_or_create)


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
