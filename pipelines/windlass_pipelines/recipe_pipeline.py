"""The whole way: prepare, train, compress, evaluate, select, register."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from windlass_components.compress import compress
from windlass_components.evaluate import evaluate
from windlass_components.prepare import prepare
from windlass_components.register import register
from windlass_components.select import select
from windlass_components.train import train


def recipe_pipeline(last: str = "register", adapt: Callable[[Any], object] = lambda _: None) -> Any:
    """The pipeline up to and including step `last`: what that step needs stands before it.

    Its parameters are `root`, where results live, and `run_id`, of a run that was opened there. The recipe travels
    through the root and not as a parameter: an argument of a process holds 128 KiB, and a recipe that names the files
    of a folder of images is longer.

    Args:
        adapt: called with each task, to set what it needs of the place where it runs.
    """

    def step(component: Any, **inputs: Any) -> Any:
        # Without KFP's cache: a step itself knows by its key whether it is done.
        task = component(**inputs).set_caching_options(False)
        adapt(task)
        return task

    def pipeline(root: str, run_id: str) -> None:
        run = {"root": root, "run_id": run_id}
        dataset = step(prepare, **run).outputs["dataset"]
        if last == "prepare":
            return
        model = step(train, **run, dataset=dataset).outputs["model"]
        if last == "train":
            return
        candidates = step(compress, **run, dataset=dataset, model=model).outputs["candidates"]
        if last == "compress":
            return
        evaluation = step(evaluate, **run, dataset=dataset, candidates=candidates).outputs["evaluation"]
        if last == "evaluate":
            return
        made = {"dataset": dataset, "model": model, "candidates": candidates, "evaluation": evaluation}
        selected = step(select, **run, **made)
        if last == "select":
            return
        with dsl.If(selected.outputs["Output"] == 1, name="has-winner"):
            step(register, **run, **made, verdict=selected.outputs["verdict"])

    return dsl.pipeline(pipeline, name="windlass-recipe", description="From a recipe to a registered version.")
