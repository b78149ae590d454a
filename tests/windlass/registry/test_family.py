"""What becomes of the candidates that a run did not choose: kept, listed, promoted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from windlass.registry import (
    CandidateNotFoundError,
    FamilyGoneError,
    NoFamilyError,
    Registry,
    UnsafeVersionError,
    VersionNotFoundError,
    promote,
    registered_as,
    rollback,
)
from windlass.registry.aliases import history_of
from windlass.registry.tracking import connect
from windlass.variants import open_variant
from windlass.variants.golden import GoldenMismatchError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NAMES = ("fp32", "int8", "pruned-50+int8")
Registered = Callable[..., Any]


on_both_stores = pytest.mark.parametrize(
    "store", ["sqlite", pytest.param("server", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """A SQLite file, or a tracking server."""
    kind = getattr(request, "param", "sqlite")
    found = request.getfixturevalue(kind)
    return str(found if kind == "sqlite" else found.url)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model of the test's own: tests share the server."""
    return request.node.name.partition("[")[0][-60:]


@pytest.fixture
def registered(store: str, name: str, tmp_path: Path, support: Any) -> Registered:
    """Registers a family whose winner is int8."""

    def register(key: str = "a", **changes: Any) -> Any:
        arguments = {"winner": "int8", "recipe_name": name, "run_key": key * 64, "run_id_tag": f"{name}-{key}"}
        return support.register_family(store, tmp_path / key, NAMES, **{**arguments, **changes})

    return register


@on_both_stores
def test_every_candidate_is_kept_with_its_figures_and_verdict(store: str, name: str, registered: Registered) -> None:
    registered()
    family = Registry(store).family(name, 1)
    assert family.winner == "int8"
    assert [candidate.name for candidate in family.candidates] == list(NAMES)
    pruned = family.candidate("pruned-50+int8")
    assert pruned is not None
    assert (pruned.metric, pruned.figures["accuracy"], pruned.figures["size_bytes"]) == ("accuracy", 0.97, 333)
    assert (pruned.fits, pruned.reason) == (True, "why pruned-50+int8")
    versions = Registry(store).versions(name)
    assert [len(registered_as(candidate, versions)) for candidate in family.candidates] == [0, 1, 0]


@on_both_stores
def test_a_promoted_loser_is_a_version_with_its_own_files_and_the_alias(
    store: str, name: str, registered: Registered, tmp_path: Path
) -> None:
    registered()
    promotion = promote(store, name, "pruned-50+int8")
    assert (promotion.version, promotion.created, promotion.parent) == (2, True, 1)
    assert (promotion.alias, promotion.previous, promotion.reason) == ("champion", 1, "why pruned-50+int8")
    registry = Registry(store)
    assert registry.aliases(name) == {"champion": 2}
    tags = registry.version(name, 2).tags
    assert (tags["windlass.parent"], tags["windlass.candidate"]) == (f"{name}/1", "pruned-50+int8")
    assert (tags["windlass.recipe"], tags["windlass.dataset"]) == (name, "f" * 64)
    assert open_variant(registry.download(name, 2, tmp_path / "copy")).name == "pruned-50+int8"


@on_both_stores
def test_promoted_twice_is_one_version_and_its_family_is_that_of_its_parent(
    store: str, name: str, registered: Registered
) -> None:
    registered()
    first, again = promote(store, name, "fp32"), promote(store, name, "fp32", version=1)
    assert (first.version, again.version, again.created) == (2, 2, False)
    assert promote(store, name, "pruned-50+int8", version=2).version == 3
    registry = Registry(store)
    assert registry.family(name, 3) == registry.family(name, 1)
    assert len(registry.versions(name)) == 3


def test_promoting_the_winner_takes_the_version_that_it_has(store: str, name: str, registered: Registered) -> None:
    registered()
    promote(store, name, "fp32")
    back = promote(store, name, "int8")
    assert (back.version, back.created, back.previous) == (1, False, 2)
    assert Registry(store).aliases(name) == {"champion": 1}


def test_a_candidate_without_alias_is_only_registered(store: str, name: str, registered: Registered) -> None:
    registered()
    promotion = promote(store, name, "fp32", alias=None)
    assert (promotion.version, promotion.alias, promotion.previous) == (2, None, None)
    assert Registry(store).aliases(name) == {"champion": 1}


def test_another_alias_may_name_it(store: str, name: str, registered: Registered) -> None:
    registered()
    assert promote(store, name, "fp32", alias="shadow").previous is None
    assert Registry(store).aliases(name) == {"champion": 1, "shadow": 2}


def test_the_same_model_of_another_run_is_one_version(store: str, name: str, registered: Registered) -> None:
    registered()
    registered("b", winner="fp32")
    promotion = promote(store, name, "int8")
    assert (promotion.version, promotion.created, promotion.parent) == (1, False, 2)


