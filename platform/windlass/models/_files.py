"""A model's files: model.json, model.safetensors, and module.py where the class is the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import CorruptedError
from windlass.models.spec import MODEL_NAME, MODULE_NAME, WEIGHTS_NAME, ModelSpec
from windlass.variants.formats import check_safetensors

if TYPE_CHECKING:
    from torch import nn


def build(spec: ModelSpec, directory: Path | None = None) -> nn.Module:
    """The network that `spec` describes, its edits applied, with fresh weights.

    Args:
        directory: where `module.py` lies, if the class is the user's own.

    Raises:
        InvalidModuleError: the user's module does not load or does not give [B, num_outputs].
        CorruptedError: the module's source is not the one that the specification names, or an edit does not fit it.
    """
    from windlass.models.edits import apply_edits

    network = _build_unedited(spec, directory)
    apply_edits(network, spec.edits)
    return network


def _build_unedited(spec: ModelSpec, directory: Path | None) -> nn.Module:
    if spec.module_sha256 is not None:
        from windlass.models._module import build_from_module

        assert directory is not None
        return build_from_module(spec, directory / MODULE_NAME)
    from windlass.models.architectures import ARCHITECTURES

    return ARCHITECTURES[spec.architecture](spec.input_shape, spec.num_outputs, spec.parameters)


def save(directory: Path, spec: ModelSpec, module: nn.Module, source: Path | None = None) -> None:
    """Write the model's files into an existing directory.

    Args:
        source: the user's module, if the class is theirs.
    """
    from safetensors.torch import save_model

    save_model(module, str(directory / WEIGHTS_NAME))
    if source is not None:
        (directory / MODULE_NAME).write_bytes(source.read_bytes())
    spec.write(directory / MODEL_NAME)


def load(directory: Path) -> tuple[ModelSpec, nn.Module]:
    """The specification and the network with its trained weights, on the CPU, in evaluation mode.

    Raises:
        CorruptedError: a file is missing, is not safetensors, or does not fit the architecture.
        InvalidModuleError: the user's module does not load here.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    spec = ModelSpec.read(directory / MODEL_NAME)
    module = build(spec, directory)
    path = directory / WEIGHTS_NAME
    try:
        check_safetensors(path)
        load_model(module, str(path))
    except FileNotFoundError:
        raise CorruptedError(f"{path} is missing; run the step again that writes it") from None
    except SafetensorError as error:
        raise CorruptedError(f"{path} is not a safetensors file: {error}; run the step again that writes it") from error
    except RuntimeError as error:
        raise CorruptedError(f"{path} does not fit {directory / MODEL_NAME}: {error}") from error
    return spec, module.eval()
