"""The database of the tracking server, spoken to directly: importing MLflow takes seconds, a probe may take one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg2  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from psycopg2.extensions import connection  # type: ignore[import-untyped]

Error = psycopg2.Error

MIGRATION_LOCK = 0x57696E646C617373
"""The advisory lock that a migration holds: "Windlass" in ASCII."""

_WAIT_S = 120
_CONNECT_TIMEOUT_S = 3


def address() -> str:
    """MLFLOW_BACKEND_STORE_URI as PostgreSQL's own library reads it; what it leaves out comes from PG* variables."""
    uri = os.environ.get("MLFLOW_BACKEND_STORE_URI", "")
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        sys.exit(f"MLFLOW_BACKEND_STORE_URI has to be postgresql+psycopg2://USER@HOST/DATABASE, not {scheme!r}")
    return f"postgresql://{rest}"


def connect(**settings: object) -> connection:
    return psycopg2.connect(
        address(), connect_timeout=_CONNECT_TIMEOUT_S, application_name="tracking_server", **settings
    )


def answers(timeout_s: int) -> None:
    """Ask the database for one row.

    Raises:
        psycopg2.Error: it cannot be reached, refuses us, or took longer.
    """
    session = connect(options=f"-c statement_timeout={timeout_s * 1000}")
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        session.close()


@contextmanager
def migration_lock() -> Iterator[None]:
    """Wait until the database is there and no other migration runs; hold that right."""
    session = _wait_for_database()
    session.autocommit = True
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        yield
    finally:
        session.close()


def _wait_for_database() -> connection:
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            return connect()
        except psycopg2.OperationalError as error:
            if time.monotonic() > until:
                sys.exit(f"the database did not answer for {_WAIT_S} s: {error}")
            sys.stderr.write(f"waiting for the database: {str(error).strip().splitlines()[0]}\n")
            time.sleep(2)
