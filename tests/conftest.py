"""What the tests of several packages share lies in `support/`, which pytest has on its path."""

import os
import signal

import pytest

pytest_plugins = ["mlflow_fixtures"]


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means to a person: a shell starts what runs in its background so that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """No tracking of the user's, nor what MLflow left in the environment in an earlier test.

    A hook and not a fixture: a fixture of a module is set up before every fixture of a function, and starts processes.
    """
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "WINDLASS_ARTIFACT_ROOTS"):
        os.environ.pop(name, None)
