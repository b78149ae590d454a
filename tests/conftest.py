"""What the tests of several packages share lies in `support/`, which pytest has on its path."""

import pytest

pytest_plugins = ["mlflow_fixtures"]


@pytest.fixture(autouse=True)
def _no_tracking_server_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's, nor one that MLflow left in the environment in an earlier test."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
