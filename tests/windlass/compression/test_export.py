from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from windlass.compression.config import CompressConfig
from windlass.compression.make import make_variant
from windlass.compression.methods import parse_chain
from windlass.compression.parts import export_parts
from windlass.data.bundle import Bundle
from windlass.data.description import PixelsTransform
from windlass.data.features import encode, serving_inputs
from windlass.models import load
from windlass.models.preprocess import PixelScaling
from windlass.storage import Reference
from windlass.tasks import get_task
from windlass.variants import golden, open_variant
from windlass.variants.engines import load_engine
from windlass.variants.variant import GOLDEN_NAME, GoldenExamples

REFERENCE = Reference(uri="model", digest="0" * 64)
CASES = [
    ("numbers_bundle", "tabular-regression", "mlp"),
    ("mixed_bundle", "tabular-classification", "mlp"),
    ("images_bundle", "image-classification", "cnn"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fixture", "task", "architecture"), CASES)
def test_served_graph_answers_raw_rows_as_torch_answers_encoded_features(
    fixture: str,
    task: str,
    architecture: str,
    request: pytest.FixtureRequest,
    make_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    directory: Path = request.getfixturevalue(fixture)
    model = make_model(task, directory, architecture)
    bundle = Bundle.open(directory)
    parts = export_parts(get_task(task), model, bundle)
    for name in ("fp32", "int8"):
        (tmp_path / name).mkdir()
        make_variant(
            parse_chain(name),
            parts,
            config=CompressConfig(),
            task=task,
            model=REFERENCE,
            bundle=bundle,
            output=tmp_path / name,
            uncompressed=tmp_path / "fp32" if name != "fp32" else None,
        )
    _, network = load(model)
    features = torch.from_numpy(encode(bundle, "validation").features)
    with torch.no_grad():
        if task == "image-classification":
            transform = bundle.description.transforms[0]
            assert isinstance(transform, PixelsTransform)
            features = PixelScaling(transform.mean, transform.std)(features)
        wanted = get_task(task).head(bundle.description)(network(features)).numpy()
    inputs = serving_inputs(bundle.description, bundle.table("validation"))

    engine = load_engine(tmp_path / "fp32", open_variant(tmp_path / "fp32"), threads=1)
    (found,) = engine.predict(inputs).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)

    int8 = load_engine(tmp_path / "int8", open_variant(tmp_path / "int8"), threads=1)
    (together,) = int8.predict(inputs).values()
    assert np.abs(together - wanted).max() < 0.1 * max(1.0, float(np.ptp(wanted)))
    alone = [int8.predict({name: tensor[row : row + 1] for name, tensor in inputs.items()}) for row in range(20)]
    for row, answer in enumerate(alone):
        np.testing.assert_array_equal(next(iter(answer.values()))[0], together[row])

    examples = GoldenExamples.read(tmp_path / "int8" / GOLDEN_NAME)
    assert len(examples.rows) >= 8
    assert task == "image-classification" or any(
        None in (row.values() if isinstance(row, dict) else row) for row in examples.rows
    )
    golden.check(int8, examples)
    assert examples.uncompressed == GoldenExamples.read(tmp_path / "fp32" / GOLDEN_NAME).outputs
