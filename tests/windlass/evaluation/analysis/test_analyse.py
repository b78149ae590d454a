"""The whole analysis of real networks, exported and served as ONNX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.compression.config import CompressConfig
from windlass.compression.make import make_variant
from windlass.compression.methods import parse_chain
from windlass.compression.parts import export_parts
from windlass.data.bundle import Bundle
from windlass.data.config import DataConfig
from windlass.data.features import encode
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source
from windlass.evaluation.analysis.analyse import analyse
from windlass.evaluation.analysis.documents import ANALYSIS_NAME, Analysis
from windlass.evaluation.analysis.time_limit import TimeLimit
from windlass.evaluation.config import EvaluateConfig
from windlass.models import build, make_spec, save
from windlass.storage import Reference
from windlass.tasks import get_task

pytestmark = pytest.mark.slow
REFERENCE = Reference(uri="nowhere", digest="0" * 64)


@dataclass(frozen=True)
class Trained:
    """A bundle, a model trained on it, and its variants by name, the compressed one first."""

    task: str
    dataset: Path
    model: Path
    variants: dict[str, Path]

    def analyse(self, output: Path, **settings: Any) -> Analysis:
        output.mkdir()
        return analyse(
            self.variants,
            uncompressed="fp32",
            model=self.model,
            dataset=self.dataset,
            output=output,
            task=self.task,
            config=EvaluateConfig.model_validate({"bootstrap": 200, **settings}),
            threads=1,
        )


def make_trained(
    directory: Path,
    task: str,
    data: dict[str, Any],
    architecture: str,
    epochs: int,
    carry: tuple[str, ...] = (),
    **parameters: Any,
) -> Trained:
    """Prepare, train by a short loop, export and quantize."""
    import torch

    dataset, model = directory / "dataset", directory / "model"
    dataset.mkdir()
    model.mkdir()
    config, kind = DataConfig.model_validate(data), get_task(task)
    prepare(
        config,
        modality=kind.modality,
        target_kind=kind.target_kind,
        source=resolve_source(config.source, directory),
        output=dataset,
        memory_limit_bytes=10**9,
        threads=2,
        carry=carry,
    )
    bundle = Bundle.open(dataset)
    spec = make_spec(
        architecture,
        parameters,
        input_shape=kind.input_shape(bundle.description),
        num_outputs=kind.num_outputs(bundle.description),
    )
    torch.manual_seed(0)
    network, encoded = build(spec), encode(bundle, "train")
    features, targets = torch.from_numpy(encoded.features), torch.from_numpy(encoded.targets)
    if kind.modality == "images":
        from windlass.models.preprocess import PixelScaling

        (transform,) = bundle.description.transforms
        features = PixelScaling(transform.mean, transform.std)(features)  # type: ignore[union-attr]
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(targets)).split(64):
            optimizer.zero_grad()
            kind.loss(network(features[rows]), targets[rows], None).mean().backward()
            optimizer.step()
    save(model, spec, network.eval())
    parts = export_parts(kind, model, bundle)
    variants: dict[str, Path] = {}
    for name in ("fp32", "int8"):
        variants[name] = directory / name
        variants[name].mkdir()
        make_variant(
            parse_chain(name),
            parts,
            config=CompressConfig(),
            task=task,
            model=REFERENCE,
            bundle=bundle,
            output=variants[name],
            uncompressed=variants.get("fp32") if name != "fp32" else None,
        )
    return Trained(task, dataset, model, {"int8": variants["int8"], "fp32": variants["fp32"]})


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("digits")
    return make_trained(directory, "image-classification", {"source": "sklearn:digits"}, "cnn", 4, channels=[8, 16])


@pytest.fixture(scope="module")
def loans(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Whether a loan is repaid: by income alone. The model is kept from `sex`, but women earn less."""
    rng = np.random.default_rng(4)
    directory = tmp_path_factory.mktemp("loans")
    sex = rng.choice(["f", "m"], 3000)
    income = rng.normal(np.where(sex == "f", -0.5, 0.5), 1)
    children, city = rng.integers(0, 4, 3000), rng.choice(["Bonn", "Rome"], 3000)
    repaid = (income + rng.normal(scale=0.3, size=3000) > 0).astype(int)
    rows = zip(income, children, city, sex, repaid, strict=True)
    text = "income,children,city,sex,repaid\n" + "".join(f"{i:.6f},{c},{t},{s},{r}\n" for i, c, t, s, r in rows)
    (directory / "loans.csv").write_text(text)
    data = {"source": "loans.csv", "target": "repaid", "drop": ["sex"], "columns": {"children": "number"}}
    return make_trained(directory, "tabular-classification", data, "mlp", 8, carry=("sex",), hidden=[16])


