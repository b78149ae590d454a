"""`windlass init`: a recipe from a table."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

from windlass.data.inference import infer
from windlass.errors import InvalidInputError
from windlass_cli.console import stderr, stdout

_MAX_NAME_LENGTH = 63


class RecipeExistsError(InvalidInputError):
    """The recipe would overwrite a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already; choose another with -o, or add --force")
        self.path = path


def write_recipe(file: Path, target: str, output: Path, *, force: bool) -> None:
    """Read the table, write the recipe, show it, and say what to type next.

    Rows that do not parse are told of before the recipe is written, which then leaves them out.

    Raises:
        DataError: the file cannot be read, or has no such column.
        RecipeExistsError: `output` exists and `force` is not set.
    """
    if output.exists() and not force:
        raise RecipeExistsError(output)
    if not output.parent.is_dir():
        raise InvalidInputError(f"-o {output}: there is no folder {output.parent}; make it first")
    found = infer(file, target)
    if found.bad_rows is not None:
        stderr().print(f"warning: {found.bad_rows}, as the recipe now does\n", markup=False)
    source = os.path.relpath(file.resolve(), output.parent.resolve())
    text = found.recipe_text(name_of(file), source)
    _write(output, text)
    stdout().print(text.rstrip(), markup=False)
    stderr().print(f"\nwritten to {output}; next:\n  windlass run {output}", markup=False)


def name_of(file: Path) -> str:
    """A recipe's name from a file's: lower-case letters, digits and dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower())[:_MAX_NAME_LENGTH].strip("-")
    return name or "model"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
