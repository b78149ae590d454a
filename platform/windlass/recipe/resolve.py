"""A recipe with every default filled in, every name checked and every file named by its digest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from windlass.data.sources import ResolvedSource, resolve_source
from windlass.models import check_parameters
from windlass.models.errors import InvalidModelError
from windlass.models.parameters import PARAMETERS
from windlass.recipe.errors import RecipeError
from windlass.recipe.model import Recipe
from windlass.schema import Document, Section, digest_of
from windlass.storage import digest_file
from windlass.tasks import get_task

_USER_ARCHITECTURE = re.compile(r"(?P<file>[^:]+\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]*)")


class UserModule(Section):
    """A user's architecture: a Python file by digest, and the class in it."""

    path: str
    sha256: str
    class_name: str


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
    def digest(self) -> str:
        """Of what is to be done, wherever the files lie and however fast it goes."""
        module = self.module.model_dump(exclude={"path"}) if self.module else None
        recipe = self.recipe.model_dump(
            mode="json", by_alias=True, exclude={"resources": True, "train": {"num_workers"}}
        )
        recipe["data"]["source"] = self.source.digest
        return digest_of({"recipe": recipe, "module": module})


def resolve(recipe: Recipe, base_directory: Path) -> ResolvedRecipe:
    """Fill in, check and freeze a recipe; relative paths in it start at `base_directory`.

    Raises:
        RecipeError: settings that exclude each other or that this machine cannot honour.
        InvalidInputError: the source does not exist or is of no known kind.
    """
    problems = [*_contradictions(recipe), *_impossible_here(recipe)]
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
    return ResolvedRecipe(recipe=filled, source=resolve_source(recipe.data.source, base_directory), module=module)


def _contradictions(recipe: Recipe) -> list[str]:
    task, data, train = get_task(recipe.task), recipe.data, recipe.train
    images = task.modality == "images"
    bundled = isinstance(data.source, str) and data.source.startswith("sklearn:")
    rules = [
        (not images and data.target is None and not bundled, "data.target: is needed: the column to predict"),
        (images and data.target is not None, f"data.target: {data.target!r}: images are labelled by their source"),
        (images and bool(data.columns or data.drop), "data.columns, data.drop: images have no columns"),
        (
            images and any((data.split.group, data.split.time, data.split.column)),
            "data.split: group, time and column need a table",
        ),
        (not images and data.image_size is not None, f"data.image_size: {recipe.task} has no images"),
        (not images and recipe.model.architecture == "cnn", f"model.architecture: cnn needs images, not {recipe.task}"),
        (not images and train.augment != type(train.augment)(), f"train.augment: {recipe.task} has no images"),
        (
            task.target_kind == "number" and train.class_weights != "none",
            f"train.class_weights: {recipe.task} has no classes",
        ),
        (
            train.global_batch_size < train.num_workers,
            f"train.global_batch_size: {train.global_batch_size}: at least one example per worker is needed "
            f"({train.num_workers} workers)",
        ),
    ]
    return [problem for broken, problem in rules if broken]


def _impossible_here(recipe: Recipe) -> list[str]:
    precision = recipe.train.precision
    if precision == "fp32":
        return []
    import torch

    if torch.cuda.is_available():
        return []
    return [f"train.precision: {precision} needs a CUDA GPU, and this machine has none; take fp32"]


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
