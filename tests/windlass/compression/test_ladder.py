"""How far `auto` climbs, and what it makes of a candidate that loses a little."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from types import SimpleNamespace

import pytest

from windlass.compression import ladder
from windlass.compression.config import CompressConfig
from windlass.compression.documents import Candidates
from windlass.compression.errors import NotApplicableError
from windlass.compression.ladder import LADDERS, Ladder, make_candidates, planned_candidates
from windlass.compression.methods import Chain, parse_chain
from windlass.compression.methods.method import NetworkMethod
from windlass.storage import Reference
from windlass.tasks import get_task


@dataclass
class Losses:
    """A tree whose candidates lose what the table says, without being made; all others lose nothing."""

    drops: dict[str, float] = field(default_factory=dict)
    impossible: tuple[str, ...] = ()
    task = get_task("image-classification")

    def expect(self, chains: list[Chain]) -> None:
        """Nothing is trained."""

    def variant(self, chain: Chain) -> Reference:
        for method in chain.methods:
            if method.name in self.impossible:
                raise NotApplicableError(method.name, f"there is no {method.name}")
        return Reference(uri=chain.name, digest="0" * 64)

    def network(self, methods: tuple[NetworkMethod, ...], meanwhile: Callable[[], None] = lambda: None) -> Reference:
        if methods:
            meanwhile()
            self.train(methods)
        return Reference(uri="+".join(method.name for method in methods), digest="0" * 64)

    def train(self, methods: tuple[NetworkMethod, ...]) -> None:
        """It takes no time."""

    def notes(self, chain: Chain) -> dict[str, float]:
        return {"fp32/first": 1.0} if "mixed" in chain.name else {}

    def drop(self, chain: Chain) -> float | None:
        return self.drops.get(chain.name, 0.0)


def climb(tree: Losses, **config: object) -> Candidates:
    return make_candidates(tree, CompressConfig.model_validate(config))  # type: ignore[arg-type]


def names(made: Candidates) -> list[str]:
    return [candidate.name for candidate in made.candidates]


RUNGS = [name for kind in LADDERS["cpu"].kinds for name in kind]
NAMES = [name for each in LADDERS.values() for kind in (*each.kinds, each.mendings) for name in kind]


@pytest.mark.parametrize("name", NAMES)
def test_each_rung_and_each_mending_is_a_candidate(name: str) -> None:
    assert parse_chain(name).name == name


def test_the_whole_ladder_is_climbed_where_nothing_is_lost() -> None:
    made = climb(Losses())
    assert names(made) == ["fp32", *RUNGS]
    assert made.left_out == ()
    assert "the ladder was climbed to its end" in made.ended


def test_a_kind_ends_with_the_rung_that_loses_too_much_and_says_so() -> None:
    made = climb(Losses({"pruned-65+int8": 0.2}), recover=False)
    assert names(made) == ["fp32", "int8", "pruned-50+int8", "pruned-65+int8", "distilled-50+int8", "distilled-25+int8"]
    assert [(left.name, left.reason) for left in made.left_out] == [
        ("pruned-80+int8", "pruned-65+int8 loses 0.2000 of accuracy already")
    ]


def test_a_linear_model_has_only_int8() -> None:
    methods = tuple(method.name for rung in RUNGS for method in parse_chain(rung).network)
    made = climb(Losses(impossible=methods))
    assert names(made) == ["fp32", "int8"]
    assert {left.reason for left in made.left_out} == {"there is no pruned-50", "there is no distilled-50"}


def test_a_gpu_gets_half_precision_and_no_int8() -> None:
    made = make_candidates(Losses(), CompressConfig(), "cuda")  # type: ignore[arg-type]
    networks = ["pruned-50", "pruned-65", "pruned-80", "distilled-50", "distilled-25"]
    assert names(made) == ["fp32", "fp16-compute", *(f"{network}+fp16-compute" for network in networks)]
    assert [chain.name for chain in planned_candidates(CompressConfig(), "cuda")] == names(made)


def test_what_half_precision_loses_on_a_gpu_is_won_back_by_arithmetic_in_fp32() -> None:
    made = make_candidates(Losses({"fp16-compute": 0.02}), CompressConfig(), "cuda")  # type: ignore[arg-type]
    assert [(each.name, each.recovers) for each in made.candidates if each.recovers] == [("fp16", "fp16-compute")]


def test_a_list_is_the_same_on_every_device() -> None:
    config = CompressConfig(candidates=("int8",))
    assert planned_candidates(config, "cuda") == planned_candidates(config, "cpu")


def test_what_is_lost_in_the_numbers_alone_is_won_back_by_the_cheapest_mending_that_does() -> None:
    lost = dict.fromkeys(("pruned-50+int8", "pruned-50+int8-percentile", "pruned-50+int8-mixed"), 0.02)
    made = climb(Losses(lost), acceptable_drop=0.01)
    mended = [candidate for candidate in made.candidates if candidate.recovers]
    assert [candidate.name for candidate in mended] == [*list(lost)[1:], "pruned-50+qat+int8"]
    assert {candidate.recovers for candidate in mended} == {"pruned-50+int8"}
    assert "pruned-65+int8" in names(made)

    cheap = climb(Losses({"pruned-50+int8": 0.02}), acceptable_drop=0.01)
    assert [candidate.name for candidate in cheap.candidates if candidate.recovers] == ["pruned-50+int8-percentile"]


def test_what_the_network_has_lost_is_mended_by_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = Ladder(LADDERS["cpu"].kinds, mendings=("int8", "qat+int8"))
    monkeypatch.setattr(ladder, "LADDERS", {"cpu": shorter})
    made = climb(Losses({"pruned-50+int8": 0.02, "pruned-50": 0.02}), acceptable_drop=0.01)
    assert [candidate.name for candidate in made.candidates if candidate.recovers] == ["pruned-50+qat+int8"]


def test_what_is_lost_by_far_is_not_mended() -> None:
    made = climb(Losses({"pruned-50+int8": 0.9}), acceptable_drop=0.01)
    assert all(candidate.recovers is None for candidate in made.candidates)
    assert "pruned-65+int8" not in names(made)


def test_no_candidate_is_begun_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    start_s = time.monotonic()
    clock = iter([start_s + 1, start_s + 50, *[start_s + 100] * 100])
    monkeypatch.setattr(ladder, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    made = climb(Losses(), max_time=60)
    assert names(made) == ["fp32", *RUNGS[:2]]
    assert {left.reason for left in made.left_out} == {"compress.max_time, 60 s, was over"}
    assert made.ended.startswith("compress.max_time was over")


def test_a_list_is_made_as_it_is_whatever_it_loses() -> None:
    made = climb(Losses({"sparse-90": 0.8}), candidates=("sparse-90", "pruned-30+int8"))
    assert names(made) == ["fp32", "sparse-90", "pruned-30+int8"]
    assert [candidate.methods for candidate in made.candidates] == [(), ("sparse-90",), ("pruned-30", "int8")]


def test_listed_candidates_are_made_while_the_next_network_is_trained() -> None:
    training, seen = Event(), []

    class Overlapping(Losses):
        def train(self, methods: tuple[NetworkMethod, ...]) -> None:
            training.set()

        def variant(self, chain: Chain) -> Reference:
            if chain.name == "int8":
                seen.append(training.wait(10))
            return super().variant(chain)

    assert names(climb(Overlapping(), candidates=["int8", "pruned-50+int8"])) == ["fp32", "int8", "pruned-50+int8"]
    assert seen == [True]


def test_after_a_listed_candidate_that_cannot_be_made_no_further_network_is_trained() -> None:
    refused, trained = Event(), []

    class Refusing(Losses):
        def train(self, methods: tuple[NetworkMethod, ...]) -> None:
            trained.append("+".join(method.name for method in methods))
            assert refused.wait(10)
            time.sleep(0.1)

        def variant(self, chain: Chain) -> Reference:
            if chain.name == "int8-mixed":
                refused.set()
            return super().variant(chain)

    tree = Refusing(impossible=("int8-mixed",))
    with pytest.raises(NotApplicableError, match="int8-mixed cannot be made: there is no int8-mixed"):
        climb(tree, candidates=["int8-mixed", "pruned-50+int8", "pruned-65+int8"])
    assert trained == ["pruned-50"]


def test_a_listed_candidate_that_makes_no_sense_for_the_model_is_refused() -> None:
    message = r"pruned-30\+int8 cannot be made: there is no pruned-30; leave it out of compress\.candidates"
    with pytest.raises(NotApplicableError, match=message):
        climb(Losses(impossible=("pruned-30",)), candidates=("pruned-30+int8",))


def test_what_a_method_found_out_is_kept_with_its_candidate() -> None:
    made = climb(Losses(), candidates=("int8", "int8-mixed"))
    assert [candidate.notes for candidate in made.candidates] == [{}, {}, {"fp32/first": 1.0}]
