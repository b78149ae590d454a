"""The methods by which candidates are made, and the names of chains of them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from windlass.compression.methods.distilled import Distilled
from windlass.compression.methods.fp16 import Fp16
from windlass.compression.methods.fp16_compute import Fp16Compute
from windlass.compression.methods.int4 import Int4
from windlass.compression.methods.int8 import Int8
from windlass.compression.methods.int8_dynamic import Int8Dynamic
from windlass.compression.methods.int8_entropy import Int8Entropy
from windlass.compression.methods.int8_mixed import Int8Mixed
from windlass.compression.methods.int8_percentile import Int8Percentile
from windlass.compression.methods.low_rank import LowRank
from windlass.compression.methods.method import GraphMethod, Method, NetworkMethod
from windlass.compression.methods.pruned import Pruned
from windlass.compression.methods.quantization_aware import QuantizationAware
from windlass.compression.methods.sparse import Sparse

METHODS: tuple[type[Method], ...] = (
    Distilled,
    Pruned,
    LowRank,
    Sparse,
    QuantizationAware,
    Int8,
    Int8Percentile,
    Int8Entropy,
    Int8Mixed,
    Int8Dynamic,
    Fp16,
    Fp16Compute,
    Int4,
)
UNCOMPRESSED = "fp32"
_SEPARATOR = "+"


@dataclass(frozen=True)
class Chain:
    """How a candidate is made from the trained model: methods on the network, then at most one on its numbers."""

    network: tuple[NetworkMethod, ...] = ()
    graph: GraphMethod | None = None

    @property
    def methods(self) -> tuple[Method, ...]:
        return (*self.network, *([self.graph] if self.graph else []))

    @property
    def name(self) -> str:
        """`pruned-30+int8`; `fp32` for the uncompressed model."""
        return _SEPARATOR.join(method.name for method in self.methods) or UNCOMPRESSED


def parse_chain(name: str) -> Chain:
    """The chain that a candidate's name spells.

    Raises:
        ValueError: a link is no method, or the chain cannot be made; the message says what is allowed.
    """
    if name == UNCOMPRESSED:
        return Chain()
    methods = [_parse_method(link) for link in name.split(_SEPARATOR)]
    network = tuple(method for method in methods if isinstance(method, NetworkMethod))
    graph = [method for method in methods if isinstance(method, GraphMethod)]
    if len(graph) > 1 or (graph and methods[-1] is not graph[0]):
        raise ValueError(f"{name!r}: {graph[0].name} fixes the numbers of the network, so nothing comes after it")
    chain = Chain(network, graph[0] if graph else None)
    _check_rounding(chain)
    return chain


def _check_rounding(chain: Chain) -> None:
    """Quantization-aware training is for the numbers that come right after it."""
    aware = [isinstance(method, QuantizationAware) for method in chain.network]
    if any(aware[:-1]) or (any(aware) and (chain.graph is None or not chain.graph.form.startswith(Int8.form))):
        raise ValueError(f"{chain.name!r}: qat prepares for int8, so int8 has to come next: qat+int8")


def _parse_method(link: str) -> Method:
    for kind in METHODS:
        method = kind.parse(link)
        if method is not None:
            return method
    forms = ", ".join((UNCOMPRESSED, *(kind.form for kind in METHODS)))
    raise ValueError(f"{link!r} is no candidate; choose from {forms}, joined by {_SEPARATOR}, such as int8")
