"""`python -m tracking_server migrate`, `serve [mlflow server's options…]`, `ready`.

Settings are MLflow's own variables: MLFLOW_BACKEND_STORE_URI (`postgresql+psycopg2://USER@HOST/DATABASE`; the password
may come apart, in PGPASSWORD), MLFLOW_ARTIFACTS_DESTINATION or MLFLOW_DEFAULT_ARTIFACT_ROOT,
MLFLOW_SERVER_ALLOWED_HOSTS.
Beside them MLFLOW_HOST, MLFLOW_PORT and MLFLOW_WORKERS: where it listens, in how many processes.
"""

from __future__ import annotations

import http.client
import os
import signal
import sys

from tracking_server import database

_PROBE_S = 2
_PORT = os.environ.get("MLFLOW_PORT", "5000")


def migrate() -> None:
    """Bring the database's tables to what this version of MLflow needs; an empty database gets them."""
    from mlflow.cli import cli

    with database.migration_lock():
        # Called, not started, so that no list of processes shows a password in the address.
        cli(["db", "upgrade", os.environ["MLFLOW_BACKEND_STORE_URI"]], standalone_mode=False)


def serve(options: list[str]) -> None:
    """Become MLflow's server."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", "5")
    host, workers = os.environ.get("MLFLOW_HOST", "0.0.0.0"), os.environ.get("MLFLOW_WORKERS", "1")  # noqa: S104
    command = ["mlflow", "server", "--host", host, "--port", _PORT, "--workers", workers, *options]
    os.execvp(command[0], command)  # noqa: S606


def ready() -> None:
    """End with 0 when the server and its database answer: the server's own /health says 200 without a database."""
    # Looking up a name has no timeout of its own.
    signal.alarm(2 * _PROBE_S)
    health = http.client.HTTPConnection("127.0.0.1", int(_PORT), timeout=_PROBE_S)
    try:
        database.answers(_PROBE_S)
        health.request("GET", "/health")
        status = health.getresponse().status
    except database.Error as error:
        sys.exit(f"the database does not answer: {error}")
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"the server does not answer: {error}")
    if status != http.client.OK:
        sys.exit(f"the server answers with status {status}; see its log")


def main() -> None:
    match sys.argv[1:]:
        case ["migrate"]:
            migrate()
        case ["serve", *options]:
            serve(options)
        case ["ready"]:
            ready()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
