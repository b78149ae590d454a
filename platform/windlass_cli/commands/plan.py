"""`windlass plan`: what a run will make, and what it will take."""

from __future__ import annotations

from pathlib import Path

from windlass.planning.plan import plan_run
from windlass.recipe.inputs import publish_inputs
from windlass.recipe.load import load_recipe
from windlass.recipe.resolve import resolve
from windlass.schema import format_size
from windlass.storage import Workspace
from windlass_cli.commands.run import command_line
from windlass_cli.console import duration, print_json, stdout, table
from windlass_cli.display import open_display


def plan_recipe(path: Path, overrides: list[str], *, root: str, as_json: bool) -> None:
    """Prepare the data, time a few steps of training, and show the plan.

    Raises:
        RecipeError: the recipe or an override is wrong; nothing was started.
    """
    workspace = Workspace(root)
    resolved = publish_inputs(resolve(load_recipe(path, overrides), path.parent), workspace)
    with open_display(as_json=as_json):
        plan = plan_run(resolved, workspace)
    if as_json:
        print_json({**plan.model_dump(mode="json"), "seconds": plan.seconds})
        return
    rows = [
        (step.step, step.work, "–" if step.basis == "done" else duration(step.seconds), step.basis)
        for step in plan.steps
    ]
    console = stdout()
    console.print(table(("step", "what it does", "takes about", "known from"), rows, right=frozenset({2})))
    console.print(f"in all about {duration(plan.seconds)} on this machine", markup=False)
    console.print(f"disk: about {format_size(plan.disk_bytes)} in {workspace.uri}", markup=False)
    console.print(f"network: {plan.num_parameters:,} parameters", markup=False)
    console.print(f"candidates: {', '.join(plan.candidates)}", markup=False)
    console.print(f"\nnext:\n  {command_line('run', path, overrides, None, root)}", markup=False)
