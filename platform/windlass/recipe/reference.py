"""The reference of the recipe, made from its sections: `python -m windlass.recipe.reference FILE`."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from windlass.recipe.model import Recipe
from windlass.schema import format_size

_HEAD = """# The recipe

Every key of a recipe, made from the source by `make generate`. A key without a default is needed.
Sizes are written as `60KB` (60,000 bytes) or `60KiB` (61,440). Any key can be overridden:
`windlass run recipe.yaml --set train.epochs=3`. `windlass recipe schema` prints the JSON Schema for editors.
"""


def render() -> str:
    """The reference as Markdown: a table per section."""
    parts = [_HEAD]
    for title, model in _sections(Recipe, ""):
        rows = [
            f"| `{title}{field.alias or name}` | {_type(field)} | {_default(field)} | {_cell(field.description)} |"
            for name, field in model.model_fields.items()
            if section_of(field) is None or typing.get_origin(field.annotation) is dict
        ]
        if rows:
            heading = title.rstrip(".") or "top level"
            table = ["| key | value | default | meaning |", "|---|---|---|---|", *rows]
            parts.append(f"\n## {heading}\n\n{(model.__doc__ or '').strip()}\n\n" + "\n".join(table) + "\n")
    return "".join(parts)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds, if it holds one."""
    candidates = [field.annotation, *typing.get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        if (section := section_of(field)) is not None:
            entry = "NAME." if typing.get_origin(field.annotation) is dict else ""
            yield from _sections(section, f"{path}{field.alias or name}.{entry}")


def _type(field: FieldInfo) -> str:
    if any(getattr(item, "func", None) and item.func.__name__ == "parse_size" for item in field.metadata):
        return "size"
    return _cell(_type_name(field.annotation))


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        names = [getattr(item.func, "__name__", "") for item in arguments[1:] if hasattr(item, "func")]
        return "size" if "parse_size" in names else _type_name(arguments[0])
    if origin is typing.Literal:
        return ", ".join(str(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        items = [argument for argument in arguments if argument is not Ellipsis]
        return "list of " + " and ".join(dict.fromkeys(_type_name(item) for item in items))
    if origin is dict:
        return "mapping to " + _type_name(arguments[1])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {"int": "whole number", "float": "number", "str": "text", "bool": "true, false"}[annotation.__name__]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if _type(field) == "size":
        return format_size(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value not in ((), {}) else "none"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
