"""A user's own architecture: the class in a `module.py` whose digest the specification names."""

from __future__ import annotations

import hashlib
import sys
import types
from pathlib import Path

import torch
from torch import Tensor, nn

from windlass.errors import CorruptedError
from windlass.models.errors import InvalidModuleError
from windlass.models.spec import ModelSpec


def build_from_module(spec: ModelSpec, path: Path) -> nn.Module:
    """Import the source if it is the one that `spec` names, build its class, and try it on zeros.

    Raises:
        CorruptedError: the source has another digest.
        InvalidModuleError: it does not import, has no such class, or its output is not float32 [B, num_outputs].
    """
    class_name = spec.architecture.removeprefix("module:")
    source = _verified_source(spec, path)
    network_class = getattr(_import_source(source, path, spec), class_name, None)
    if network_class is None:
        raise InvalidModuleError(path, f"has no class {class_name!r}", "check the name after the colon")
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise InvalidModuleError(path, f"{class_name} is no torch.nn.Module", "derive the class from it")
    call = f"{class_name}(input_shape={spec.input_shape}, num_outputs={spec.num_outputs}, ...)"
    try:
        network: nn.Module = network_class(
            input_shape=spec.input_shape, num_outputs=spec.num_outputs, **spec.parameters
        )
        outputs = network.train(False)(torch.zeros(2, *spec.input_shape))
    except Exception as error:  # a user's own code can raise anything
        raise InvalidModuleError(
            path,
            f"{call} fails with {type(error).__name__}: {error}",
            "it is built by these keywords and model.parameters, and called with float32 [B, *input_shape]",
        ) from error
    _check_outputs(outputs, spec, path, class_name)
    return network.train()


def _verified_source(spec: ModelSpec, path: Path) -> bytes:
    if not path.is_file():
        raise CorruptedError(f"{path} is missing; run the step again that writes it")
    source = path.read_bytes()
    if hashlib.sha256(source).hexdigest() != spec.module_sha256:
        raise CorruptedError(f"{path} is not the source that the model was made from; it was not imported")
    return source


def _import_source(source: bytes, path: Path, spec: ModelSpec) -> types.ModuleType:
    name = f"windlass_user_module_{spec.module_sha256}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and torch.export look the class's module up by name.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - its digest is verified
    except SyntaxError as error:
        raise InvalidModuleError(path, f"line {error.lineno}: {error.msg}", "correct it and run again") from error
    except ImportError as error:
        raise InvalidModuleError(
            path, str(error), "a module travels as one file: install what it imports, or move it into the file"
        ) from error
    except Exception as error:  # a user's own code can raise anything
        raise InvalidModuleError(
            path, f"importing it fails with {type(error).__name__}: {error}", "correct it and run again"
        ) from error
    return module


def _check_outputs(outputs: object, spec: ModelSpec, path: Path, class_name: str) -> None:
    expected = (2, spec.num_outputs)
    if not isinstance(outputs, Tensor):
        raise InvalidModuleError(path, f"{class_name} returns {type(outputs).__name__}", "it has to return a tensor")
    if tuple(outputs.shape) != expected or outputs.dtype != torch.float32:
        raise InvalidModuleError(
            path,
            f"{class_name} gives {outputs.dtype} {list(outputs.shape)} for a batch of 2",
            f"it has to give torch.float32 {list(expected)}: [B, num_outputs], without softmax",
        )
