"""What candidates consist of, as a tree: each network and each variant is made once, published, and shared.

A candidate is a path from the trained model: `pruned-50+int8` is the network `pruned-50` with its numbers in int8, and
`pruned-50+int8-dynamic` shares that network. What a step of the path depends on is in its key, so that a longer list
of candidates, or another recipe on the same data, makes only what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from windlass.compression.config import CompressConfig
from windlass.compression.make import main_metric, make_variant
from windlass.compression.methods import Chain
from windlass.compression.methods.method import NetworkMethod
from windlass.compression.parts import Parts, export_parts
from windlass.data.bundle import Bundle
from windlass.models.spec import MODEL_NAME, MODULE_NAME, ModelSpec
from windlass.progress import track
from windlass.storage import Reference, Workspace
from windlass.tasks import get_task
from windlass.training.config import TrainConfig
from windlass.training.documents import Training
from windlass.training.place import Place
from windlass.variants import open_variant


class KeyMaker(Protocol):
    """`windlass.recipe.keys.step_key`."""

    def __call__(self, step: str, **depends_on: Any) -> str: ...


@dataclass(frozen=True)
class Trunk:
    """The trained model that the tree grows from, and how it was trained."""

    model: Reference
    module: Reference | None
    """The user's own source file, published, if the model is of their class."""
    train: TrainConfig
    dataset: Reference
    task: str


class Tree:
    """Makes networks and variants on demand; networks in one thread, variants in the same one or in another.

    Args:
        place: where a network is trained that has to be.
        key: makes the keys under which pieces are published.
        threads: of this machine.
    """

    def __init__(
        self,
        trunk: Trunk,
        config: CompressConfig,
        *,
        workspace: Workspace,
        place: Place,
        key: KeyMaker,
        threads: int,
    ) -> None:
        self.trunk, self.config, self.workspace = trunk, config, workspace
        self.task, self.threads = get_task(trunk.task), threads
        self.bundle = Bundle.open(workspace.fetch(trunk.dataset))
        self._place, self._key = place, key
        self._torch = Lock()
        """A network is traced by patching all of torch: nothing else may call one meanwhile."""
        self._exported: tuple[str, Parts] | None = None
        self._networks: dict[tuple[NetworkMethod, ...], Reference] = {(): trunk.model}
        self._variants: dict[str, Reference] = {}
        self._metrics: dict[str, float | None] = {}

    def expect(self, chains: Iterable[Chain]) -> None:
        """While the uncompressed variant is still to be made, get ready to train what these candidates need."""
        methods = [method for chain in chains for method in chain.network]
        trained = any(method.learning(self.config, self.trunk.train) for method in methods)
        if trained and self.workspace.find("variants", self._variant_key(Chain(), self.trunk.model)) is None:
            self._place.expect(self.trunk.train)

    def spec(self, network: Reference) -> ModelSpec:
        """How a published network is built."""
        return ModelSpec.read(self.workspace.fetch(network) / MODEL_NAME)

    def network(self, methods: tuple[NetworkMethod, ...], meanwhile: Callable[[], None] = lambda: None) -> Reference:
        """The published torch network at the end of these methods; the trained model itself for none.

        Args:
            meanwhile: called before a training begins.

        Raises:
            NotApplicableError: the last method does nothing for the network before it.
            TrainingInterruptedError and the other errors of `windlass.training.place`.
        """
        if methods not in self._networks:
            self._networks[methods] = self._make_network(methods, meanwhile)
        return self._networks[methods]

    def _make_network(self, methods: tuple[NetworkMethod, ...], meanwhile: Callable[[], None]) -> Reference:
        *before, method = methods
        shaped = self._shape(self.network(tuple(before), meanwhile), method)
        asked = method.learning(self.config, self.trunk.train)
        if asked is None:
            return shaped
        config, learning = asked
        learning = learning.model_copy(
            update={"start": shaped, "teacher": self.trunk.model if learning.label_weight < 1 else None}
        )
        key = self._key(
            "train",
            dataset=self.trunk.dataset.digest,
            task=self.task.name,
            learning=learning.decides(),
            train=config.model_dump(mode="json", exclude={"num_workers", "keep_checkpoints"}),
        )
        training = Training(
            config=config,
            task=self.task.name,
            spec=self.spec(shaped),
            module=self.trunk.module,
            dataset=self.trunk.dataset,
            key=key,
            learning=learning,
        )
        meanwhile()
        # Nobody watches it: its curves would run into those of the model's own training.
        return self._place.train(training, self.workspace, lambda _: nullcontext())[0]

    def variant(self, chain: Chain) -> Reference:
        """The published variant of a candidate.

        Raises:
            ExportError, NameCollisionError: the network has no ONNX form that answers as it does.
            NotApplicableError: a method of the chain does nothing for this model.
        """
        if chain.name not in self._variants:
            self._variants[chain.name] = self._make_variant(chain)
        return self._variants[chain.name]

    def _make_variant(self, chain: Chain) -> Reference:
        model = self.network(chain.network)

        def make(output: Path) -> None:
            with track(f"making {chain.name}", total=2, unit="stages") as bar:
                parts = self._export(model)
                bar.advance()
                make_variant(
                    chain,
                    parts,
                    config=self.config,
                    task=self.task.name,
                    model=model,
                    bundle=self.bundle,
                    output=output,
                    uncompressed=self.workspace.fetch(self.variant(Chain())) if chain.methods else None,
                )
                bar.advance()

        return self.workspace.once("variants", self._variant_key(chain, model), make)[0]

    def _variant_key(self, chain: Chain, model: Reference) -> str:
        return self._key(
            "compress",
            model=model.digest,
            dataset=self.trunk.dataset.digest,
            candidate=chain.name,
            graph=chain.graph.reads(self.config) if chain.graph else None,
        )

    def notes(self, chain: Chain) -> dict[str, float]:
        """What the methods of a candidate found out while they made it."""
        return open_variant(self.workspace.fetch(self.variant(chain))).origin.notes

    def drop(self, chain: Chain) -> float | None:
        """What a candidate loses of the main metric against the uncompressed model; None without validation rows."""
        base, found = self._metric(Chain()), self._metric(chain)
        if base is None or found is None:
            return None
        return base - found if self.task.higher_is_better else found - base

    def _shape(self, parent: Reference, method: NetworkMethod) -> Reference:
        key = self._key("compress", shaped=method.name, parent=parent.digest, reads=method.reads(self.config))

        def make(output: Path) -> None:
            from windlass import models

            with self._torch, track(f"shaping {method.name}", total=1, unit="networks") as bar:
                directory = self.workspace.fetch(parent)
                spec, network = method.shape(*models.load(directory), self.config)
                source = directory / MODULE_NAME
                models.save(output, spec, network, source if source.is_file() else None)
                bar.advance()

        return self.workspace.once("networks", key, make)[0]

    def _export(self, model: Reference) -> Parts:
        """The exported network, kept while candidates of the same network are made one after another."""
        if self._exported is None or self._exported[0] != model.digest:
            with self._torch:
                self._exported = model.digest, export_parts(self.task, self.workspace.fetch(model), self.bundle)
        return self._exported[1]

    def _metric(self, chain: Chain) -> float | None:
        if chain.name not in self._metrics:
            directory = self.workspace.fetch(self.variant(chain))
            self._metrics[chain.name] = main_metric(directory, self.bundle, self.task, threads=self.threads)
        return self._metrics[chain.name]