def test_the_champion_s_family_is_meant_unless_a_version_is_named(
    store: str, name: str, registered: Registered
) -> None:
    registered()
    registered("c", gate_open=False)
    assert promote(store, name, "fp32", alias=None).parent == 1
    with pytest.raises(VersionNotFoundError, match=f"no version 9; see `windlass models show {name}`"):
        promote(store, name, "fp32", version=9)


def test_a_candidate_that_is_not_there_is_named_with_those_that_are(
    store: str, name: str, registered: Registered
) -> None:
    registered()
    with pytest.raises(
        CandidateNotFoundError,
        match=rf"version 1 of model '{name}' has no candidate 'int4', it has fp32, int8, pruned-50\+int8; see",
    ):
        promote(store, name, "int4")


def version_folder(store: str, name: str, artifacts: Path) -> Path:
    """Where the family of version 1 lies on disk."""
    source = connect(store).get_model_version(name, "1").source
    path = urlsplit(source).path.lstrip("/")
    return (Path(f"/{path}") if source.startswith("file") else artifacts / path).parent


@pytest.fixture
def artifacts(request: pytest.FixtureRequest, store: str) -> Path:
    """The artifact store of the tracking server."""
    return request.getfixturevalue("server").directory / "artifacts" if store.startswith("http") else Path("/")


@on_both_stores
def test_files_that_are_gone_are_said_to_be_gone(
    store: str, name: str, registered: Registered, artifacts: Path
) -> None:
    registration = registered()
    folder = version_folder(store, name, artifacts)
    shutil.rmtree(folder / "1-fp32")
    with pytest.raises(FamilyGoneError, match=f"MLflow run {registration.run_id} has no 1-fp32; somebody removed"):
        promote(store, name, "fp32")
    shutil.rmtree(folder)
    with pytest.raises(FamilyGoneError, match=r"has no family.json; .*run the recipe again"):
        Registry(store).family(name, 1)
    assert Registry(store).aliases(name) == {"champion": 1}


@on_both_stores
def test_a_candidate_that_was_changed_is_refused_and_nothing_is_registered(
    store: str, name: str, registered: Registered, artifacts: Path
) -> None:
    registered()
    folder = version_folder(store, name, artifacts)
    (folder / "1-fp32" / "model.onnx").write_bytes(b"something else")
    with pytest.raises(UnsafeVersionError, match=r"model\.onnx is not what was registered"):
        promote(store, name, "fp32")
    (folder / "family.json").write_text((folder / "family.json").read_text().replace("fp32", "fp16"))
    with pytest.raises(UnsafeVersionError, match=r"the family.json of its run is not the one that was registered"):
        promote(store, name, "fp16")
    assert len(Registry(store).versions(name)) == 1


def test_a_version_of_others_has_no_family(store: str, name: str) -> None:
    client = connect(store)
    client.create_registered_model(name)
    run = client.create_run("0")
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, await_creation_for=0)
    with pytest.raises(UnsafeVersionError, match=r"version 1 .* is refused: it was not registered by windlass"):
        promote(store, name, "fp32")


def test_a_version_from_before_families_were_kept_says_what_to_do(
    store: str, name: str, registered: Registered
) -> None:
    registered()
    connect(store).delete_model_version_tag(name, "1", "windlass.family")
    with pytest.raises(NoFamilyError, match="without the other candidates of its run; run its recipe again"):
        Registry(store).family(name, 1)


def test_a_candidate_that_answers_otherwise_is_not_registered(sqlite: str, tmp_path: Path, support: Any) -> None:
    members = support.make_family(tmp_path / "family", NAMES)
    golden = members[0].variant / "golden.json"
    golden.write_text((members[1].variant / "golden.json").read_text())
    support.register_variant(sqlite, tmp_path / "family" / "variants", family=members, winner="int8")
    with pytest.raises(GoldenMismatchError, match="does not reproduce its golden examples"):
        promote(sqlite, "digits", "fp32")
    assert len(Registry(sqlite).versions("digits")) == 1


def test_some_documents_of_a_version_are_read_without_its_model(store: str, name: str, registered: Registered) -> None:
    registered()
    read = Registry(store).read_documents(name, 1, ("variant.json", "absent.json"))
    assert set(read) == {"variant.json"}


@on_both_stores
def test_a_promotion_is_rolled_back_and_the_history_is_kept_in_the_store(
    store: str, name: str, registered: Registered
) -> None:
    registered()
    promote(store, name, "fp32")
    back = rollback(store, name)
    assert (back.previous, back.version) == (2, 1)
    assert Registry(store).aliases(name) == {"champion": 1}
    moves = history_of(Registry(store).model_tags(name), "champion")
    assert [(move.version, move.by) for move in moves] == [(1, "register"), (2, "promote"), (1, "rollback")]
