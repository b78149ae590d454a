"""From what a recipe says about a model to its full specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from windlass.models.errors import InvalidModelError, InvalidModuleError
from windlass.models.parameters import PARAMETERS
from windlass.models.spec import ModelSpec
from windlass.storage import digest_file

_SMALLEST_POOLED = 8
_FIRST_CHANNELS, _MOST_CHANNELS = 16, 128


def check_parameters(architecture: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of one of our architectures with every default filled in, before its input is known.

    Raises:
        InvalidModelError: no such architecture, a parameter that it does not have, or a value that it cannot take.
    """
    if architecture not in PARAMETERS:
        raise InvalidModelError(
            f"there is no architecture {architecture!r}; choose one of {', '.join(PARAMETERS)}, "
            "or name your own class as my_model.py:Net"
        )
    section = PARAMETERS[architecture]
    unknown = sorted(set(parameters) - set(section.model_fields))
    if unknown:
        allowed = ", ".join(section.model_fields) or "none"
        raise InvalidModelError(f"{architecture} has no parameter {unknown[0]!r}; it has: {allowed}")
    try:
        return section.model_validate(parameters).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidModelError(f"{architecture}: {where}: {first['msg']}, got {first['input']!r}") from None


def resolve_parameters(
    architecture: str, parameters: dict[str, Any], *, input_shape: tuple[int, ...]
) -> dict[str, Any]:
    """The architecture's parameters with every default filled in, as JSON has them.

    Parameters of a user's own module (`my_model.py:Net`, or `module:Net`) are returned as they are.

    Raises:
        InvalidModelError: as `check_parameters`, or an input that the architecture is not made for.
    """
    if ":" in architecture:
        return dict(parameters)
    if architecture == "cnn":
        parameters = _with_channels(parameters, input_shape)
    return check_parameters(architecture, parameters)


def make_spec(
    architecture: str,
    parameters: dict[str, Any],
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    module_path: Path | None = None,
) -> ModelSpec:
    """The specification of a model.

    Args:
        architecture: mlp, cnn, linear, or FILE:CLASS with `module_path` being where that file lies.

    Raises:
        InvalidModelError: as `resolve_parameters`.
        InvalidModuleError: the module's file does not exist.
    """
    parameters = resolve_parameters(architecture, parameters, input_shape=input_shape)
    if ":" not in architecture:
        return ModelSpec(
            architecture=architecture, parameters=parameters, input_shape=input_shape, num_outputs=num_outputs
        )
    file, _, class_name = architecture.rpartition(":")
    if module_path is None or not module_path.is_file():
        raise InvalidModuleError(module_path or file, "there is no such file", "name it relative to the recipe")
    return ModelSpec(
        architecture=f"module:{class_name}",
        parameters=parameters,
        input_shape=input_shape,
        num_outputs=num_outputs,
        module_sha256=digest_file(module_path),
    )


def _with_channels(parameters: dict[str, Any], input_shape: tuple[int, ...]) -> dict[str, Any]:
    if len(input_shape) != 3:
        raise InvalidModelError("cnn is for images; take mlp or linear for a table")
    if parameters.get("channels"):
        return parameters
    size, halvings = min(input_shape[1:]), 0
    while size >= _SMALLEST_POOLED:
        size, halvings = size // 2, halvings + 1
    channels = [min(_FIRST_CHANNELS * 2**index, _MOST_CHANNELS) for index in range(max(halvings + 1, 3))]
    return {**parameters, "channels": channels}
