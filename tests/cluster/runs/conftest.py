"""What the tests of runs ask of a run's result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def cached_steps() -> Callable[[dict[str, Any]], dict[str, bool]]:
    return lambda result: {step["step"]: step["cached"] for step in result["run"]["steps"]}
