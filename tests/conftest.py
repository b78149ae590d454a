"""What the tests of several packages share lies in `support/`, which pytest has on its path."""

import signal

import pytest

pytest_plugins = ["mlflow_fixtures"]


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means to a person: a shell starts what runs in its background so that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_tracking_server_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's, nor one that MLflow left in the environment in an earlier test."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
