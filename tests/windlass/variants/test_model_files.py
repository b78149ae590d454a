"""Hostile model files are refused before ONNX Runtime sees them, without touching what they name."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from windlass.variants._onnx_safety import read_onnx
from windlass.variants.formats import UnsafeModelError, check_safetensors, read_bounded

pytestmark = pytest.mark.attack


def _write(directory: Path, content: bytes, name: str = "model.onnx") -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


def _refused(path: Path, message: str) -> None:
    started_s = time.perf_counter()
    with pytest.raises(UnsafeModelError, match=message):
        read_onnx(path)
    assert time.perf_counter() - started_s < 5


def _external(model: onnx.ModelProto, location: str) -> bytes:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    return bytes(model.SerializeToString())


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_an_honest_model_comes_back_byte_for_byte(tmp_path: Path, linear_model: onnx.ModelProto) -> None:
    content = linear_model.SerializeToString()
    assert read_onnx(_write(tmp_path, content)) == content


@pytest.mark.parametrize("location", ["a/../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_external_data_is_refused_wherever_it_points(
    tmp_path: Path, linear_model: onnx.ModelProto, location: str
) -> None:
    _refused(_write(tmp_path, _external(linear_model, location)), "a tensor lies in another file")


def test_external_data_through_a_symlink_is_refused(tmp_path: Path, linear_model: onnx.ModelProto) -> None:
    (tmp_path / "weights.bin").symlink_to("/etc/passwd")
    _refused(_write(tmp_path, _external(linear_model, "weights.bin")), "a tensor lies in another file")


def test_external_data_in_a_constant_of_a_subgraph_is_refused(tmp_path: Path, linear_model: onnx.ModelProto) -> None:
    tensor = TensorProto(dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    constant = helper.make_node("Constant", [], ["x"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [])
    linear_model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    _refused(_write(tmp_path, linear_model.SerializeToString()), "a tensor lies in another file")


@pytest.mark.parametrize("dims", [[1 << 40], [1 << 20, 1 << 20, 1 << 20], [-1], [1 << 62, 4], [1] * 5000])
def test_a_tensor_of_huge_dims_is_refused(tmp_path: Path, linear_model: onnx.ModelProto, dims: list[int]) -> None:
    linear_model.graph.initializer[0].ClearField("dims")
    linear_model.graph.initializer[0].dims.extend(dims)
    _refused(_write(tmp_path, linear_model.SerializeToString()), "a tensor declares the dims")


@pytest.mark.parametrize("dims", [[1 << 40], [1 << 20, 1 << 20]])
def test_an_input_of_huge_dims_is_refused(tmp_path: Path, linear_model: onnx.ModelProto, dims: list[int]) -> None:
    linear_model.graph.input.append(helper.make_tensor_value_info("huge", TensorProto.FLOAT, dims))
    _refused(_write(tmp_path, linear_model.SerializeToString()), "an input, an output or a value has the shape")


def test_a_sparse_tensor_is_refused(tmp_path: Path, linear_model: onnx.ModelProto) -> None:
    sparse = linear_model.graph.sparse_initializer.add()
    sparse.dims.extend([1 << 30, 1 << 30])
    _refused(_write(tmp_path, linear_model.SerializeToString()), "it holds a sparse tensor")


def _length(content: bytes) -> bytes:
    size, out = len(content), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(2000):  # graph > node > attribute > graph
        attribute = b"\x32" + _length(graph) + graph
        node = b"\x2a" + _length(attribute) + attribute
        graph = b"\x0a" + _length(node) + node
    _refused(_write(tmp_path, b"\x3a" + _length(graph) + graph), "nested deeper than 64")


def test_millions_of_tiny_parts_are_refused(tmp_path: Path) -> None:
    graph = b"\x0a\x00" * 3_000_000
    path = _write(tmp_path, b"\x3a" + _length(graph) + graph)
    with pytest.raises(UnsafeModelError, match="over 2,000,000 parts"):
        read_onnx(path)


def test_a_cut_file_is_refused(tmp_path: Path, linear_model: onnx.ModelProto) -> None:
    content = linear_model.SerializeToString()
    for length in (len(content) - 1, len(content) // 2):
        _refused(_write(tmp_path, content[:length]), "cut off|no graph")


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\xff" * 100, b"{}"])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    _refused(_write(tmp_path, content), "not in protobuf|no graph|cut off")


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_renamed_pickle_is_a_format_mismatch_and_never_runs(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    path = _write(tmp_path, pickle.dumps(_Bomb(marker)), name)
    check = read_onnx if name.endswith(".onnx") else check_safetensors
    with pytest.raises(UnsafeModelError, match="but a pickle, which can run commands"):
        check(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_renamed_zip_as_torch_writes_it_is_a_format_mismatch(tmp_path: Path, name: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}))
    path = _write(tmp_path, archive.getvalue(), name)
    with pytest.raises(UnsafeModelError, match="but a zip file"):
        (read_onnx if name.endswith(".onnx") else check_safetensors)(path)


def test_onnx_runtimes_own_format_is_refused(tmp_path: Path) -> None:
    _refused(_write(tmp_path, b"\x20\x00\x00\x00ORTM" + b"\x00" * 64), "ONNX Runtime's own format")


def test_a_linked_model_is_refused(tmp_path: Path, linear_model: onnx.ModelProto) -> None:
    target = _write(tmp_path, linear_model.SerializeToString(), "target.onnx")
    (tmp_path / "model.onnx").symlink_to(target)
    _refused(tmp_path / "model.onnx", "it is a link")


def test_a_named_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    _refused(tmp_path / "model.onnx", "not a regular file")


def test_honest_safetensors_pass_and_cut_or_absurd_ones_do_not(tmp_path: Path) -> None:
    from safetensors.numpy import save

    content = save({"weight": np.ones((3, 4), dtype=np.float32)}, metadata={"format": "pt"})
    check_safetensors(_write(tmp_path, content, "good.safetensors"))
    for bad in (content[:-1], content + b"x", b"\xff" * 8 + content, content[:9], b"", b"\x02" + b"\0" * 7 + b"[]"):
        with pytest.raises(UnsafeModelError, match="safetensors"):
            check_safetensors(_write(tmp_path, bad, "bad.safetensors"))


def test_safetensors_whose_header_has_a_length_that_begins_as_a_pickle_does_are_read(tmp_path: Path) -> None:
    from safetensors.numpy import save

    weights = {"weight": np.ones((3, 4), dtype=np.float32)}
    contents = [save(weights, metadata={"note": "x" * length}) for length in range(2000)]
    alike = next(content for content in contents if content.startswith(b"\x80\x02"))
    check_safetensors(_write(tmp_path, alike, "good.safetensors"))


def test_a_model_larger_than_what_is_read_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(1001)
    with pytest.raises(UnsafeModelError, match="it is larger than 1,000 bytes"):
        read_bounded(path, 1000)
