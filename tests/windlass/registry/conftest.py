"""The stores of these tests come from `tests/support/mlflow_fixtures.py`."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def only_the_stores_of_the_tests(no_tracking_of_the_developer: None) -> None:
    """Nothing that the developer's environment names is touched."""
