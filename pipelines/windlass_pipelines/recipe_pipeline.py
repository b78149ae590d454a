"""The whole way: prepare, train, compress, evaluate, select, register."""

from typing import Any

from kfp import dsl

from windlass_components.compress import compress
from windlass_components.evaluate import evaluate
from windlass_components.prepare import prepare
from windlass_components.register import register
from windlass_components.select import select
from windlass_components.train import train


def recipe_pipeline(last: str = "register") -> Any:
    """The pipeline up to and including step `last`: what that step needs stands before it.

    Its parameters are `root`, where results live, and `run_id`, of a run that was opened there. The recipe travels
    through the root and not as a parameter: an argument of a process holds 128 KiB, and a recipe that names the files
    of a folder of images is longer.
    """

    def pipeline(root: str, run_id: str) -> None:
        run = {"root": root, "run_id": run_id}
        dataset = _task(prepare, **run).outputs["dataset"]
        if last == "prepare":
            return
        model = _task(train, **run, dataset=dataset).outputs["model"]
        if last == "train":
            return
        candidates = _task(compress, **run, dataset=dataset, model=model).outputs["candidates"]
        if last == "compress":
            return
        evaluation = _task(evaluate, **run, dataset=dataset, candidates=candidates).outputs["evaluation"]
        if last == "evaluate":
            return
        made = {"dataset": dataset, "model": model, "candidates": candidates, "evaluation": evaluation}
        selected = _task(select, **run, **made)
        if last == "select":
            return
        with dsl.If(selected.outputs["Output"] == 1, name="has-winner"):
            _task(register, **run, **made, verdict=selected.outputs["verdict"])

    return dsl.pipeline(pipeline, name="windlass-recipe", description="From a recipe to a registered version.")


def _task(component: Any, **inputs: Any) -> Any:
    """Without KFP's cache: a step itself knows by its key whether it is done."""
    return component(**inputs).set_caching_options(False)
