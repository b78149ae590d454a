"""`windlass recipe`: what a recipe means, and what it can say."""

from __future__ import annotations

from pathlib import Path

import yaml

from windlass.recipe.load import json_schema, load_recipe
from windlass.recipe.resolve import resolve
from windlass_cli.console import print_json, stdout


def show(path: Path, overrides: list[str], *, as_json: bool) -> None:
    """The resolved recipe, as YAML with its files as comments, or as one JSON document."""
    resolved = resolve(load_recipe(path, overrides), path.parent)
    if as_json:
        print_json({**resolved.model_dump(mode="json", by_alias=True), "digest": resolved.digest})
        return
    console = stdout()
    console.print(f"# digest {resolved.digest}", markup=False)
    for file in resolved.source.files:
        console.print(f"# source {file.uri}, {file.size_bytes:,} bytes, sha256 {file.sha256}", markup=False)
    document = resolved.recipe.model_dump(mode="json", by_alias=True)
    console.print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip(), markup=False)


def print_schema() -> None:
    print_json(json_schema())
