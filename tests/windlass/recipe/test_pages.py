"""What Kubeflow's pages show of each step."""

from __future__ import annotations

from pathlib import Path

import pytest

from report_facts import candidates, classes_bundle, evaluation_of, training
from windlass.compression.documents import CANDIDATES_NAME
from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.evaluation.documents import EVALUATION_NAME
from windlass.recipe.pages import markdown
from windlass.registry.documents import REGISTRATION_NAME, Registration
from windlass.training.documents import TRAINING_NAME


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """What every step would publish, in one directory."""
    bundle = classes_bundle(tmp_path)
    evaluation_of(DatasetDescription.read(bundle / DATASET_NAME)).write(bundle / EVALUATION_NAME)
    candidates().write(bundle / CANDIDATES_NAME)
    training().write(bundle / TRAINING_NAME)
    Registration(
        model="irises", version=3, alias="champion", run_id="4f2a", tracking_uri="http://mlflow", run_key="a" * 32
    ).write(bundle / REGISTRATION_NAME)
    return bundle


@pytest.mark.parametrize(
    ("step", "lines"),
    [
        ("prepare", ["| train | 700 | 231 | 221 | 248 |", "| petal_length | number | feature |"]),
        (
            "prepare",
            ["- 3 rows left out: the target is missing", "- column plant_id left out: a name of its own for every row"],
        ),
        ("train", ["The weights of epoch 10 were kept, accuracy 0.9650 on validation."]),
        ("compress", ["| pruned-30+int8 | pruned-30, int8 | 0.0060 | distilled-50+int8 |"]),
        ("compress", ["- low-rank was not made: no layer is large enough for a factorization to save anything"]),
        (
            "evaluate",
            ["| int8 | 0.9680 (0.9560 to 0.9800) | 0.0020 (-0.0020 to 0.0060) | 103.0 KB | 0.078 ms | 74.6 MB |"],
        ),
        (
            "register",
            ["# irises, version 3", "The alias **champion** names it.", "MLflow run `4f2a` at http://mlflow."],
        ),
    ],
)
def test_a_step_says_in_markdown_what_it_made(published: Path, step: str, lines: list[str]) -> None:
    text = markdown(step, published)
    for line in lines:
        assert line in text


def test_names_of_users_end_no_column_and_begin_no_tag(published: Path) -> None:
    assert "| split | rows | setosa | versicolor | virginica &lt;b> |" in markdown("prepare", published)
