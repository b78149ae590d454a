"""Which candidates to make: a list as it is, or `auto`, a ladder that is climbed as long as it leads somewhere.

`auto` goes down kinds of candidates, cheap kinds first and mild strengths before strong ones. A candidate that loses
more than `compress.acceptable_drop` is mended: by other numbers if its numbers are what loses it, by more training
otherwise. It ends its kind if that does not help: what is stronger loses more. Nothing here reads the budget, so that
another budget needs no other candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from windlass.compression.config import CompressConfig
from windlass.compression.documents import Candidate, Candidates, LeftOut
from windlass.compression.errors import NotApplicableError
from windlass.compression.methods import UNCOMPRESSED, Chain, parse_chain
from windlass.compression.tree import Tree
from windlass.progress import Tracker, message, track
from windlass.variants.engines import Device

_MENDABLE = 10.0
"""A candidate that loses more than so many times what is acceptable is not worked on."""


@dataclass(frozen=True)
class Ladder:
    """What `auto` makes for one kind of processor."""

    kinds: tuple[tuple[str, ...], ...]
    """Each from mild to strong. Of most networks half the channels leave a quarter of the weights."""
    mendings: tuple[str, ...]
    """What may win back what the numbers lose, cheap ones first: replaces them in a candidate's name."""


def _ladder(numbers: str, *mendings: str) -> Ladder:
    """Numbers alone, then fewer channels, then a smaller network, each in these numbers."""
    networks = (("pruned-50", "pruned-65", "pruned-80"), ("distilled-50", "distilled-25"))
    smaller = tuple(tuple(f"{network}+{numbers}" for network in kind) for kind in networks)
    return Ladder(kinds=((numbers,), *smaller), mendings=mendings)


LADDERS: Mapping[Device, Ladder] = {
    "cpu": _ladder("int8", "int8-percentile", "int8-mixed", "qat+int8"),
    "cuda": _ladder("fp16-compute", "fp16"),
}
"""By `serve.device`; docs/adr/0026 says why a GPU gets no int8."""


def make_candidates(tree: Tree, config: CompressConfig, device: Device = "cpu") -> Candidates:
    """Make every candidate of the recipe.

    Args:
        device: on which candidates will be measured and served; it chooses the ladder of `auto`. They are made, and
            what they lose is estimated, on the CPU.

    Raises:
        NotApplicableError: a listed candidate makes no sense for this model; `auto` leaves such ones out.
        ExportError, NameCollisionError: the network has no ONNX form that answers as it does.
        TrainingInterruptedError and the other errors of `windlass.training.place`.
    """
    climb = _Climb(tree, config, LADDERS[device])
    tree.expect(planned_candidates(config, device))
    climb.make(Chain())
    if config.candidates == "auto":
        climb.ladder()
    else:
        climb.listed([parse_chain(name) for name in config.candidates])
    return Candidates(
        uncompressed=UNCOMPRESSED,
        candidates=tuple(climb.made.values()),
        left_out=tuple(LeftOut(name=name, reason=reason) for name, reason in climb.left_out.items()),
        ended=climb.ended,
    )


def planned_candidates(config: CompressConfig, device: Device = "cpu") -> list[Chain]:
    """The uncompressed model, then the list; of `auto` the rungs, some of which may be left out and others mended."""
    rungs = [name for kind in LADDERS[device].kinds for name in kind]
    names = rungs if config.candidates == "auto" else config.candidates
    return list(dict.fromkeys([Chain(), *map(parse_chain, names)]))


