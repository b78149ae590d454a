from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.cost import compressed_bytes, graph_cost, priced
from windlass.evaluation.documents import Consumption, Cost, Energy, Interval, Latency, Measurement, Memory
from windlass.evaluation.energy import EnergyCounter
from windlass.storage import Reference


def test_compressed_bytes_are_those_that_gzip_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights " * 1_000_000)
    assert compressed_bytes([path]) == pytest.approx(len(gzip.compress(path.read_bytes(), 6)), abs=20)
    assert compressed_bytes([path, path]) == 2 * compressed_bytes([path])


def domain(powercap: Path, folder: str, name: str, microjoules: int) -> Path:
    directory = powercap / folder
    directory.mkdir()
    for file, text in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", 9_999_999)):
        (directory / file).write_text(f"{text}\n")
    return directory / "energy_uj"


def test_energy_is_that_of_packages_and_memory_also_when_a_counter_starts_again(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    dram = domain(tmp_path, "intel-rapl:0:1", "dram", 0)
    core = domain(tmp_path, "intel-rapl:0:0", "core", 0)
    whole = domain(tmp_path, "intel-rapl:1", "psys", 0)
    (tmp_path / "intel-rapl").mkdir()
    counter = EnergyCounter(tmp_path)
    before = counter.read()
    package.write_text("1000000\n")  # 1 J to the end of its range and 1 J beyond it
    for path in (dram, core, whole):
        path.write_text("500000\n")
    assert counter.available
    assert counter.joules_since(before) == pytest.approx(2.5)


def test_without_a_counter_there_is_no_energy(tmp_path: Path) -> None:
    counter = EnergyCounter(tmp_path / "absent")
    assert not counter.available
    assert counter.joules_since(counter.read()) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_counter_that_only_root_may_read_is_none(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 1).chmod(0)
    assert not EnergyCounter(tmp_path).available


class Rows(CalibrationDataReader):
    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self._rows = iter([{"input": rng.normal(size=(4, *shape)).astype(np.float32)} for _ in range(3)])

    def get_next(self) -> Any:
        return next(self._rows, None)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A 3x3 convolution of 2 to 8 channels in two groups, on 6x6; its 128 answers times a matrix, half zeros."""
    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.normal(size=(8, 1, 3, 3)),
        "conv.bias": rng.normal(size=8),
        "fc.weight": rng.normal(size=(128, 5)),
        "fc.bias": rng.normal(size=5),
    }
    weights["fc.weight"][:64] = 0
    shape = numpy_helper.from_array(np.array([-1, 128]), "shape")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "conv.weight", "conv.bias"], ["features"], group=2),
            helper.make_node("Reshape", ["features", "shape"], ["flat"]),
            helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["output"]),
        ],
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2, 6, 6])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 5])],
        [shape, *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items())],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


PARAMETERS = 8 * 9 + 8 + 128 * 5 + 5
MACS = 8 * 4 * 4 * 9 + 128 * 5


def test_parameters_and_macs_are_those_of_the_layers(network: Path) -> None:
    row = {"input": np.zeros((1, 2, 6, 6), np.float32)}
    assert graph_cost(network, row) == (PARAMETERS, PARAMETERS - 64 * 5, MACS)


@pytest.mark.parametrize("weight_type", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("quant_format", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_static_quantization_changes_neither_parameters_nor_macs(
    network: Path, tmp_path: Path, quant_format: Any, weight_type: Any
) -> None:
    """And zeros stay zeros, also where an unsigned integer other than 0 stands for zero."""
    quantized = tmp_path / "int8.onnx"
    types = {"weight_type": weight_type, "activation_type": QuantType.QUInt8}
    quantize_static(network, quantized, Rows((2, 6, 6)), quant_format=quant_format, per_channel=True, **types)
    parameters, nonzero, macs = graph_cost(quantized, {"input": np.ones((1, 2, 6, 6), np.float32)})
    assert (parameters, macs) == (PARAMETERS, MACS)
    assert nonzero == pytest.approx(PARAMETERS - 64 * 5, abs=12)  # small weights round to zero


def test_dynamic_quantization_changes_no_macs(network: Path, tmp_path: Path) -> None:
    quantized = tmp_path / "dynamic.onnx"
    quantize_dynamic(network, quantized, op_types_to_quantize=["MatMul", "Gemm"])
    parameters, _, macs = graph_cost(quantized, {"input": np.ones((1, 2, 6, 6), np.float32)})
    assert macs == MACS
    assert parameters == pytest.approx(PARAMETERS, abs=2)  # scales that are factors of the graph


MeasurementOf = Callable[..., Measurement]


@pytest.fixture
def measured() -> MeasurementOf:
    def make(energy: Energy | None) -> Measurement:
        sizes = (1, 32)
        figures = {"p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 1.0, "runs": 9}
        spent = tuple(Consumption(batch_size=size, cpu_s=2.0, energy=energy) for size in sizes)
        return Measurement(
            candidate="int8",
            variant=Reference(uri="nowhere", digest="0" * 64),
            rows=9,
            metric="accuracy",
            quality={"accuracy": Interval(point=1, low=1, high=1)},
            size_bytes=9,
            latency=tuple(Latency(batch_size=size, rows_per_s=100.0 * size, **figures) for size in sizes),
            memory=Memory(total_bytes=9, peak_bytes=9, interpreter_bytes=9, method="pss"),
            batch_invariant=True,
            threads=1,
            machine="a machine",
            cost=Cost(per_1000_rows=spent),
        )

    return make


def test_energy_that_nothing_counted_is_busy_time_times_watts_with_its_error(measured: MeasurementOf) -> None:
    found = priced(measured(None), EvaluateConfig(watts_per_core=4)).cost.per_1000_rows
    assert [spent.energy for spent in found] == [Energy(joules=8, method="model", relative_error=0.5)] * 2
    assert [spent.price for spent in found] == [None, None]


def test_of_a_gpu_there_is_no_energy_for_the_processor_counts_only_its_own(measured: MeasurementOf) -> None:
    on_gpu = measured(Energy(joules=3.0, method="rapl", relative_error=0.1)).model_copy(update={"device": "cuda"})
    assert [spent.energy for spent in priced(on_gpu, EvaluateConfig()).cost.per_1000_rows] == [None, None]


def test_energy_that_was_counted_stays(measured: MeasurementOf) -> None:
    counted = Energy(joules=3, method="rapl", relative_error=0.1)
    assert priced(measured(counted), EvaluateConfig()).cost.per_1000_rows[0].energy == counted


def test_price_is_that_of_the_time_which_1000_rows_take(measured: MeasurementOf) -> None:
    found = priced(measured(None), EvaluateConfig(price_per_hour=3.6)).cost.per_1000_rows
    assert [spent.price for spent in found] == [pytest.approx(0.01), pytest.approx(0.01 / 32)]
