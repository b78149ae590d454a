"""`windlass run`: a recipe through the pipeline on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

from windlass.errors import EXIT_BAD_INPUT, InvalidInputError
from windlass.recipe.inputs import publish_inputs
from windlass.recipe.load import load_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import hold_run, new_run
from windlass.storage import Workspace
from windlass_cli.console import print_json, stderr, stdout
from windlass_cli.defaults import DEFAULT_ROOT
from windlass_cli.display import open_display
from windlass_cli.summary import RunSummary, print_summary, summarize
from windlass_pipelines.local import Outcome, run_locally
from windlass_pipelines.request import STEPS


def run_recipe(path: Path, overrides: list[str], *, step: str | None, root: str, as_json: bool) -> int:
    """Run a recipe up to `step`, show the steps as they go, and end with the result and what to type next.

    Returns:
        The exit code of the run.

    Raises:
        RecipeError: the recipe or an override is wrong; nothing was started.
    """
    last_step = check_step(step)
    workspace = Workspace(root)
    command = command_line("run", path, overrides, step, root)
    run_id, outcome = follow(workspace, path, overrides, last_step=last_step, command=command, as_json=as_json)
    summary = summarize(workspace, run_id, root=root)
    show_result(summary, outcome, command=command, as_json=as_json)
    return outcome.exit_code


def check_step(step: str | None) -> str:
    """The last step to run: the one that is asked for, or the last there is.

    Raises:
        InvalidInputError: there is no such step.
    """
    if step is not None and step not in STEPS:
        raise InvalidInputError(f"--step {step}: there is no such step; one of {', '.join(STEPS)}")
    return step or STEPS[-1]


def follow(
    workspace: Workspace, path: Path, overrides: list[str], *, last_step: str, command: str, as_json: bool
) -> tuple[str, Outcome]:
    """Open a run of a recipe, run it and show the steps as they go; gives its id and how it ended."""
    resolved = resolve(load_recipe(path, overrides), path.parent)
    with open_display(as_json=as_json) as display:
        run_id = new_run(workspace, publish_inputs(resolved, workspace), command=command)
        with hold_run(workspace, run_id):
            return run_id, run_locally(workspace, run_id, last_step=last_step, on_event=display.show)


def command_line(command: str, path: Path, overrides: list[str], step: str | None, root: str) -> str:
    """What to type to go on."""
    words = ["windlass", command, str(path), *(word for override in overrides for word in ("--set", override))]
    words += ["--step", step] if step else []
    words += ["--root", root] if root != DEFAULT_ROOT else []
    return shlex.join(words)


def show_result(summary: RunSummary, outcome: Outcome, *, command: str, as_json: bool) -> None:
    """The summary on stdout, and below it on stderr what went wrong and how to go on."""
    if as_json:
        print_json({**summary.model_dump(mode="json"), "problem": outcome.problem, "log": str(outcome.log)})
        return
    print_summary(stdout(), summary)
    if outcome.problem is not None:
        console = stderr()
        console.print(f"error: {outcome.problem}", markup=False)
        if outcome.exit_code != EXIT_BAD_INPUT:
            console.print(f"to go on: {command}\nall that the steps said: {outcome.log}", markup=False)
