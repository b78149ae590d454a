"""A typist for each test, with a root of its own in the session's installation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster_installation import Installation
from cluster_runs import Typist


@pytest.fixture
def typist(installation: Installation, tmp_path: Path, request: pytest.FixtureRequest) -> Typist:
    return Typist(installation, tmp_path, request.node.name.replace("[", "-").replace("]", "")[:60])


@pytest.fixture
def cached_steps() -> Callable[[dict[str, Any]], dict[str, bool]]:
    return lambda result: {step["step"]: step["cached"] for step in result["run"]["steps"]}
