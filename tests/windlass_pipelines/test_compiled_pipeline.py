"""The compiled pipeline, as a cluster gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from windlass_pipelines.request import STEPS

COMPILED = Path(__file__).parents[2] / "pipelines" / "windlass_pipelines" / "recipe_pipeline.yaml"


@pytest.fixture(scope="module")
def spec() -> Any:
    return yaml.safe_load(COMPILED.read_text(encoding="utf-8"))


def test_the_compiled_pipeline_is_that_of_the_source(tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    code = (
        f"from pathlib import Path; from windlass_pipelines.compile import compile_to; compile_to(Path({str(again)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert again.read_text() == COMPILED.read_text(), "run `make generate`"


def test_it_has_one_component_for_each_step(spec: Any) -> None:
    executors = spec["deploymentSpec"]["executors"]
    assert sorted(executors) == sorted(f"exec-{step}" for step in STEPS)


def test_nothing_is_installed_when_a_step_starts(spec: Any) -> None:
    for executor in spec["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_the_image_has_a_fixed_tag(spec: Any) -> None:
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert len(images) == 1
    assert images.pop().rpartition(":")[2] not in ("", "latest")


def test_the_cache_of_kfp_is_off(spec: Any) -> None:
    tasks = list(spec["root"]["dag"]["tasks"].values()) + list(
        spec["components"]["comp-condition-1"]["dag"]["tasks"].values()
    )
    steps = [task for task in tasks if "condition" not in task["componentRef"]["name"]]
    assert len(steps) == len(STEPS)
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in steps)


def test_only_a_winner_is_registered_and_the_condition_compares_numbers(spec: Any) -> None:
    condition = spec["root"]["dag"]["tasks"]["condition-1"]["triggerPolicy"]["condition"]
    assert condition == "int(inputs.parameter_values['pipelinechannel--select-Output']) == 1"
    assert list(spec["components"]["comp-condition-1"]["dag"]["tasks"]) == ["register"]
