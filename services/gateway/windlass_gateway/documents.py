"""What the gateway answers with, besides problems."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from windlass.variants import Signature
from windlass_gateway.cache import RoutedVersion
from windlass_gateway.models import Loaded, ModelTable

PREDICT_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["rows"],
                    "additionalProperties": False,
                    "properties": {
                        "rows": {
                            "type": "array",
                            "minItems": 1,
                            "items": {},
                            "description": "a table's row as a list in the order of the columns or as an object by "
                            "column name; an image as nested lists of integers, height × width × channels",
                        }
                    },
                },
                "example": {"rows": [[5.1, 3.5, 1.4, 0.2]]},
            }
        },
    }
}


class PredictReply(BaseModel):
    """One answer per row, and which version gave them all."""

    model: str
    version: int
    predictions: list[Any] = Field(
        description="a number for each row, or an object with `class` and `probabilities` in the order of class_names"
    )


class VersionState(BaseModel):
    version: int
    state: Literal["loaded", "cached", "registered", "refused"] = Field(
        description="of this worker: loaded; in the cache; in the registry only; or refused after its check"
    )


class ModelReply(BaseModel):
    """A model as it is served now."""

    name: str
    aliases: dict[str, int] = Field(description="by alias, the version that answers for it now")
    default_version: int | None = Field(description="the version that the plain name means; null: none")
    versions: list[VersionState]


class ModelsReply(BaseModel):
    models: list[ModelReply]


class VersionReply(BaseModel):
    """A version: its signature and how it was made."""

    model: str
    version: int
    aliases: list[str]
    task: str
    variant: str
    methods: list[str]
    format: str
    engine: str
    batch_invariant: bool | None
    size_bytes: int
    digest: str
    signature: Signature


class ReadyReply(BaseModel):
    status: Literal["ready"]
    models: dict[str, dict[str, int]] = Field(description="by model and alias, the version that answers")
    problems: list[str]


def describe_model(table: ModelTable, name: str) -> ModelReply:
    """A model that the table routes."""
    model = table.routes.models[name]
    aliases = table.aliases(name)
    return ModelReply(
        name=name,
        aliases=aliases,
        default_version=aliases.get(model.default_alias) if model.default_alias else None,
        versions=[_state(table, name, entry) for entry in model.versions],
    )


def describe_version(table: ModelTable, loaded: Loaded) -> VersionReply:
    """A version that is loaded."""
    variant = loaded.variant
    return VersionReply(
        model=loaded.name,
        version=loaded.version,
        aliases=[alias for alias, version in table.aliases(loaded.name).items() if version == loaded.version],
        task=variant.task,
        variant=variant.name,
        methods=list(variant.origin.methods),
        format=variant.format,
        engine=variant.engine,
        batch_invariant=variant.batch_invariant,
        size_bytes=loaded.size_bytes,
        digest=loaded.digest,
        signature=variant.signature,
    )


def _state(table: ModelTable, name: str, entry: RoutedVersion) -> VersionState:
    return VersionState.model_validate({"version": entry.version, "state": table.state(name, entry)})
