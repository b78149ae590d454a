"""Where an engine runs: what ONNX Runtime is asked for, and that it does not quietly answer elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from devices import on_cuda, without_cuda
from windlass.evaluation.machine import machine
from windlass.variants import Signature, open_variant
from windlass.variants.engines import DeviceUnavailableError, _devices, check_build, check_device, load_engine
from windlass.variants.engines._devices import CUDA_OPTIONS, open_session, providers

WriteVariant = Callable[[onnx.ModelProto, Signature], Path]


@without_cuda
def test_cuda_is_refused_where_onnxruntime_is_built_without_it_and_the_next_command_is_said() -> None:
    said = (
        rf"cuda cannot be used here: onnxruntime {onnxruntime.__version__} is installed, which is built without CUDA; "
        r"`pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu\[cuda,cudnn\]'`, or take cpu"
    )
    for refuse in (check_build, check_device):
        with pytest.raises(DeviceUnavailableError, match=said):
            refuse("cuda")


@without_cuda
def test_variant_is_not_loaded_on_the_cpu_where_cuda_is_asked_for(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    directory = write_variant(linear_model, numbers)
    with pytest.raises(DeviceUnavailableError, match="cuda cannot be used here"):
        load_engine(directory, open_variant(directory), 1, device="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_the_cpu_that_onnxruntime_falls_back_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_devices, "check_build", lambda _: None)  # as of a build for CUDA that finds no driver
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(DeviceUnavailableError, match=r"does not load its CUDA provider: .*nvidia-smi"):
        open_session(_devices._PROBE, onnxruntime.SessionOptions(), "cuda")


def test_what_onnxruntime_says_of_a_driver_or_library_is_in_the_refusal() -> None:
    log = (
        "2026-11-24 [E:onnxruntime:Default, provider_bridge_ort.cc:1862] Failed to load library "
        "libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object file\nTraceback\n"
    )
    said = str(_devices._no_cuda(log))
    assert "libcudnn.so.9: cannot open shared object file" in said
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in said


def test_the_cpu_needs_no_look() -> None:
    check_build("cpu")
    check_device("cpu")
    assert providers("cpu") == ["CPUExecutionProvider"]


def test_cuda_is_asked_for_whole_fp32_and_for_the_same_kernels_at_every_load() -> None:
    assert providers("cuda") == [("CUDAExecutionProvider", CUDA_OPTIONS), "CPUExecutionProvider"]
    assert CUDA_OPTIONS["use_tf32"] == "0"
    assert CUDA_OPTIONS["cudnn_conv_algo_search"] == "HEURISTIC"


def test_the_probe_is_a_model_that_answers_what_it_is_asked() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert model.SerializeToString(deterministic=True) == _devices._PROBE


@without_cuda
def test_gpu_without_a_driver_is_refused_where_figures_are_named_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeviceUnavailableError, match=r"nvidia-smi: .*; install NVIDIA's driver with its tools"):
        machine("cuda")


def test_figures_are_named_after_the_gpu_and_what_is_visible_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\\n  MIG 1g.10gb Device 0: (UUID: MIG-2)\\n"
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint('{listed}', end='')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine("cuda") == f"{machine()}, GPU 0: NVIDIA H100 80GB HBM3, MIG 1g.10gb Device 0:"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine("cuda").endswith(", CUDA_VISIBLE_DEVICES=1")


@on_cuda
def test_a_gpu_answers_as_the_cpu_does(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    directory = write_variant(linear_model, numbers)
    inputs = {"input": np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)}
    on_cpu, on_gpu = (
        load_engine(directory, open_variant(directory), 1, device=device).predict(inputs)["probabilities"]
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)


@on_cuda
def test_a_probe_of_cuda_leaves_no_driver_in_this_process() -> None:
    looked = "from windlass.variants.engines import check_device; check_device('cuda')"
    code = f"{looked}; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "libcuda.so" not in maps
