"""A recipe with every default filled in, every name checked and every file named by its digest."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from windlass.data.errors import MissingColumnError
from windlass.data.sources import ResolvedSource, resolve_source
from windlass.models import check_parameters
from windlass.models.errors import InvalidModelError
from windlass.models.parameters import PARAMETERS
from windlass.recipe.errors import RecipeError
from windlass.recipe.model import Recipe
from windlass.schema import Document, Section, digest_of
from windlass.storage import Reference, digest_file
from windlass.tasks import get_task
from windlass.variants.engines import Device, DeviceUnavailableError, check_device

PlaceName = Literal["machine", "cluster"]
_ROOM_BESIDE_DATA = 512 * 10**6
"""Bytes that preparing data takes beyond its limit: DuckDB's own excess, pyarrow and the interpreter."""
_USER_ARCHITECTURE = re.compile(r"(?P<file>[^:]+\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]*)")


class UserModule(Section):
    """A user's architecture: a Python file by digest, and the class in it."""

    path: str
    """Where the user has it."""
    sha256: str
    class_name: str
    reference: Reference | None = None
    """Where the run reads it, once it is published."""


class ResolvedRecipe(Document):
    """What every step reads, on a laptop and on a cluster. Frozen; its digest names it."""

    format_version: Literal[1] = 1
    recipe: Recipe
    source: ResolvedSource
    module: UserModule | None = None

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def model_name(self) -> str:
        """Of the registered model."""
        return self.recipe.registration.model or self.recipe.name

    @property
    def threads(self) -> int:
        """Of the machine that asks, as the recipe divides it."""
        return self.recipe.resources.threads or os.cpu_count() or 1

    @property
    def digest(self) -> str:
        """Of what is to be done, wherever the files lie and however fast it goes."""
        module = self.module.model_dump(exclude={"path", "reference"}) if self.module else None
        recipe = self.recipe.model_dump(
            mode="json", by_alias=True, exclude={"resources": True, "train": {"num_workers"}}
        )
        recipe["data"]["source"] = self.source.digest
        return digest_of({"recipe": recipe, "module": module})


def resolve(recipe: Recipe, base_directory: Path, *, place: PlaceName = "machine") -> ResolvedRecipe:
    """Fill in, check and freeze a recipe; relative paths in it start at `base_directory`.

    Args:
        place: where it is to run, this machine or a cluster.

    Raises:
        RecipeError: settings that exclude each other or that this place cannot honour.
        InvalidInputError: the source does not exist or is of no known kind, or has no such sensitive column.
    """
    problems = [*_contradictions(recipe), *_IMPOSSIBLE[place](recipe)]
    module = None
    architecture = recipe.model.architecture or get_task(recipe.task).default_architecture
    try:
        if architecture in PARAMETERS:
            check_parameters(architecture, recipe.model.parameters)
        else:
            module = _user_module(architecture, base_directory)
    except InvalidModelError as error:
        problems.append(f"model: {error}")
    if problems:
        raise RecipeError(f"recipe {recipe.name!r}", problems)
    filled = recipe.model_copy(update={"model": recipe.model.model_copy(update={"architecture": architecture})})
    source = resolve_source(recipe.data.source, base_directory)
    _check_sensitive(recipe, source)
    return ResolvedRecipe(recipe=filled, source=source, module=module)


