from __future__ import annotations

import fcntl
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.data.bundle import Bundle
from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.data.features import serving_inputs, targets
from windlass.errors import MissingExtraError
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import Measurement
from windlass.evaluation.errors import EmptySplitError, MeasurementError, NotFiniteAnswersError
from windlass.evaluation.inputs import read_inputs, write_inputs
from windlass.evaluation.measure import measure
from windlass.evaluation.quality import read_predictions
from windlass.storage import Reference
from windlass.tasks import get_task
from windlass.variants import open_variant
from windlass.variants.config import ServeConfig
from windlass.variants.engines import load_engine

QUICK = EvaluateConfig(latency_seconds=0.05, bootstrap=200)


def run(variant: Path, bundle: Path, output: Path, **changes: Any) -> Measurement:
    output.mkdir(exist_ok=True)
    arguments: dict[str, Any] = {
        "variant": variant,
        "reference": Reference(uri=str(variant), digest="1" * 64),
        "dataset": bundle,
        "output": output,
        "task": "tabular-classification",
        "config": QUICK,
        "serve": ServeConfig(),
    }
    return measure("candidate", **(arguments | changes))


def test_measurement_holds_what_the_engine_answers_and_weighs(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    variant = make_served("fp32")
    found = run(variant, bundle, tmp_path / "out")

    opened = Bundle.open(bundle)
    rows = opened.table("validation")
    (wanted,) = (
        load_engine(variant, open_variant(variant), threads=1)
        .predict(serving_inputs(opened.description, rows))
        .values()
    )
    predictions, labels = read_predictions(tmp_path / "out")
    np.testing.assert_allclose(predictions, wanted, rtol=1e-6)
    np.testing.assert_array_equal(labels, targets(opened.description, rows))
    accuracy = found.quality["accuracy"]
    assert accuracy.point == pytest.approx((wanted.argmax(axis=1) == labels).mean())
    assert accuracy.low < accuracy.point < accuracy.high
    assert found.rows == 80
    assert found.size_bytes == (variant / "model.onnx").stat().st_size
    assert [latency.batch_size for latency in found.latency] == [1, 8, 32]
    assert all(0 < latency.p50_ms <= latency.p95_ms <= latency.p99_ms for latency in found.latency)
    assert found.batch_invariant
    assert found.mistakes.confusion is not None
    assert sum(map(sum, found.mistakes.confusion)) == 80
    assert found.memory.method == "pss"
    assert 10e6 < found.memory.interpreter_bytes < found.memory.total_bytes < 200e6
    assert found.quality.keys() == get_task("tabular-classification").metrics.keys()
    assert [row.rows for row in found.mistakes.classes] == np.bincount(labels, minlength=3).tolist()
    assert (found.cost.parameters, found.cost.nonzero_parameters, found.cost.macs_per_row) == (9, 5, 6)
    assert found.cost.compressed_bytes == pytest.approx(
        len(gzip.compress((variant / "model.onnx").read_bytes())), abs=9
    )
    assert [spent.batch_size for spent in found.cost.per_1000_rows] == [1, 8, 32]
    assert all(0 < spent.cpu_s < 10 for spent in found.cost.per_1000_rows)
    assert Measurement.read(tmp_path / "out" / "measurement.json") == found


def test_memory_is_the_most_that_answering_takes(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    """A model whose weights are small and whose answers to 32 rows take 64 MB on the way."""
    plain = run(make_served("fp32"), bundle, tmp_path / "plain").memory
    wide = run(make_served("wide", width=500_000), bundle, tmp_path / "wide").memory
    assert wide.peak_bytes > plain.peak_bytes + 60_000_000
    assert wide.peak_bytes >= wide.total_bytes


@pytest.mark.slow
def test_latency_of_two_measurements_agrees_within_10_percent_or_the_noise_is_told(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    variant = make_served("fp32", width=2000)
    config = EvaluateConfig(latency_seconds=3, bootstrap=200)
    first, second = (run(variant, bundle, tmp_path / name, config=config) for name in ("first", "second"))
    for one, two in zip(first.latency, second.latency, strict=True):
        for quantile in ("p50_ms", "p95_ms"):
            ratio = getattr(one, quantile) / getattr(two, quantile)
            assert first.noise or second.noise or 1 / 1.1 < ratio < 1.1


def test_a_split_on_which_nothing_is_timed_has_all_but_what_follows_from_time(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    found = run(make_served("fp32"), bundle, tmp_path / "out", split="test", timed=False)
    assert (found.rows, found.latency, found.cost.per_1000_rows, found.noise) == (70, (), (), None)
    assert found.cost.macs_per_row == 6


def test_answers_that_are_no_numbers_name_how_many_rows(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(NotFiniteAnswersError, match=r"to 80 of 80 rows; leave this candidate out"):
        run(make_served("overflow", noise=np.inf), bundle, tmp_path / "out")


def test_variant_that_scales_over_the_batch_is_not_batch_invariant(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    assert not run(make_served("dynamic", invariant=False), bundle, tmp_path / "out").batch_invariant


@pytest.mark.slow
def test_memory_is_summed_over_the_serving_processes_with_what_they_preload(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    variant = make_served("fp32")
    one = run(variant, bundle, tmp_path / "one").memory
    two = run(variant, bundle, tmp_path / "two", serve=ServeConfig(workers=2), preload=("pyarrow",)).memory
    assert two.total_bytes > 1.5 * one.total_bytes


def test_measuring_process_has_no_torch_and_none_of_the_training_side(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    request = tmp_path / "request.json"
    write_inputs(tmp_path / "sample.npz", {"input": np.zeros((4, 2), np.float32)})
    document = {
        "variant": str(make_served("fp32")),
        "sample": str(tmp_path / "sample.npz"),
        "threads": 1,
        "workers": 1,
        "device": "cpu",
        "batch_sizes": [1],
        "preload": [],
    }
    request.write_text(json.dumps(document))
    worker = [sys.executable, "-m", "windlass.evaluation.worker", str(request)]
    done = subprocess.run(worker, input="load\n", capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout)["modules"])
    assert {"numpy", "onnxruntime", "windlass"} <= modules
    assert not modules & {
        "torch",
        "sklearn",
        "scipy",
        "pyarrow",
        "pandas",
        "mlflow",
        "kfp",
        "onnx",
        "duckdb",
        "torchmetrics",
    }


def test_measurements_wait_for_each_other(bundle: Path, make_served: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(tempfile.gettempdir()) / f"windlass-measure-{os.getuid()}.lock"
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=run, args=(make_served("fp32"), bundle, tmp_path / "out"))
        thread.start()
        time.sleep(1.0)
        assert not (tmp_path / "out" / "measurement.json").exists()
    thread.join(timeout=60)
    assert (tmp_path / "out" / "measurement.json").exists()


def test_measuring_a_broken_model_says_which_candidate_and_why(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    variant = make_served("broken")
    (variant / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(MeasurementError, match=r"measuring candidate failed, the process ended with 1: .*model\.onnx"):
        run(variant, bundle, tmp_path / "out")


def test_preloading_what_is_not_installed_names_the_extra(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(MissingExtraError, match=r"windlass\[gateway\]"):
        run(make_served("fp32"), bundle, tmp_path / "out", preload=("no_such_module.worker",))


def test_inputs_survive_their_file_under_any_column_name(tmp_path: Path) -> None:
    inputs = {
        "file": np.array([1, np.nan], np.float32),
        "a/b": np.array(["", "Köln"], object),
        "allow_pickle": np.array(["x", "y"], object),
    }
    write_inputs(tmp_path / "inputs.npz", inputs)
    found = read_inputs(tmp_path / "inputs.npz")
    assert list(found) == list(inputs)
    for name, tensor in inputs.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_split_without_rows_is_refused_with_what_to_set(
    bundle: Path, make_served: Callable[..., Path], tmp_path: Path
) -> None:
    description = DatasetDescription.read(bundle / DATASET_NAME)
    emptied = {"rows": description.rows | {"test": 0}, "shards": description.shards | {"test": ()}}
    description.model_copy(update=emptied).write(bundle / DATASET_NAME)
    with pytest.raises(EmptySplitError, match=r"set data\.split\.test above 0"):
        run(make_served("fp32"), bundle, tmp_path / "out", split="test")
