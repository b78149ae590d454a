"""The recipe: read, resolved, frozen, hashed, and cut into steps that know when they are done."""

from windlass.recipe.errors import RecipeError
from windlass.recipe.load import check_recipe, json_schema, load_recipe, parse_recipe
from windlass.recipe.model import Recipe
from windlass.recipe.resolve import ResolvedRecipe, resolve

__all__ = [
    "Recipe",
    "RecipeError",
    "ResolvedRecipe",
    "check_recipe",
    "json_schema",
    "load_recipe",
    "parse_recipe",
    "resolve",
]