def _contradictions(recipe: Recipe) -> list[str]:
    task, data, train = get_task(recipe.task), recipe.data, recipe.train
    unknown_metrics = [name for name in recipe.budget.metrics if name not in task.metrics]
    images = task.modality == "images"
    on_gpu = recipe.serve.device == "cuda"
    bundled = isinstance(data.source, str) and data.source.startswith("sklearn:")
    rules = [
        (not images and data.target is None and not bundled, "data.target: is needed: the column to predict"),
        (images and data.target is not None, f"data.target: {data.target!r}: images are labelled by their source"),
        (images and bool(data.columns or data.drop), "data.columns, data.drop: images have no columns"),
        (
            images and any((data.split.group, data.split.time, data.split.column)),
            "data.split: group, time and column need a table",
        ),
        (
            images and bool(recipe.evaluate.sensitive),
            "evaluate.sensitive: images have no columns; slices by class, brightness and contrast are always made",
        ),
        (not images and data.image_size is not None, f"data.image_size: {recipe.task} has no images"),
        (not images and recipe.model.architecture == "cnn", f"model.architecture: cnn needs images, not {recipe.task}"),
        (not images and train.augment != type(train.augment)(), f"train.augment: {recipe.task} has no images"),
        (
            task.target_kind == "number" and train.class_weights != "none",
            f"train.class_weights: {recipe.task} has no classes",
        ),
        (
            bool(unknown_metrics),
            f"budget.metrics: {', '.join(unknown_metrics)}: {recipe.task} has {', '.join(task.metrics)}",
        ),
        *(
            (on_gpu and asked, f"{setting}: {what} of a GPU is not measured; leave it out, or take serve.device: cpu")
            for setting, what, asked in (
                ("budget.max_memory", "memory", recipe.budget.max_memory is not None),
                ("budget.max_energy", "energy", recipe.budget.max_energy is not None),
                ("budget.objective", recipe.budget.objective, recipe.budget.objective in ("memory", "energy")),
            )
        ),
        (
            train.global_batch_size < train.num_workers,
            f"train.global_batch_size: {train.global_batch_size}: at least one example per worker is needed "
            f"({train.num_workers} workers)",
        ),
    ]
    return [problem for broken, problem in rules if broken]


def _check_sensitive(recipe: Recipe, source: ResolvedSource) -> None:
    """Sensitive columns exist: a misspelt one is told before hours of training, not after."""
    if not recipe.evaluate.sensitive:
        return
    from windlass.data.tables import read_layout

    table = read_layout(source)
    for name in recipe.evaluate.sensitive:
        if name not in table.names and name not in table.nested:
            raise MissingColumnError("evaluate.sensitive", name, table.place, table.names)


def _impossible_on_this_machine(recipe: Recipe) -> list[str]:
    return [*_impossible_precision(recipe.train.precision), *_impossible_device(recipe.serve.device)]


def _impossible_precision(precision: str) -> list[str]:
    if precision == "fp32":
        return []
    import torch

    if torch.cuda.is_available():
        return []
    return [f"train.precision: {precision} needs a CUDA GPU, and this machine has none; take fp32"]


def _impossible_device(device: Device) -> list[str]:
    try:
        check_device(device)
    except DeviceUnavailableError as error:
        return [f"serve.device: {error}"]
    return []


def _impossible_on_a_cluster(recipe: Recipe) -> list[str]:
    train, resources, tracking_uri = recipe.train, recipe.resources, recipe.registration.tracking_uri
    worker, step = resources.cluster.worker, resources.cluster.step
    rules = [
        (
            train.precision != "fp32" and not worker.gpus,
            f"train.precision: {train.precision} needs a CUDA GPU; set resources.cluster.worker.gpus, or take fp32",
        ),
        (
            train.num_workers % worker.processes != 0,
            f"resources.cluster.worker.processes: {worker.processes}: train.num_workers, {train.num_workers}, is not a "
            "multiple of it",
        ),
        (
            worker.gpus not in (0, worker.processes),
            f"resources.cluster.worker.gpus: {worker.gpus}: each of the {worker.processes} processes of a pod uses one",
        ),
        (
            recipe.serve.device == "cuda" and not step.gpus,
            "serve.device: cuda needs a GPU in the pods of the steps that measure; set resources.cluster.step.gpus: 1, "
            "or take cpu",
        ),
        (
            step.memory < resources.memory + _ROOM_BESIDE_DATA,
            f"resources.cluster.step.memory: {step.memory:,} bytes: preparing data takes resources.memory, "
            f"{resources.memory:,}, and {_ROOM_BESIDE_DATA:,} beside it",
        ),
        (
            tracking_uri is not None and not tracking_uri.startswith("http"),
            f"register.tracking_uri: {tracking_uri}: pods need a server, http://… or https://…",
        ),
    ]
    return [problem for broken, problem in rules if broken]


_IMPOSSIBLE = {"machine": _impossible_on_this_machine, "cluster": _impossible_on_a_cluster}


def _user_module(architecture: str, base_directory: Path) -> UserModule:
    match = _USER_ARCHITECTURE.fullmatch(architecture)
    if match is None:
        raise InvalidModelError(
            f"{architecture!r} is not one of {', '.join(PARAMETERS)}, nor a class in a file, as my_model.py:Net"
        )
    path = (base_directory / match["file"]).resolve()
    if not path.is_file():
        raise InvalidModelError(f"{path} does not exist")
    return UserModule(path=str(path), sha256=digest_file(path), class_name=match["name"])
