"""`windlass models`: what is registered."""

from __future__ import annotations

import datetime

from windlass.registry.reader import VersionInfo
from windlass_cli.console import print_json, stdout, table
from windlass_cli.open_registry import open_registry


def list_all(root: str, tracking_uri: str | None, *, as_json: bool) -> None:
    """Every model with its aliases."""
    models = open_registry(root, tracking_uri).models()
    if as_json:
        print_json([model.model_dump(mode="json") for model in models])
        return
    rows = [(model.name, _aliases(model.aliases)) for model in models]
    stdout().print(table(("model", "aliases"), rows))


def show(name: str, root: str, tracking_uri: str | None, *, as_json: bool) -> None:
    """Every version of a model, the newest first."""
    versions = list(reversed(open_registry(root, tracking_uri).versions(name)))
    if as_json:
        print_json([version.model_dump(mode="json") for version in versions])
        return
    rows = [_row(version) for version in versions]
    headings = ("version", "aliases", "registered", "made by run", "windlass tags")
    stdout().print(table(headings, rows, right=frozenset({0})))


def _row(version: VersionInfo) -> tuple[str, ...]:
    created = datetime.datetime.fromtimestamp(version.created_s).astimezone()
    tags = {name.removeprefix("windlass."): value for name, value in sorted(version.tags.items())}
    shown = "\n".join(f"{name} {value[:40]}" for name, value in tags.items() if name in _SHOWN_TAGS)
    aliases = ", ".join(version.aliases)
    return str(version.version), aliases, f"{created:%Y-%m-%d %H:%M}", version.run_id[:12], shown


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} → {version}" for alias, version in aliases.items()) or "none"


_SHOWN_TAGS = ("recipe", "candidate", "dataset", "parent")
