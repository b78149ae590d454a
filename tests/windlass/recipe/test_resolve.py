from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devices import without_cuda
from windlass.data.errors import MissingColumnError
from windlass.recipe.errors import RecipeError
from windlass.recipe.keys import step_key
from windlass.recipe.load import check_recipe
from windlass.recipe.resolve import ResolvedRecipe, resolve
from windlass.recipe.runs import (
    RunNotFoundError,
    StepResult,
    finish_run,
    list_runs,
    new_run,
    read_recipe,
    read_run,
    record_step,
)
from windlass.recipe.steps import prepare
from windlass.storage import Reference, Workspace
from windlass.variants.engines import DeviceUnavailableError

WINE: dict[str, Any] = {"name": "wine", "task": "tabular-classification", "data": {"source": "sklearn:wine"}}
DIGITS: dict[str, Any] = {"name": "digits", "task": "image-classification", "data": {"source": "sklearn:digits"}}
CSV = "a,b,y\n1,2,0\n3,4,1\n"


def resolved(document: dict[str, Any], base: Path) -> ResolvedRecipe:
    return resolve(check_recipe(document, "recipe.yaml"), base)


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "data.csv").write_text(CSV)
    return {"name": "t", "task": "tabular-classification", "data": {"source": "data.csv", "target": "y"}}


def test_resolving_fills_in_the_default_architecture_of_the_task(tmp_path: Path) -> None:
    assert resolved(DIGITS, tmp_path).recipe.model.architecture == "cnn"
    assert resolved(WINE, tmp_path).recipe.model.architecture == "mlp"


def test_a_resolved_recipe_survives_being_written_and_read(tmp_path: Path) -> None:
    before = resolved(WINE, tmp_path)
    after = ResolvedRecipe.model_validate_json(before.model_dump_json(by_alias=True))
    assert after == before
    assert after.digest == before.digest


def test_the_digest_depends_on_the_content_of_the_data_and_not_on_where_it_lies(
    table: dict[str, Any], tmp_path: Path
) -> None:
    before = resolved(table, tmp_path).digest
    (tmp_path / "moved").mkdir()
    (tmp_path / "data.csv").rename(tmp_path / "moved" / "data.csv")
    assert resolved(table, tmp_path / "moved").digest == before
    (tmp_path / "moved" / "data.csv").write_text(CSV + "5,6,1\n")
    assert resolved(table, tmp_path / "moved").digest != before


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({**WINE, "model": {"architecture": "cnn"}}, "model.architecture: cnn needs images"),
        ({**WINE, "train": {"augment": {"flip": True}}}, "train.augment: tabular-classification has no images"),
        ({**WINE, "data": {"source": "sklearn:wine", "image_size": [8, 8]}}, "data.image_size"),
        ({**DIGITS, "data": {"source": "sklearn:digits", "target": "y"}}, "data.target: 'y'"),
        ({**DIGITS, "data": {"source": "sklearn:digits", "drop": ["a"]}}, "images have no columns"),
        ({**DIGITS, "data": {"source": "sklearn:digits", "split": {"group": "a"}}}, "need a table"),
        ({**WINE, "train": {"global_batch_size": 1, "num_workers": 2}}, "at least one example per worker"),
        (
            {**WINE, "task": "tabular-regression", "train": {"class_weights": "balanced"}},
            "train.class_weights: tabular-regression has no classes",
        ),
        ({**WINE, "data": {"source": "some.csv"}}, "data.target: is needed"),
        (
            {**WINE, "budget": {"metrics": {"f1": {"min": 0.9}, "r2": {"min": 0.9}}}},
            "budget.metrics: f1, r2: tabular-classification has accuracy, balanced_accuracy, precision_macro",
        ),
        ({**WINE, "model": {"architecture": "transformer"}}, "not one of mlp, cnn, linear"),
        ({**WINE, "model": {"architecture": "absent.py:Net"}}, "absent.py does not exist"),
        ({**WINE, "model": {"parameters": {"hiden": [8]}}}, "hiden"),
    ],
)
def test_settings_that_exclude_each_other_are_refused_by_name(
    recipe: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=says.replace("(", r"\(")):
        resolved(recipe, tmp_path)


def test_a_precision_that_this_machine_cannot_honour_is_refused_before_anything_runs(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that can do bf16")
    with pytest.raises(RecipeError, match=r"train\.precision: bf16 needs a CUDA GPU"):
        resolved({**WINE, "train": {"precision": "bf16"}}, tmp_path)


@without_cuda
def test_a_device_that_this_machine_does_not_have_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"serve\.device: cuda cannot be used here: .*onnxruntime-gpu.*, or take cpu"):
        resolved({**WINE, "serve": {"device": "cuda"}}, tmp_path)


@without_cuda
def test_the_first_step_refuses_an_image_whose_engine_cannot_use_the_device(tmp_path: Path) -> None:
    recipe = check_recipe(
        {**WINE, "serve": {"device": "cuda"}, "resources": {"cluster": {"step": {"gpus": 1}}}}, "recipe.yaml"
    )
    on_cluster = resolve(recipe, tmp_path, place="cluster")
    with pytest.raises(DeviceUnavailableError, match="which is built without CUDA"):
        prepare(on_cluster, Workspace(tmp_path / "root"))


