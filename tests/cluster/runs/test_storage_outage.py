"""Faults 9 and 10 from pods: the object store goes away in the middle of a run."""

from __future__ import annotations

import pytest

from cluster_runs import WINE, Typist, without_storage

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_node, pytest.mark.fault, pytest.mark.timeout(600)]

OUTAGE_S = 60
TRAINED_AGAIN = WINE.replace("epochs: 3", "epochs: 20")


def test_a_run_waits_for_an_object_store_that_is_away_for_a_minute(typist: Typist) -> None:
    (typist.directory / "wine.yaml").write_text(TRAINED_AGAIN)
    process, _ = typist.start_and_wait_for("wine.yaml", "2 of 2 pods run")
    without_storage(OUTAGE_S)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-4000:]
    result = typist.on_cluster("wine.yaml")
    assert result["registration"]["version"] == 1
    assert all(step["cached"] for step in result["run"]["steps"] if step["step"] in ("prepare", "train", "compress"))
