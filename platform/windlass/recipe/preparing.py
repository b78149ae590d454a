"""The prepare step in this process: on DuckDB, or on Spark where Spark is installed."""

from __future__ import annotations

from pathlib import Path

from windlass.recipe.keys import step_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.spark_job import cluster_of, scratch_name
from windlass.storage import Reference, Workspace
from windlass.tasks import get_task


def prepare_key(resolved: ResolvedRecipe) -> str:
    """Under which the bundle is published. Both engines make the same one, so it does not name the engine."""
    recipe, task = resolved.recipe, get_task(resolved.recipe.task)
    return step_key(
        "prepare",
        data=recipe.data.model_dump(mode="json", exclude={"source", "engine", "executors", "executor_memory"}),
        source=resolved.source.digest,
        modality=task.modality,
        target_kind=task.target_kind,
        carry=recipe.evaluate.sensitive,
    )


def prepare_here(resolved: ResolvedRecipe, workspace: Workspace) -> tuple[Reference, bool]:
    """Prepare the data, unless they are published.

    Returns:
        The published bundle, and whether it was there before.
    """
    from windlass.data.prepare import prepare

    recipe, task, key = resolved.recipe, get_task(resolved.recipe.task), prepare_key(resolved)

    def make(output: Path) -> None:
        prepare(
            recipe.data,
            modality=task.modality,
            target_kind=task.target_kind,
            source=resolved.source,
            output=output,
            memory_limit_bytes=recipe.resources.memory,
            threads=resolved.threads,
            carry=recipe.evaluate.sensitive,
            cluster=cluster_of(resolved, scratch=f"{workspace.uri}/{scratch_name(key)}"),
        )

    return workspace.once("prepare", key, make)
