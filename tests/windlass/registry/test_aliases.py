"""What an alias named before, and how it goes back there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from windlass.registry import (
    AliasNotFoundError,
    NothingToGoBackToError,
    Registry,
    UnsafeVersionError,
    VersionNotFoundError,
    promote,
    rollback,
)
from windlass.registry.aliases import history_of, move_alias
from windlass.registry.config import RegisterConfig
from windlass.registry.tracking import connect

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def three_versions(sqlite: str, variant: Path, support: Any) -> str:
    """Three runs, each of whose versions became the champion."""
    for key in "abc":
        support.register_variant(sqlite, variant, run_key=key * 64, run_id_tag=f"digits-{key}")
    return sqlite


def named(store: str, alias: str = "champion") -> list[tuple[int, str]]:
    return [(move.version, move.by) for move in history_of(Registry(store).model_tags("digits"), alias)]


def test_registration_keeps_what_the_alias_named(three_versions: str) -> None:
    assert named(three_versions) == [(1, "register"), (2, "register"), (3, "register")]


def test_a_rerun_that_moves_nothing_leaves_no_entry(three_versions: str, variant: Path, support: Any) -> None:
    support.register_variant(three_versions, variant, run_key="c" * 64)
    assert len(named(three_versions)) == 3


def test_an_alias_goes_back_to_what_it_named_before_and_a_second_rollback_undoes_the_first(
    three_versions: str,
) -> None:
    back = rollback(three_versions, "digits")
    assert (back.alias, back.previous, back.version, back.skipped) == ("champion", 3, 2, ())
    assert Registry(three_versions).aliases("digits") == {"champion": 2}
    again = rollback(three_versions, "digits")
    assert (again.previous, again.version) == (2, 3)
    assert named(three_versions)[-2:] == [(2, "rollback"), (3, "rollback")]


def test_a_rollback_can_name_the_version(three_versions: str) -> None:
    back = rollback(three_versions, "digits", to=1)
    assert (back.previous, back.version) == (3, 1)
    assert rollback(three_versions, "digits").version == 3


def test_a_version_that_was_deleted_is_passed_over_and_said(three_versions: str) -> None:
    connect(three_versions).delete_model_version("digits", "2")
    back = rollback(three_versions, "digits")
    assert (back.version, [(each.version, each.why) for each in back.skipped]) == (1, [(2, "was deleted")])


def test_an_alias_whose_version_was_deleted_goes_back_too(three_versions: str) -> None:
    connect(three_versions).delete_model_version("digits", "3")
    assert Registry(three_versions).aliases("digits") == {}
    back = rollback(three_versions, "digits")
    assert (back.previous, back.version) == (None, 2)


def test_a_promotion_is_rolled_back(sqlite: str, tmp_path: Path, support: Any) -> None:
    support.register_family(sqlite, tmp_path / "family", ("fp32", "int8"), "int8")
    promote(sqlite, "digits", "fp32")
    back = rollback(sqlite, "digits")
    assert (back.previous, back.version) == (2, 1)
    assert [by for _, by in named(sqlite)] == ["register", "promote", "rollback"]


def test_what_another_tool_did_to_the_alias_is_noted_when_we_move_it(three_versions: str) -> None:
    connect(three_versions).set_registered_model_alias("digits", "champion", "1")
    assert rollback(three_versions, "digits").version == 3
    assert named(three_versions)[-2:] == [(1, "another tool"), (3, "rollback")]
    assert rollback(three_versions, "digits").version == 1


def test_each_alias_has_a_history_of_its_own(three_versions: str, variant: Path, support: Any) -> None:
    config = RegisterConfig(alias="shadow")
    support.register_variant(three_versions, variant, run_key="a" * 64, config=config)
    with pytest.raises(
        NothingToGoBackToError,
        match=r"alias 'shadow' of model 'digits' has named no other version, as far as Windlass moved it; "
        r"`windlass rollback digits --alias shadow --to N` takes any",
    ):
        rollback(three_versions, "digits", alias="shadow")
    assert rollback(three_versions, "digits").version == 2


def test_nothing_to_go_back_to_names_what_is_gone(three_versions: str) -> None:
    for version in ("1", "2"):
        connect(three_versions).delete_model_version("digits", version)
    with pytest.raises(NothingToGoBackToError, match=r"still there \(version 2 was deleted, version 1 was deleted\)"):
        rollback(three_versions, "digits")


def test_an_alias_that_never_was_is_no_alias_to_roll_back(three_versions: str) -> None:
    with pytest.raises(AliasNotFoundError, match="no alias 'champoin', it has champion"):
        rollback(three_versions, "digits", alias="champoin", to=1)


def test_only_versions_of_ours_that_are_there_are_gone_back_to(three_versions: str) -> None:
    with pytest.raises(VersionNotFoundError, match="no version 9; see `windlass models show digits`"):
        rollback(three_versions, "digits", to=9)
    client = connect(three_versions)
    client.create_model_version("digits", client.get_model_version("digits", "1").source, await_creation_for=0)
    with pytest.raises(UnsafeVersionError, match=r"version 4 .* was not registered by windlass"):
        rollback(three_versions, "digits", to=4)
    client.set_registered_model_alias("digits", "champion", "4")
    move_alias(client, three_versions, "digits", "champion", 1, by="promote")
    back = rollback(three_versions, "digits")
    assert (back.version, [each.version for each in back.skipped]) == (3, [4])


def test_only_the_newest_moves_are_kept(three_versions: str) -> None:
    for _ in range(10):
        for version in (1, 2, 3):
            move_alias(connect(three_versions), three_versions, "digits", "champion", version, by="promote")
    assert len(named(three_versions)) == 20
    assert named(three_versions)[-1] == (3, "promote")


def test_a_history_follows_the_moves_though_a_clock_is_behind(
    three_versions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.registry.aliases.time.time", lambda: 1_000_000.0)
    move_alias(connect(three_versions), three_versions, "digits", "champion", 1, by="promote")
    assert named(three_versions)[-1] == (1, "promote")


def test_tags_of_others_are_no_history(three_versions: str) -> None:
    client = connect(three_versions)
    client.set_registered_model_tag("digits", "windlass.alias.champion.9999999999999-abcd", "seven")
    client.set_registered_model_tag("digits", "windlass.alias.champion.soon", '{"version": 1, "by": "promote"}')
    assert len(named(three_versions)) == 3


def test_two_that_move_an_alias_at_once_both_leave_their_entry(three_versions: str) -> None:
    errors: list[BaseException] = []

    def move(version: int) -> None:
        try:
            move_alias(connect(three_versions), three_versions, "digits", "champion", version, by="promote")
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=move, args=(version,)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {version for version, by in named(three_versions) if by == "promote"} == {1, 2}
