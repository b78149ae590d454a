"""The steps of a run: each hands a section of the recipe to its owner, and publishes once per `step_key`."""

from windlass.recipe.steps._compress import compress
from windlass.recipe.steps._evaluate import SERVING_MODULES, evaluate
from windlass.recipe.steps._prepare import prepare
from windlass.recipe.steps._register import register
from windlass.recipe.steps._select import select
from windlass.recipe.steps._train import plan_training, train

__all__ = [
    "SERVING_MODULES",
    "compress",
    "evaluate",
    "plan_training",
    "prepare",
    "register",
    "select",
    "train",
]
