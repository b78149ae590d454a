"""The methods that change the numbers of an exported network: size, what is left in fp32, answers, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from devices import on_cuda
from windlass.compression.config import CompressConfig
from windlass.compression.errors import NotApplicableError
from windlass.compression.export import export_core
from windlass.compression.make import make_variant
from windlass.compression.methods import METHODS, Chain, parse_chain
from windlass.compression.methods._quantizer import find_ranges
from windlass.compression.methods.method import Compressed, GraphMethod
from windlass.compression.parts import Parts, export_parts
from windlass.compression.slim import slim
from windlass.data.bundle import Bundle
from windlass.storage import Reference
from windlass.tasks import get_task
from windlass.variants import golden, open_variant
from windlass.variants._onnx_safety import read_onnx
from windlass.variants.engines import load_engine
from windlass.variants.engines._devices import open_session
from windlass.variants.engines._onnxruntime import session_options
from windlass.variants.variant import GOLDEN_NAME, GoldenExamples

Array = np.ndarray[Any, np.dtype[Any]]
GRAPH_METHODS = [method.form for method in METHODS if issubclass(method, GraphMethod)]


class Residual(nn.Module):
    """What users' networks have: depthwise and 1x1 convolutions, a sum, a concatenation, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.pointwise = nn.Conv2d(32, 32, 1)
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.linear = nn.Linear(32 * 16 * 16, 5)

    def forward(self, images: Tensor) -> Tensor:
        stem = torch.relu(self.stem(images))
        summed = stem + self.pointwise(torch.relu(self.depthwise(stem)))
        up = torch.relu(self.up(torch.cat([stem, summed], dim=1)))
        return torch.softmax(self.linear(up.flatten(1)), dim=1)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(8, 64), nn.LayerNorm(64)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.up, self.down, self.out = nn.Linear(64, 256), nn.Linear(256, 64), nn.Linear(64, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embed(tokens)
        normed = self.norm(embedded)
        mixed = embedded + self.attention(normed, normed, normed, need_weights=False)[0]
        mixed = mixed + self.down(torch.relu(self.up(self.norm(mixed))))
        return torch.softmax(self.out(mixed.mean(1)), dim=-1)


SHAPES: dict[str, tuple[int, ...]] = {"residual": (3, 8, 8), "transformer": (16, 8), "regression": (300,)}


@pytest.fixture(scope="module")
def cores() -> dict[str, onnx.ModelProto]:
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {
        "residual": Residual(),
        "transformer": Transformer(),
        "regression": nn.Sequential(
            nn.Linear(300, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 1), nn.Flatten(0)
        ),
    }
    # A layer of 256 inputs after 300, which do not come in whole blocks.
    return {
        name: export_core(network, SHAPES[name], output="answer", architecture=name)
        for name, network in networks.items()
    }


def features(name: str, rows: int = 64) -> Array:
    return np.random.default_rng(0).normal(size=(rows, *SHAPES[name])).astype(np.float32)


def answer(core: onnx.ModelProto, rows: Array) -> Array:
    session = open_session(core.SerializeToString(), session_options(threads=2, workers=1), "cpu")
    found: Array = session.run(None, {"features": rows})[0]
    return found


def apply(method: str, core: onnx.ModelProto, rows: Array) -> Compressed:
    graph = parse_chain(method).graph
    assert graph is not None
    return graph.apply(core, [rows], CompressConfig())


def size(core: onnx.ModelProto) -> int:
    return len(slim(core).SerializeToString())


def big_floats(core: onnx.ModelProto) -> list[str]:
    """Weights that are still fp32: more than a number per channel."""
    return [
        constant.name
        for constant in core.graph.initializer
        if constant.data_type == TensorProto.FLOAT and len(constant.dims) > 1
    ]


@pytest.mark.parametrize("network", SHAPES)
@pytest.mark.parametrize("method", GRAPH_METHODS)
def test_answers_are_near_fp32_for_what_users_networks_have(
    cores: dict[str, onnx.ModelProto], network: str, method: str
) -> None:
    rows = features(network)
    wanted = answer(cores[network], rows)
    try:
        made = slim(apply(method, cores[network], rows).core)
    except NotApplicableError:
        assert method == "int8-mixed"
        return
    onnx.checker.check_model(made, full_check=True)
    found = answer(made, rows)
    assert found.dtype == np.float32
    assert np.square(found - wanted).mean() < 0.01 * np.square(wanted).mean()


@pytest.mark.parametrize("method", ["int8", "int8-percentile", "int8-entropy"])
@pytest.mark.parametrize("network", SHAPES)
def test_static_int8_leaves_no_weight_in_fp32_and_a_quarter_of_the_file(
    cores: dict[str, onnx.ModelProto], network: str, method: str
) -> None:
    made = apply(method, cores[network], features(network)).core
    assert big_floats(made) == []
    assert size(made) < 0.31 * size(cores[network])


@pytest.mark.parametrize("network", ["residual", "transformer"])
def test_static_int8_does_not_round_what_goes_into_or_comes_out_of_softmax(
    cores: dict[str, onnx.ModelProto], network: str
) -> None:
    made = apply("int8", cores[network], features(network)).core
    output = {name: node for node in made.graph.node for name in node.output}
    softmax = [node for node in made.graph.node if node.op_type == "Softmax"]
    assert softmax
    assert all(output[node.input[0]].op_type != "DequantizeLinear" for node in softmax)
    assert made.graph.output[0].name in softmax[-1].output


def test_calibration_by_percentile_and_entropy_clips_outliers_and_by_minmax_does_not(
    cores: dict[str, onnx.ModelProto],
) -> None:
    rows = features("regression", rows=256)
    rows[0, 0] = 100
    ends = {
        calibration: float(find_ranges(cores["regression"], [rows], calibration).lowest_highest["features"][1])
        for calibration in ("minmax", "percentile", "entropy")
    }
    assert ends["minmax"] == 100
    assert ends["percentile"] < 10
    assert ends["entropy"] < 100


def test_histograms_do_not_grow_with_a_value_a_million_times_the_others(cores: dict[str, onnx.ModelProto]) -> None:
    rows = features("regression")
    rows[-1] *= 1e6
    _, highest = find_ranges(cores["regression"], [rows], "percentile").lowest_highest["features"]
    assert np.isfinite(highest)


def test_ranges_do_not_depend_on_how_rows_come_in_batches(cores: dict[str, onnx.ModelProto]) -> None:
    rows = features("regression", rows=96)
    whole = find_ranges(cores["regression"], [rows]).lowest_highest
    parts = find_ranges(cores["regression"], [rows[:32], rows[32:]]).lowest_highest
    assert whole == parts


def test_mixed_keeps_layers_in_fp32_says_which_and_is_nearer_to_fp32_than_int8(
    cores: dict[str, onnx.ModelProto],
) -> None:
    rows = features("transformer")
    wanted = answer(cores["transformer"], rows)
    int8, mixed = (apply(method, cores["transformer"], rows) for method in ("int8", "int8-mixed"))
    noise = [float(np.square(answer(made.core, rows) - wanted).mean()) for made in (int8, mixed)]
    assert noise[1] <= 0.5 * noise[0]
    kept = {name.removeprefix("fp32/") for name in mixed.notes if name.startswith("fp32/")}
    scanned = {name.removeprefix("sensitivity/") for name in mixed.notes if name.startswith("sensitivity/")}
    assert kept < scanned
    assert len(big_floats(mixed.core)) == len(kept)
    assert size(mixed.core) < 0.6 * size(cores["transformer"])


def test_mixed_is_the_same_each_time(cores: dict[str, onnx.ModelProto]) -> None:
    first, second = (apply("int8-mixed", cores["transformer"], features("transformer")) for _ in range(2))
    assert first.notes == second.notes
    assert first.core.SerializeToString(deterministic=True) == second.core.SerializeToString(deterministic=True)


def test_mixed_of_a_single_layer_is_refused() -> None:
    core = export_core(nn.Linear(300, 3), (300,), output="answer", architecture="linear")
    with pytest.raises(NotApplicableError, match=r"int8-mixed cannot be made: the network has fewer than two layers"):
        apply("int8-mixed", core, features("regression"))


def test_dynamic_quantizes_linear_layers_and_leaves_convolutions(cores: dict[str, onnx.ModelProto]) -> None:
    rows = features("residual")
    made = apply("int8-dynamic", cores["residual"], rows).core
    operators = [node.op_type for node in made.graph.node]
    assert operators.count("MatMulInteger") == 1
    assert "Gemm" not in operators
    assert "ConvInteger" not in operators
    assert len(big_floats(made)) == 4  # the convolutions
    assert size(apply("int8-dynamic", cores["transformer"], features("transformer")).core) < 0.31 * size(
        cores["transformer"]
    )


def test_dynamic_answers_depend_on_the_batch(cores: dict[str, onnx.ModelProto]) -> None:
    rows = features("regression")
    rows[1:] *= 5
    made = apply("int8-dynamic", cores["regression"], rows).core
    assert answer(made, rows)[0] != answer(made, rows[:1])[0]


def test_dynamic_weights_leave_room_for_processors_that_add_in_16_bits(cores: dict[str, onnx.ModelProto]) -> None:
    made = apply("int8-dynamic", cores["regression"], features("regression")).core
    weights = [numpy_helper.to_array(c) for c in made.graph.initializer if c.data_type == TensorProto.INT8]
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64


@pytest.mark.parametrize("method", ["int8-dynamic", "int4"])
def test_method_for_linear_layers_is_refused_for_a_network_without(method: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    core = export_core(network, (3, 8, 8), output="answer", architecture="convolutions")
    with pytest.raises(NotApplicableError, match=rf"{method} cannot be made: .*linear layer.*leave it out of"):
        apply(method, core, features("residual"))


@pytest.mark.parametrize("network", SHAPES)
def test_fp16_halves_the_file_and_answers_as_the_rounded_weights(
    cores: dict[str, onnx.ModelProto], network: str
) -> None:
    made = apply("fp16", cores[network], features(network)).core
    assert big_floats(made) == []
    assert size(made) < 0.53 * size(cores[network])
    np.testing.assert_allclose(answer(made, features(network)), answer(cores[network], features(network)), atol=2e-3)


def test_fp16_leaves_a_weight_that_float16_cannot_hold() -> None:
    network = nn.Linear(300, 2)
    with torch.no_grad():
        network.weight[0, 0] = 1e6
    core = export_core(network, (300,), output="answer", architecture="linear")
    with pytest.raises(NotApplicableError, match=r"fp16 cannot be made"):
        apply("fp16", core, features("regression"))


@pytest.mark.parametrize("network", SHAPES)
def test_fp16_compute_halves_the_file_and_multiplies_in_halves(cores: dict[str, onnx.ModelProto], network: str) -> None:
    made = apply("fp16-compute", cores[network], features(network)).core
    assert big_floats(made) == []
    assert size(made) < 0.53 * size(cores[network])
    np.testing.assert_allclose(answer(made, features(network)), answer(cores[network], features(network)), atol=2e-3)
    inferred = onnx.shape_inference.infer_shapes(made)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    multiplied = [
        types[node.output[0]] for node in made.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
    ]
    assert set(multiplied) == {TensorProto.FLOAT16}


def test_fp16_compute_gives_a_number_that_float16_could_not_hold() -> None:
    class Priced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(300, 1)

        def forward(self, rows: Tensor) -> Tensor:
            return self.linear(rows).flatten() * 1e5 + 4e5

    core = export_core(Priced(), (300,), output="answer", architecture="priced")
    rows = features("regression")
    made = answer(apply("fp16-compute", core, rows).core, rows)
    np.testing.assert_allclose(made, answer(core, rows), atol=200)
    assert made.max() > 70_000


@pytest.mark.parametrize("where", ["weight", "bias"])
def test_fp16_compute_is_refused_for_what_float16_cannot_hold(where: str) -> None:
    network = nn.Sequential(nn.Linear(300, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        getattr(network[0], where)[0] = 1e5
    core = export_core(network, (300,), output="answer", architecture="large")
    with pytest.raises(
        NotApplicableError, match=r"fp16-compute cannot be made: .* reaches .*, and float16 ends at 65,504"
    ):
        apply("fp16-compute", core, features("regression"))


@on_cuda
@pytest.mark.parametrize("method", ["fp32", "fp16", "fp16-compute"])
def test_a_gpu_reproduces_the_golden_examples_of_the_cpu(
    images_bundle: Path, make_model: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    model = make_model("image-classification", images_bundle, "cnn")
    made_variants([method] if method != "fp32" else [], images_bundle, "image-classification", model, tmp_path)
    made = tmp_path / method
    engine = load_engine(made, open_variant(made), threads=1, device="cuda")
    golden.check(engine, GoldenExamples.read(made / GOLDEN_NAME))


def test_int4_packs_the_layers_whose_inputs_are_whole_blocks(cores: dict[str, onnx.ModelProto]) -> None:
    made = apply("int4", cores["residual"], features("residual")).core
    packed = [constant for constant in made.graph.initializer if constant.data_type == TensorProto.UINT4]
    assert [list(constant.dims) for constant in packed] == [[8192, 5], [128, 5]]
    saved = size(cores["residual"]) - size(made)
    assert saved > 8192 * 5 * 4 * 0.84
    assert {node.domain for node in made.graph.node} == {""}


def test_int4_stays_in_4_bits_in_the_memory_of_onnx_runtime(cores: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    made = slim(apply("int4", cores["transformer"], features("transformer")).core)
    onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    loaded = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert loaded.count("MatMulNBits") == 1


def variant(
    method: str, bundle: Path, task: str, model: Path, output: Path, parts: Parts, uncompressed: Path | None
) -> Path:
    output.mkdir()
    chain = parse_chain(method) if method != "fp32" else Chain()
    make_variant(
        chain,
        parts,
        config=CompressConfig(),
        task=task,
        model=Reference(uri=model.as_uri(), digest="0" * 64),
        bundle=Bundle.open(bundle),
        output=output,
        uncompressed=uncompressed,
    )
    return output


def made_variants(methods: Iterable[str], bundle: Path, task: str, model: Path, directory: Path) -> dict[str, Path]:
    parts = export_parts(get_task(task), model, Bundle.open(bundle))
    uncompressed = variant("fp32", bundle, task, model, directory / "fp32", parts, None)
    return {method: variant(method, bundle, task, model, directory / method, parts, uncompressed) for method in methods}


@pytest.mark.parametrize(
    ("modality", "task", "architecture", "parameters"),
    [
        ("mixed", "tabular-classification", "mlp", {"hidden": [256, 64]}),
        ("numbers", "tabular-regression", "mlp", {"hidden": [256, 64]}),
        ("images", "image-classification", "cnn", {}),
    ],
)
def test_every_variant_is_safe_to_read_and_reproduces_its_golden_examples(
    request: pytest.FixtureRequest,
    make_model: Callable[..., Path],
    tmp_path: Path,
    modality: str,
    task: str,
    architecture: str,
    parameters: dict[str, Any],
) -> None:
    bundle: Path = request.getfixturevalue(f"{modality}_bundle")
    model = make_model(task, bundle, architecture, **parameters)
    methods = [method for method in GRAPH_METHODS if method not in ("int8-mixed",)]
    for method, made in made_variants(methods, bundle, task, model, tmp_path).items():
        read_onnx(made / "model.onnx")
        engine = load_engine(made, open_variant(made), threads=2)
        golden.check(engine, GoldenExamples.read(made / GOLDEN_NAME))
        served = onnx.load(made / "model.onnx")
        assert served.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT, method


@pytest.mark.parametrize("network", SHAPES)
def test_slim_int8_model_answers_bit_by_bit_the_same_from_the_same_kernels(
    cores: dict[str, onnx.ModelProto], network: str, tmp_path: Path
) -> None:
    made = apply("int8", cores[network], features(network)).core
    small = slim(made)
    np.testing.assert_array_equal(answer(small, features(network)), answer(made, features(network)))
    operators = []
    for name, core in (("made", made), ("small", small)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / name)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(core.SerializeToString(), options, providers=["CPUExecutionProvider"])
        operators.append(sorted(node.op_type for node in onnx.load(tmp_path / name).graph.node))
    assert operators[0] == operators[1]


def test_slim_model_says_nothing_of_a_convolution_that_is_its_default(cores: dict[str, onnx.ModelProto]) -> None:
    said = [
        {attribute.name for attribute in node.attribute}
        for node in slim(cores["residual"]).graph.node
        if node.op_type == "Conv"
    ]
    assert all("dilations" not in names and "auto_pad" not in names for names in said)
    assert any("group" in names for names in said)  # the depthwise one
