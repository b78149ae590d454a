"""The same recipe on the laptop and on the cluster: the same data, losses and choice, served a moment later."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster_installation import Installation
from cluster_runs import WINE, Typist, losses, published
from windlass.compression.documents import CANDIDATES_NAME, Candidates
from windlass.evaluation.documents import EVALUATION_NAME, Evaluation
from windlass.models.spec import MODEL_NAME, ModelSpec
from windlass.storage import Workspace
from windlass.training.documents import TRAINING_NAME, TrainingSummary
from windlass.variants import GOLDEN_NAME, GoldenExamples

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RECIPES = Path(__file__).parents[3] / "pipelines" / "recipes"
COMPARED_STEPS, LOSS_TOLERANCE = 20, 1e-4
SERVED_WITHIN_S = 60
NO_MACHINE_LIMITS = ("--set", "budget.max_latency_p95_ms=null", "--set", "budget.max_memory=null")
ONE_CANDIDATE = ("--set", "compress.candidates=[int8]")
"""Networks that are trained on make a day's luck part of the choice; that they train in pods is a test of its own."""
SMALL = ("--set", "resources.cluster.worker.cpu=0.1", "--set", "resources.cluster.step.cpu=0.1")


def digest(result: dict[str, Any], step: str) -> str:
    return str(next(each["reference"]["digest"] for each in result["run"]["steps"] if each["step"] == step))


def quality(directory: Path) -> dict[str, tuple[float, float]]:
    """Of each candidate, the interval of the main metric."""
    evaluation = Evaluation.read(directory / EVALUATION_NAME)
    return {m.candidate: (m.quality[m.metric].low, m.quality[m.metric].high) for m in evaluation.measurements}


def ask_until_served(url: str, rows: list[Any], version: int) -> dict[str, Any]:
    deadline_s = time.monotonic() + SERVED_WITHIN_S
    while True:
        request = urllib.request.Request(
            url, json.dumps({"rows": rows}).encode(), {"content-type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                answer: dict[str, Any] = json.load(reply)
                if answer["version"] == version:
                    return answer
        except urllib.error.HTTPError as error:
            if error.code not in (404, 503):  # not known yet, or on its way
                raise
        assert time.monotonic() < deadline_s, f"version {version} is not served after {SERVED_WITHIN_S} s"
        time.sleep(1)


@pytest.mark.parametrize("name", ["digits", "california-housing"])
def test_a_recipe_ends_on_the_cluster_as_on_the_laptop_and_is_served_there(
    name: str, typist: Typist, installation: Installation
) -> None:
    if name == "california-housing" and "WINDLASS_DATA" not in os.environ:
        pytest.skip("needs the data sets of WINDLASS_DATA")
    words = [*NO_MACHINE_LIMITS, *ONE_CANDIDATE, *SMALL, "--set", "train.num_workers=2"]
    if name == "california-housing":
        words += ["--set", "train.epochs=5"]
    recipe = str(RECIPES / f"{name}.yaml")
    here = typist.run("run", recipe, *words)
    there = typist.on_cluster(recipe, *words)

    laptop, cluster = Workspace(typist.directory / ".windlass"), typist.workspace
    assert there["run"]["recipe_digest"] == here["run"]["recipe_digest"]
    assert digest(there, "prepare") == digest(here, "prepare")
    assert losses(published(there, cluster, "train"))[:COMPARED_STEPS] == pytest.approx(
        losses(published(here, laptop, "train"))[:COMPARED_STEPS], abs=LOSS_TOLERANCE
    )
    intervals = zip(
        sorted(quality(published(here, laptop, "evaluate")).items()),
        sorted(quality(published(there, cluster, "evaluate")).items()),
        strict=True,
    )
    for (candidate, (low, high)), (same_candidate, (other_low, other_high)) in intervals:
        assert candidate == same_candidate
        assert low <= other_high
        assert other_low <= high
    assert there["winner"] == here["winner"]

    registered = there["registration"]
    made = Candidates.read(published(there, cluster, "compress") / CANDIDATES_NAME).candidates
    variant = next(each.variant for each in made if each.name == there["winner"])
    rows = GoldenExamples.read(cluster.fetch(variant) / GOLDEN_NAME).rows[:2]
    with installation.forward(f"{installation.release}-gateway", 8080) as gateway:
        answer = ask_until_served(f"{gateway}/v1/models/{registered['model']}/predict", rows, registered["version"])
    assert len(answer["predictions"]) == 2


def test_a_pruned_network_is_trained_on_by_a_job_of_its_own(typist: Typist) -> None:
    recipe = WINE.replace("linear", "mlp") + "compress: {candidates: [pruned-50+int8], fine_tune: {epochs: 2}}\n"
    (typist.directory / "wine.yaml").write_text(recipe)
    process, run_id = typist.start_and_wait_for("wine.yaml", "making pruned-50+int8")
    process.communicate(timeout=240)
    shown = typist.run("runs", "attach", run_id, *typist.place)
    made = Candidates.read(published(shown, typist.workspace, "compress") / CANDIDATES_NAME).candidates
    pruned = next(each for each in made if each.name == "pruned-50+int8")
    directory = typist.workspace.fetch(pruned.model)
    assert "/steps/train/" in pruned.model.uri
    assert TrainingSummary.read(directory / TRAINING_NAME).num_workers == 2
    assert len(ModelSpec.read(directory / MODEL_NAME).edits) == 3


def test_what_a_laptop_finished_in_the_same_root_is_not_done_again(
    typist: Typist, cached_steps: Callable[[dict[str, Any]], dict[str, bool]]
) -> None:
    (typist.directory / "wine.yaml").write_text(WINE)
    endpoint = typist.settings.storage.public_endpoint
    assert endpoint is not None
    typist.environment |= {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
    typist.run("run", "wine.yaml", "--step", "train", "--root", typist.root)
    there = typist.on_cluster("wine.yaml", "--step", "compress")
    assert cached_steps(there) == {"prepare": True, "train": True, "compress": False}
