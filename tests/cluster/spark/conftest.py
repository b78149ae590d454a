"""The session's installation, which lets steps use Spark while this folder's tests run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster_installation import Installation


@pytest.fixture(scope="module", autouse=True)
def with_spark(installation: Installation) -> Iterator[None]:
    installation.upgrade("--set", "spark.enabled=true")
    yield
    installation.upgrade()
