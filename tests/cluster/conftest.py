"""One installation of the chart for all tests of a session that want to run something on a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cluster_installation
from cluster_installation import Installation


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """The chart, started, in a namespace of its own; its `settings` say all that a run needs."""
    if reason := cluster_installation.why_not():
        pytest.skip(reason)
    with cluster_installation.installed() as started:
        yield started
