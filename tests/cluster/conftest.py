"""One installation of the chart for all tests of a session, and a typist for each that runs something on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import cluster_installation
from cluster_installation import Installation
from cluster_runs import Typist


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """The chart, started, in a namespace of its own; its `settings` say all that a run needs."""
    if reason := cluster_installation.why_not():
        pytest.skip(reason)
    with cluster_installation.installed() as started:
        yield started


@pytest.fixture
def typist(installation: Installation, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Typist]:
    """With a root of the test's own."""
    with Typist(installation, tmp_path, request.node.name.replace("[", "-").replace("]", "")[:60]) as typing:
        yield typing
