"""From the text that a user wrote to a checked `Recipe`."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from windlass.recipe.errors import RecipeError
from windlass.recipe.model import Recipe
from windlass.registry.redaction import redact

_MAX_RECIPE_BYTES = 1 << 20
_EXPLAINED = re.compile(r"^(Value error, |Assertion failed, )")


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: `3e-3` is a number, `no` and `2024-01-31` are text, no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for (key_node, _), key in zip(node.value, keys, strict=True):
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?$|^[-+]?\d+[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    Args:
        path: a YAML file.
        overrides: settings such as `train.epochs=3`, applied in order; values are YAML.

    Raises:
        RecipeError: with every mistake that was found: the key's path, the value, and what is allowed.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RecipeError(str(path), ["no such file; write one with `windlass init FILE --target COLUMN`"]) from None
    except OSError as error:
        raise RecipeError(str(path), [f"cannot be read: {error.strerror}"]) from error
    return parse_recipe(data, str(path), overrides)


def parse_recipe(data: bytes, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """The same for a recipe that is in memory; `where` names it in errors."""
    if len(data) > _MAX_RECIPE_BYTES:
        raise RecipeError(where, [f"{len(data):,} bytes are no recipe; at most {_MAX_RECIPE_BYTES:,} are read"])
    document = _parse_yaml(data, where)
    if not isinstance(document, dict):
        raise RecipeError(where, ["not a mapping of keys to values; see `windlass recipe schema`"])
    for override in overrides:
        _apply_override(document, override)
    return check_recipe(document, where)


def check_recipe(document: dict[str, Any], where: str) -> Recipe:
    """Check a recipe's plain data: types are strict, `"3"` is no number."""
    try:
        return Recipe.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise RecipeError(where, _describe(error)) from None


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors and other tools."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema(by_alias=True)}


def _parse_yaml(data: bytes, where: str) -> Any:
    try:
        return yaml.load(data.decode("utf-8-sig"), _Loader)  # noqa: S506 - a subclass of the safe loader
    except UnicodeDecodeError as error:
        raise RecipeError(where, [f"byte {error.start} is not UTF-8; save the file as UTF-8"]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(where, [f"{place}{error.problem}"]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(where, [f"not YAML: {error}"]) from None


def _apply_override(document: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise RecipeError(f"--set {override}", ["write it as KEY=VALUE, such as train.epochs=3"])
    section = document
    for key in keys[:-1]:
        below = section.setdefault(key, {})
        if not isinstance(below, dict):
            raise RecipeError(f"--set {override}", [f"{key} is {below!r}, not a section"])
        section = below
    section[keys[-1]] = _parse_yaml(text.encode(), f"--set {override}")


def _describe(error: ValidationError) -> list[str]:
    problems: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        location = [part for part in detail["loc"] if not _names_a_union_branch(part)]
        path = ".".join(str(part) for part in location) or "the recipe"
        problems.setdefault(path, []).append(_explain(path, location, detail))
    return [texts[0] if len(texts) == 1 else _merge(path, texts) for path, texts in problems.items()]


def _names_a_union_branch(part: str | int) -> bool:
    return isinstance(part, str) and (
        "[" in part or part in {"str", "int", "float", "bool"} or part.startswith("literal")
    )


def _merge(path: str, texts: list[str]) -> str:
    head = texts[0].split(": ", 2)
    choices = " or ".join(dict.fromkeys(text.split(": ", 2)[-1] for text in texts))
    return f"{path}: {head[1]}: {choices}" if len(head) == 3 else f"{path}: {choices}"


def _explain(path: str, location: list[str | int], detail: Any) -> str:
    if detail["type"] == "missing":
        return f"{path}: is needed and absent"
    if detail["type"] == "extra_forbidden":
        allowed = _keys_at(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{path}: unknown key; {hint}allowed here: {', '.join(allowed)}"
    message = _EXPLAINED.sub("", detail["msg"])
    if len(location) == 0 or isinstance(detail["input"], dict):
        return f"{path}: {message}"
    return f"{path}: {redact(json.dumps(detail['input'], default=str))[:80]}: {message}"


def _keys_at(location: list[str | int]) -> list[str]:
    model: type[BaseModel] | None = Recipe
    named_by_user = False
    for part in location:
        if named_by_user:  # the name of a metric: what lies below is the section that the mapping holds
            named_by_user = False
            continue
        field = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None) if model else None
        model = _section_in(field.annotation) if field else None
        named_by_user = field is not None and typing.get_origin(field.annotation) is dict
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
