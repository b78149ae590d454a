from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from windlass.recipe.errors import RecipeError
from windlass.recipe.load import json_schema, load_recipe, parse_recipe

MINIMAL: dict[str, Any] = {"name": "wine", "task": "tabular-classification", "data": {"source": "sklearn:wine"}}
RECIPES = sorted((Path(__file__).parents[3] / "pipelines" / "recipes").glob("*.yaml"))


def problems_of(changes: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(yaml.safe_dump({**MINIMAL, **changes}).encode(), "recipe.yaml")
    return caught.value.problems


def test_three_keys_are_a_recipe_and_the_rest_has_defaults() -> None:
    recipe = parse_recipe(yaml.safe_dump(MINIMAL).encode(), "recipe.yaml")
    assert recipe.train.global_batch_size == 64
    assert recipe.registration.alias == "champion"
    assert recipe.budget.max_size is None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_shipped_recipe_is_valid(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_sizes_and_numbers_are_read_as_people_write_them() -> None:
    text = yaml.safe_dump(MINIMAL) + "train: {learning_rate: 3e-3}\nbudget: {max_size: 60KB, max_memory: 200MiB}\n"
    recipe = parse_recipe(text.encode(), "recipe.yaml")
    assert recipe.train.learning_rate == pytest.approx(0.003)
    assert recipe.budget.max_size == 60_000
    assert recipe.budget.max_memory == 200 * 2**20


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": {"epoch": 3}}, ("train.epoch: unknown key; did you mean epochs?", "allowed here: epochs")),
        ({"data": {"source": "x", "split": {"tset": 0.1}}}, ("data.split.tset: unknown key; did you mean test?",)),
        ({"register": {"alais": "x"}}, ("register.alais: unknown key; did you mean alias?",)),
        ({"train": {"epochs": "three"}}, ('train.epochs: "three"', "valid integer")),
        ({"train": {"epochs": "3"}}, ('train.epochs: "3"', "valid integer")),
        ({"train": {"epochs": True}}, ("train.epochs: true", "valid integer")),
        ({"train": {"epochs": -2}}, ("train.epochs: -2", "greater than 0")),
        ({"train": {"optimizer": "adan"}}, ('train.optimizer: "adan"', "'adamw', 'adam', 'sgd' or 'rmsprop'")),
        ({"budget": {"max_size": "big"}}, ('budget.max_size: "big"', "write it as 60KB")),
        ({"budget": {"max_quality_drop": "2"}}, ('budget.max_quality_drop: "2"', "write it as 0.01 or 2%")),
        ({"budget": {"max_quality_drop": -0.1}}, ("budget.max_quality_drop: -0.1", "a drop is 0 or more")),
        ({"budget": {"metrics": {"mae": {}}}}, ("budget.metrics.mae", "give min, max or both")),
        ({"budget": {"metrics": {"mae": {"min": 2, "max": 1}}}}, ("budget.metrics.mae", "min 2 is above max 1")),
        ({"budget": {"metrics": {"mae": {"mxa": 2}}}}, ("budget.metrics.mae.mxa: unknown key; did you mean max?",)),
        ({"budget": {"confidence": 95}}, ("budget.confidence: 95", "less than 1")),
        ({"budget": {"batch_size": 16}}, ("budget.batch_size: 16", "1, 8 or 32")),
        ({"budget": {"objective": "speed"}}, ('budget.objective: "speed"', "'latency', 'memory' or 'energy'")),
        ({"task": "translation"}, ('task: "translation"', "'image-classification'")),
        ({"name": "Not A Name"}, ('name: "Not A Name"',)),
        ({"data": {}}, ("data.source: is needed and absent",)),
        ({"data": {"source": "x", "split": {"validation": 0.5, "test": 0.5}}}, ("leave nothing for train",)),
        ({"data": {"source": "x", "split": {"group": "a", "time": "b"}}}, ("exclude each other",)),
    ],
)
def test_a_mistake_is_told_with_its_path_its_value_and_what_is_allowed(
    changes: dict[str, Any], says: tuple[str, ...]
) -> None:
    (problem,) = problems_of(changes)
    for part in says:
        assert part in problem


def test_several_mistakes_are_told_together() -> None:
    problems = problems_of({"train": {"epochs": 0, "optimizer": "x"}, "budgett": {}})
    assert len(problems) == 3


def test_a_setting_can_be_overridden_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    recipe = load_recipe(path, ["train.epochs=3", "budget.max_size=1MB", "data.drop=[ash, hue]"])
    assert (recipe.train.epochs, recipe.budget.max_size, recipe.data.drop) == (3, 1_000_000, ("ash", "hue"))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("name.x=3", "name is 'wine', not a section"),
        ("train.epoks=3", "did you mean epochs"),
    ],
)
def test_a_bad_override_is_refused_by_name(tmp_path: Path, override: str, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(RecipeError, match=says):
        load_recipe(path, [override])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a mapping"),
        (b"- a\n- b\n", "not a mapping"),
        (b"name: [", "line 1"),
        (b"name: a\nname: b\n", "key 'name' stands twice"),
        (b"1: a\n", "key 1 is not text"),
        (b"name: \xff", "byte 6 is not UTF-8"),
        (b"name: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        (b"#" * (1 << 21), "are no recipe"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_the_place(data: bytes, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_recipe(data, "recipe.yaml")


def test_a_missing_recipe_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="windlass init"):
        load_recipe(tmp_path / "absent.yaml")


def test_the_json_schema_describes_every_section() -> None:
    sections = {
        "name",
        "task",
        "data",
        "model",
        "train",
        "compress",
        "evaluate",
        "budget",
        "register",
        "serve",
        "resources",
    }
    assert set(json_schema()["properties"]) == sections


@pytest.mark.attack
@pytest.mark.parametrize(
    "uri", ["http://anna:s3cr3t@mlflow:5000", "https://t0ken@mlflow", "postgresql://u:s3cr3t@db/x"]
)
def test_credentials_in_a_recipe_are_refused_with_where_to_put_them_and_not_repeated(uri: str) -> None:
    (problem,) = problems_of({"register": {"tracking_uri": uri}})
    assert problem.startswith("register.tracking_uri: ")
    assert "holds a user name or a password, and recipes are stored as they are" in problem
    assert "put the whole address into MLFLOW_TRACKING_URI" in problem
    assert "s3cr3t" not in problem
    assert "t0ken" not in problem


@pytest.mark.parametrize("uri", ["http://mlflow:5000", "sqlite:////home/a@b/mlflow.db", "https://host/path@x"])
def test_an_address_without_credentials_is_taken(uri: str) -> None:
    document = {**MINIMAL, "register": {"tracking_uri": uri}}
    assert parse_recipe(yaml.safe_dump(document).encode(), "recipe.yaml").registration.tracking_uri == uri


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"model": "no name"}, 'register.model: "no name": not a model name; use letters, digits, dots'),
        ({"alias": "latest"}, 'register.alias: "latest": not an alias; use letters, digits, dashes and underscores'),
    ],
)
def test_names_that_the_registry_cannot_hold_are_refused(section: dict[str, str], says: str) -> None:
    (problem,) = problems_of({"register": section})
    assert says in problem


def test_a_recipe_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot be read: Is a directory"):
        load_recipe(tmp_path)


def test_yaml_with_characters_that_it_does_not_allow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not YAML: "):
        parse_recipe(b"name: \x00", "recipe.yaml")