@dataclass
class _Climb:
    """The candidates made so far, and those that were not worth making."""

    tree: Tree
    config: CompressConfig
    rungs: Ladder
    made: dict[str, Candidate] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    started_s: float = field(default_factory=time.monotonic)

    def make(self, chain: Chain, *, recovers: str | None = None) -> Candidate:
        """One candidate, with what it loses."""
        candidate = Candidate(
            name=chain.name,
            variant=self.tree.variant(chain),
            model=self.tree.network(chain.network),
            methods=tuple(method.name for method in chain.methods),
            drop=self.tree.drop(chain) if chain.methods else None,
            recovers=recovers,
            notes=self.tree.notes(chain),
        )
        self.made[chain.name] = candidate
        return candidate

    def listed(self, chains: Sequence[Chain]) -> None:
        """All that the recipe lists, as it is: what needs no training is done while the next network is trained."""
        with track("making candidates", total=len(chains), unit="candidates") as bar, _Beside() as beside:
            waiting: list[Chain] = []

            def make_waiting() -> None:
                while waiting:
                    beside.do(partial(self._make_listed, waiting.pop(0), bar))

            for chain in chains:
                beside.check()
                with _named(chain):
                    self.tree.network(chain.network, meanwhile=make_waiting)
                waiting.append(chain)
            make_waiting()
        self.ended = "the recipe lists these candidates"

    def _make_listed(self, chain: Chain, bar: Tracker) -> None:
        if chain.name not in self.made:
            with _named(chain):
                self.make(chain)
        bar.advance()

    def ladder(self) -> None:
        """Kind by kind, each until it no longer leads to an acceptable candidate."""
        total = sum(len(kind) for kind in self.rungs.kinds)
        with track("making candidates", total=total, unit="candidates") as bar:
            for kind in self.rungs.kinds:
                self._climb_kind([parse_chain(name) for name in kind])
                bar.advance(len(kind))
        late = "compress.max_time was over" if self._late() else "the ladder was climbed to its end"
        self.ended = f"{late}: {len(self.made)} candidates were made, {len(self.left_out)} were not worth making"

    def _climb_kind(self, rungs: Sequence[Chain]) -> None:
        for index, chain in enumerate(rungs):
            reason = self._try(chain)
            if reason is None:
                continue
            for skipped in rungs[index:]:
                if skipped.name not in self.made:
                    self.left_out[skipped.name] = reason
            return

    def _try(self, chain: Chain) -> str | None:
        """Make a candidate; returns why the stronger ones of its kind are not worth making, or None."""
        if self._late():
            return f"compress.max_time, {self.config.max_time:g} s, was over"
        try:
            candidate = self.make(chain)
        except NotApplicableError as error:
            return error.cause
        if self._is_acceptable(candidate) or any(
            self._is_acceptable(mended) for mended in self._mend(chain, candidate)
        ):
            return None
        lost = f"{candidate.name} loses {candidate.drop:.4f} of {self.tree.task.metric}"
        message(
            f"{lost}, more than the acceptable {self.config.acceptable_drop:g}; stronger ones of its kind are left out"
        )
        return f"{lost} already"

    def _mend(self, chain: Chain, candidate: Candidate) -> Iterator[Candidate]:
        """Candidates that may lose less than this one."""
        limit = self.config.acceptable_drop
        if not self.config.recover or candidate.drop is None or candidate.drop > _MENDABLE * limit:
            return
        in_floats = Chain(chain.network)
        network_drop = self.tree.drop(in_floats) if in_floats.methods else 0.0
        for mending in self.rungs.mendings:
            mended = parse_chain("+".join([*(method.name for method in chain.network), mending]))
            if (network_drop is None or network_drop > limit) and mended.network == chain.network:
                continue  # other numbers do not mend what the network itself has lost
            if self._late():
                self.left_out[mended.name] = f"compress.max_time, {self.config.max_time:g} s, was over"
                continue
            try:
                yield self.make(mended, recovers=candidate.name)
            except NotApplicableError as error:
                self.left_out[mended.name] = error.cause

    def _is_acceptable(self, candidate: Candidate) -> bool:
        return candidate.drop is None or candidate.drop <= self.config.acceptable_drop

    def _late(self) -> bool:
        limit_s = self.config.max_time
        return limit_s is not None and time.monotonic() - self.started_s > limit_s


@contextmanager
def _named(chain: Chain) -> Iterator[None]:
    """Where one link cannot be made, say so of the whole chain: the recipe lists that."""
    try:
        yield
    except NotApplicableError as error:
        raise NotApplicableError(chain.name, error.cause) from error


class _Beside:
    """Does one thing after another in a thread of its own: trainings stay in the main thread, which signals reach."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._asked: list[Future[None]] = []

    def do(self, work: Callable[[], None]) -> None:
        self._asked.append(self._thread.submit(work))

    def check(self) -> None:
        """Raise what something that is over has raised; the end of the context raises what is left."""
        for done in filter(Future.done, self._asked):
            done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for asked in self._asked:
                    asked.result()
        finally:
            self._thread.shutdown(cancel_futures=True)
