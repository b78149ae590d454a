"""What Kubeflow Pipelines gets for one recipe."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from installations import installation_settings
from windlass.cluster.settings import SETTINGS_VARIABLE, ClusterSettings, StorageSettings
from windlass_pipelines.request import STEPS

GOLDEN = Path(__file__).with_name("test_kubeflow_package.yaml")
SETTINGS = installation_settings(
    namespace="team-a",
    image="registry.example.org/windlass:1-cpu",
    image_pull_secrets=("pull",),
    user_id=1234,
    storage=StorageSettings(root="s3://runs/team-a", endpoint="http://s3.example.org", secret="storage"),
    tracking_uri="http://windlass-mlflow.team-a:5000",
    env_secrets={"database": ("PASSWORD", "HOME", "AWS_ACCESS_KEY_ID", "not a name")},
)
COMPILE = """\
import sys, yaml
from pathlib import Path
from windlass.cluster.settings import ClusterSettings
from windlass.recipe.model import ClusterResources
from windlass_pipelines.kubeflow_package import compile_run

settings = ClusterSettings.model_validate_json(sys.argv[2])
asked = ClusterResources.model_validate({
    "step": {"cpu": 1.5, "memory": "3GB", "gpus": 1}, "node_selector": {"disk": "ssd"},
    "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}, {"key": "team", "value": "a"}],
    "env_secrets": ["database"], "image_pull_policy": "Always",
    "worker": {"gpus": 1}, "checkpoint_claim": "checkpoints", "queue": "batch", "training_timeout": "2h",
})
spec = compile_run(settings, asked, "wine-20260101-000000-0a1b", last_step="register")
Path(sys.argv[1]).write_text(yaml.safe_dump(spec))
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("package") / "spec.yaml"
    subprocess.run(
        [sys.executable, "-c", COMPILE, str(path), SETTINGS.model_dump_json()], check=True, capture_output=True
    )
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def place_of(spec: Any, step: str) -> Any:
    """What is of the place in one step: the platform's part, and of the container all but its program."""
    spec = copy.deepcopy(spec)
    container = spec["pipeline_spec"]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    platform = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{step}"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    environment.pop(SETTINGS_VARIABLE)
    return {
        "image": container["image"],
        "environment": environment,
        "resources": container["resources"],
        "kubernetes": platform,
    }


def test_every_resource_of_a_recipe_arrives_in_the_step_as_the_golden_file_says(spec: Any) -> None:
    assert place_of(spec, "prepare") == yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("step", STEPS)
def test_all_steps_are_of_the_same_place(spec: Any, step: str) -> None:
    place, first = place_of(spec, step), place_of(spec, "prepare")
    assert place["kubernetes"]["podMetadata"]["labels"].pop("windlass.io/step") == step
    first["kubernetes"]["podMetadata"]["labels"].pop("windlass.io/step")
    place["resources"].pop("accelerator", None)
    assert place == first


def test_only_the_steps_that_measure_get_a_gpu(spec: Any) -> None:
    with_gpu = {step for step in STEPS if "accelerator" in place_of(spec, step)["resources"]}
    assert with_gpu == {"evaluate", "select"}
    asked = place_of(spec, "evaluate")["resources"]["accelerator"]
    assert (asked["resourceType"], asked["resourceCount"]) == ("nvidia.com/gpu", "1")


def test_a_step_finds_the_installation_in_its_environment(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for executor in spec["pipeline_spec"]["deploymentSpec"]["executors"].values():
        (text,) = [each["value"] for each in executor["container"]["env"] if each["name"] == SETTINGS_VARIABLE]
        monkeypatch.setenv(SETTINGS_VARIABLE, text)
        assert ClusterSettings.from_environment() == SETTINGS


def test_apart_from_its_place_it_is_the_compiled_pipeline_beside_the_source(spec: Any) -> None:
    compiled = Path(__file__).parents[2] / "pipelines" / "windlass_pipelines" / "recipe_pipeline.yaml"
    general = yaml.safe_load(compiled.read_text(encoding="utf-8"))
    mine = copy.deepcopy(spec["pipeline_spec"])
    for document in (general, mine):
        for executor in document["deploymentSpec"]["executors"].values():
            for key in ("image", "env", "resources"):
                executor["container"].pop(key, None)
    assert mine == general


def test_a_key_of_a_secret_never_replaces_what_windlass_sets(spec: Any) -> None:
    for executor in spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        variables = [
            (each["secretName"], key["envVar"]) for each in executor["secretAsEnv"] for key in each["keyToEnv"]
        ]
        assert [variable for secret, variable in variables if secret == "database"] == ["PASSWORD"]