def test_pictures_are_attacked_perturbed_and_explained(digits: Trained, tmp_path: Path) -> None:
    found = digits.analyse(tmp_path / "a")
    assert (found.variants, found.uncompressed, found.split) == (("int8", "fp32"), "fp32", "validation")
    assert found.rows == found.rows_of_split == 269
    assert found.clean["fp32"].point > 0.9

    assert found.adversarial is not None
    quality = {
        (attack.method, attack.strength): {name: result.quality for name, result in attack.by_variant.items()}
        for attack in found.adversarial.attacks
    }
    for name in found.variants:
        assert quality["pgd", 32.0][name].high < quality["random", 32.0][name].low, "intent does more than chance"
        assert quality["pgd", 32.0][name].point <= quality["fgsm", 32.0][name].point
        assert quality["pgd", 32.0][name].point < quality["pgd", 12.0][name].point < quality["pgd", 4.0][name].point

    assert {perturbation.kind for perturbation in found.robustness} == {"noise", "blur", "shift"}
    assert found.left_out == ()
    assert found.importance is None
    assert found.image_examples is not None
    wrong = [e for e in found.image_examples.examples if e.by_variant["int8"].answered != e.actual]
    assert 4 < len(found.image_examples.examples) <= 8
    assert wrong == list(found.image_examples.examples[4:])
    assert {path.name for path in (tmp_path / "a").iterdir()} == {ANALYSIS_NAME, *found.files}
    for name in found.files:
        assert (tmp_path / "a" / name).read_bytes().startswith(b"\x89PNG")
    assert Analysis.read(tmp_path / "a" / ANALYSIS_NAME) == found

    again = digits.analyse(tmp_path / "b")
    assert again == found, "the same rows, noise, attacks and maps each time"
    for name in found.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_table_is_attacked_in_its_numbers_and_compared_by_a_column_that_the_model_does_not_see(
    loans: Trained, tmp_path: Path
) -> None:
    found = loans.analyse(tmp_path / "a", sensitive=["sex"], analysis={"rows": 400, "attack_rows": 300})
    assert (found.rows, found.rows_of_split) == (400, 450)
    assert found.notes == ("400 of the 450 rows of validation were looked at, drawn with a fixed seed.",)

    assert found.importance is not None
    for importance in found.importance.by_variant.values():
        assert importance[0].column == "income"
        assert importance[0].drop.low > 0.2
        assert {column.column for column in importance} == {"income", "children", "city"}

    assert found.adversarial is not None
    assert found.adversarial.rows == 300
    at_most = {attack.method: attack.by_variant["fp32"] for attack in found.adversarial.attacks}
    assert at_most["pgd"].drop.low > at_most["random"].drop.high

    (fairness,) = found.fairness
    assert (fairness.column, fairness.is_feature) == ("sex", False)
    parity = fairness.by_variant["int8"].demographic_parity_difference
    assert parity is not None
    assert parity.low > 0.2, "what follows from income follows for women"


