"""Moving an alias, and what it named before: MLflow itself keeps no history of aliases.

Each move leaves one tag on the registered model, `windlass.alias.<alias>.<time in ms>-<random>`, with the version that
the alias names from then on. A tag of its own per move means that no writer reads, changes and writes back what another
one writes at the same time: of two that move an alias at once, both moves are kept.

What is not guaranteed:
- MLflow moves an alias without a condition. Of two that move it at once the later one wins, and the history may have
  them in the other order.
- A move by another tool leaves no tag. It is noted, without its time, when we move the alias next.
- A process that is killed between the move and its tag leaves none either, and the same note makes up for it.
- Only the newest 20 moves of each alias are kept.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, Literal

from windlass.registry.tracking import is_conflict, is_transient, repeated
from windlass.schema import Section

_TAG = re.compile(r"windlass\.alias\.(?P<alias>[A-Za-z0-9_-]+)\.(?P<time_ms>\d{13})-[0-9a-f]{4}")
_KEPT_MOVES = 20
_ATTEMPTS = 6

MovedBy = Literal["register", "promote", "rollback", "another tool"]


class AliasMove(Section):
    """From this time on the alias named this version."""

    version: int
    time_s: float
    """Seconds since 1970; when it was noticed, if another tool moved it."""
    by: MovedBy
    tag: str


def history_of(tags: Mapping[str, str], alias: str) -> list[AliasMove]:
    """The moves of an alias that the tags of a registered model keep, oldest first; what is not ours is left out."""
    moves = []
    for tag, value in tags.items():
        match = _TAG.fullmatch(tag)
        if match is None or match["alias"] != alias:
            continue
        try:
            written = json.loads(value)
            move = AliasMove(version=written["version"], time_s=int(match["time_ms"]) / 1000, by=written["by"], tag=tag)
        except (ValueError, KeyError, TypeError):
            continue
        moves.append(move)
    return sorted(moves, key=lambda move: move.tag)


def move_alias(client: Any, tracking_uri: str, name: str, alias: str, version: int, *, by: MovedBy) -> int | None:
    """Let the alias name this version, and keep what it named before.

    Returns:
        The version that it named until now, None if there was no such alias.
    """
    model = repeated(tracking_uri, lambda: client.get_registered_model(name))
    found = model.aliases.get(alias)
    previous = None if found is None else int(found)
    if previous == version:
        return previous
    moves = history_of(model.tags, alias)
    if previous is not None and (not moves or moves[-1].version != previous):
        moves.append(_note(client, tracking_uri, name, alias, previous, "another tool", moves))
    repeated(
        tracking_uri,
        lambda: client.set_registered_model_alias(name, alias, str(version)),
        attempts=_ATTEMPTS,
        mendable=mendable,
    )
    moves.append(_note(client, tracking_uri, name, alias, version, by, moves))
    for move in moves[:-_KEPT_MOVES]:
        _forget(client, tracking_uri, name, move)
    return previous


def mendable(error: Exception) -> bool:
    """Whether a write may be tried again: the server was away, or another client wrote the same row."""
    return is_transient(error) or is_conflict(error)


def _note(
    client: Any, tracking_uri: str, name: str, alias: str, version: int, by: MovedBy, moves: list[AliasMove]
) -> AliasMove:
    # later than what is there, also where the clock of this machine is behind that of the last writer
    time_ms = max(int(time.time() * 1000), int(moves[-1].time_s * 1000) + 1 if moves else 0)
    tag = f"windlass.alias.{alias}.{time_ms:013d}-{secrets.token_hex(2)}"
    value = json.dumps({"version": version, "by": by})
    repeated(
        tracking_uri,
        lambda: client.set_registered_model_tag(name, tag, value),
        attempts=_ATTEMPTS,
        mendable=mendable,
    )
    return AliasMove(version=version, time_s=time_ms / 1000, by=by, tag=tag)


def _forget(client: Any, tracking_uri: str, name: str, move: AliasMove) -> None:
    repeated(tracking_uri, lambda: client.delete_registered_model_tag(name, move.tag))