def test_another_device_is_another_result_and_the_gpus_of_its_pods_are_not(tmp_path: Path) -> None:
    def digest(device: str, gpus: int) -> str:
        settings = {"serve": {"device": device}, "resources": {"cluster": {"step": {"gpus": gpus}}}}
        return resolve(check_recipe({**WINE, **settings}, "recipe.yaml"), tmp_path, place="cluster").digest

    assert digest("cpu", 0) == digest("cpu", 1) != digest("cuda", 1)


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"max_memory": "1GB"}, "budget.max_memory: memory of a GPU is not measured"),
        ({"max_energy": 5}, "budget.max_energy: energy of a GPU is not measured"),
        ({"objective": "memory"}, "budget.objective: memory of a GPU is not measured"),
        ({"objective": "energy"}, "budget.objective: energy of a GPU is not measured"),
    ],
)
def test_a_budget_that_bounds_what_is_not_measured_on_a_gpu_is_refused(
    tmp_path: Path, budget: dict[str, Any], says: str
) -> None:
    recipe = {**WINE, "serve": {"device": "cuda"}, "budget": budget}
    with pytest.raises(RecipeError, match=says):
        resolve(check_recipe(recipe, "recipe.yaml"), tmp_path, place="cluster")


def test_a_users_module_is_named_by_its_digest(table: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**table, "model": {"architecture": "net.py:Net"}}
    (tmp_path / "net.py").write_text("class Net: ...\n")
    before = resolved(recipe, tmp_path)
    assert before.module is not None
    (tmp_path / "net.py").write_text("class Net: x = 1\n")
    assert resolved(recipe, tmp_path).digest != before.digest


def test_a_key_changes_with_what_the_step_depends_on_and_with_nothing_else() -> None:
    assert step_key("train", dataset="a", epochs=1) == step_key("train", epochs=1, dataset="a")
    assert step_key("train", dataset="a", epochs=1) != step_key("train", dataset="a", epochs=2)
    assert step_key("train", dataset="a") != step_key("prepare", dataset="a")


def test_a_run_is_recorded_step_by_step_and_listed_newest_first(tmp_path: Path) -> None:
    workspace, recipe = Workspace(tmp_path / "root"), resolved(WINE, tmp_path)
    first, second = new_run(workspace, recipe), new_run(workspace, recipe)
    step = StepResult(
        step="prepare",
        key="k",
        reference=Reference(uri="u", digest="d"),
        cached=False,
        seconds=0.5,
        summary={"rows": 178},
    )
    record_step(workspace, first, step)
    finish_run(workspace, first, 0)
    finish_run(workspace, second, 75)
    assert read_run(workspace, first).steps == (step,)
    assert read_run(workspace, first).status == "succeeded"
    assert [run.run_id for run in list_runs(workspace)] == [second, first]
    assert list_runs(workspace)[0].status == "interrupted"
    assert read_recipe(workspace, first) == recipe


def test_a_run_that_does_not_exist_says_where_the_others_are(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="windlass runs"):
        read_run(Workspace(tmp_path / "root"), "absent")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train": {"precision": "bf16"}}, "train.precision: bf16 needs a CUDA GPU; set resources.cluster.worker.gpus"),
        (
            {"train": {"num_workers": 3}, "resources": {"cluster": {"worker": {"processes": 2}}}},
            "resources.cluster.worker.processes: 2: train.num_workers, 3, is not a multiple of it",
        ),
        (
            {"train": {"num_workers": 2}, "resources": {"cluster": {"worker": {"processes": 2, "gpus": 1}}}},
            "resources.cluster.worker.gpus: 1: each of the 2 processes of a pod uses one",
        ),
        (
            {"resources": {"memory": "4GB", "cluster": {"step": {"memory": "4GB"}}}},
            "resources.cluster.step.memory: 4,000,000,000 bytes: preparing data takes resources.memory, 4,000,000,000",
        ),
        (
            {"serve": {"device": "cuda"}},
            "serve.device: cuda needs a GPU in the pods of the steps that measure; set resources.cluster.step.gpus: 1",
        ),
        (
            {"register": {"tracking_uri": "sqlite:///x.db"}},
            "register.tracking_uri: sqlite:///x.db: pods need a server",
        ),
    ],
)
def test_what_a_cluster_cannot_honour_is_refused_by_name(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as refused:
        resolve(check_recipe({**WINE, **settings}, "recipe.yaml"), tmp_path, place="cluster")
    assert says in str(refused.value)


def test_a_sensitive_column_that_the_file_lacks_is_told_before_anything_runs(
    table: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(MissingColumnError) as refused:
        resolved({**table, "evaluate": {"sensitive": ["bb"]}}, tmp_path)
    assert str(refused.value).startswith("evaluate.sensitive: ")
    assert "has no column 'bb'; did you mean 'b'? its columns: a, b, y" in str(refused.value)
    assert resolved({**table, "evaluate": {"sensitive": ["b"]}}, tmp_path).recipe.evaluate.sensitive == ("b",)


def test_sensitive_columns_are_refused_where_the_analysis_is_switched_off(
    table: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(
        RecipeError, match=r"the fairness of sensitive columns is measured on analysis\.rows, which is 0"
    ):
        resolved({**table, "evaluate": {"sensitive": ["b"], "analysis": {"rows": 0}}}, tmp_path)


def test_sensitive_columns_of_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.sensitive: images have no columns; slices by class"):
        resolved({**DIGITS, "evaluate": {"sensitive": ["sex"]}}, tmp_path)
