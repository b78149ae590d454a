"""The session's installation, which lets steps use Spark while this folder's tests run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_installation import Installation
from cluster_runs import Typist


@pytest.fixture(scope="module")
def with_spark(installation: Installation) -> Iterator[Installation]:
    installation.upgrade("--set", "spark.enabled=true")
    yield installation
    installation.upgrade()


@pytest.fixture
def typist(with_spark: Installation, tmp_path: Path, request: pytest.FixtureRequest) -> Typist:
    return Typist(with_spark, tmp_path, request.node.name.replace("[", "-").replace("]", "")[:60])