def test_where_the_time_is_over_at_once_quality_slices_and_fairness_are_there_all_the_same(
    loans: Trained, digits: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = loans.analyse(tmp_path / "table", sensitive=["sex"], analysis={"rows": 400, "max_time": "1ms"})
    assert set(table.clean) == {"int8", "fp32"}
    assert table.slices.tested > 0
    assert [entry.column for entry in table.fairness] == ["sex"]
    assert (table.robustness, table.importance) == ((), None)
    assert table.adversarial is not None
    assert table.adversarial.attacks == ()
    assert [cut.part for cut in table.left_out] == ["robustness", "importance", "adversarial"]
    assert not any(cut.done for cut in table.left_out)
    assert table.notes[-1].startswith("evaluate.analysis.max_time, 0.001 s, was over after 0 of 9 changes of the rows,")
    assert table.notes[-1] in capfd.readouterr().err

    pictures = digits.analyse(tmp_path / "pictures", analysis={"max_time": "1ms"})
    assert [cut.part for cut in pictures.left_out] == ["robustness", "image_examples", "adversarial"]
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [ANALYSIS_NAME]


def test_attacks_stay_in_range_and_touch_neither_categories_nor_missing_values(loans: Trained) -> None:
    import pyarrow as pa

    from windlass.evaluation.analysis.adversarial import Attacker, NumberSpace
    from windlass.evaluation.analysis.sample import read_reference, read_sample
    from windlass.models import load

    bundle = Bundle.open(loans.dataset)
    sample, reference = read_sample(bundle, "validation", 100), read_reference(bundle)
    income = sample.table["income"].to_pylist()
    income[0] = None
    income[1] = 1e3
    table = sample.table.set_column(0, "income", pa.array(income, pa.float64()))
    changed = type(sample)(
        sample.description,
        sample.split,
        sample.positions,
        table,
        sample.with_columns({"income": np.array(income, np.float32)}),
        sample.targets,
    )
    space = NumberSpace(changed, reference)
    attacker = Attacker(load(loans.model)[1], space, get_task(loans.task), changed, TimeLimit(math.inf))
    scale = reference["income"].to_numpy().std()
    for method in ("fgsm", "pgd", "random"):
        inputs = space.to_inputs(attacker.changed(method, 0.25))
        moved = inputs["income"].astype(float) - changed.column("income")
        assert np.isnan(inputs["income"][0])
        assert np.isfinite(inputs["income"][1:]).all()
        assert np.nanmax(np.abs(moved)) == pytest.approx(0.25 * scale, rel=0.02)
        assert (inputs["city"] == changed.column("city")).all()
        assert inputs["children"].min() >= 0
        assert inputs["children"].max() <= 3
        assert inputs["income"][1] <= 1e3, "a row beyond the range of train is moved no further out"


def test_gradient_sign_steps_are_those_of_captum(digits: Trained) -> None:
    """Where captum sees a gradient: it takes those below 1e-6 for zero."""
    import torch
    from captum.robust import FGSM

    from windlass.evaluation.analysis.adversarial import Attacker, PixelSpace
    from windlass.evaluation.analysis.sample import read_sample
    from windlass.models import load

    sample = read_sample(Bundle.open(digits.dataset), "validation", 64)
    network, task = load(digits.model)[1], get_task(digits.task)
    space = PixelSpace(sample)
    found = Attacker(network, space, task, sample, TimeLimit(math.inf)).changed("fgsm", 12.0)
    theirs = FGSM(
        lambda points: network(space.network_inputs(points)),
        loss_func=lambda outputs, targets: task.loss(outputs, targets, None),
        lower_bound=0,
        upper_bound=255,
    )
    theirs.zero_thresh = 0
    points = torch.from_numpy(space.points).clone().requires_grad_()
    expected = theirs.perturb(points, epsilon=12.0, target=torch.tensor(sample.targets)).detach().numpy()
    assert found == pytest.approx(expected)
    assert found.min() >= 0
    assert found.max() <= 255
