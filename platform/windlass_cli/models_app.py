"""`windlass models` and what can be typed after it."""

from __future__ import annotations

from typing import Annotated

import typer

from windlass_cli.defaults import DEFAULT_ROOT
from windlass_cli.options import AsJson, ModelName, Root, TrackingUri, examples

models_app = typer.Typer(invoke_without_command=True)


@models_app.callback(epilog=examples("windlass models", "windlass models show digits", "windlass models family digits"))
def models(
    context: typer.Context, root: Root = DEFAULT_ROOT, tracking_uri: TrackingUri = None, as_json: AsJson = False
) -> None:
    """List the registered models; `models show` shows one with its versions, `models family` a version's candidates."""
    if context.invoked_subcommand is None:
        from windlass_cli.commands.models import list_all

        list_all(root, tracking_uri, as_json=as_json)


@models_app.command("show", epilog=examples("windlass models show digits"))
def models_show(
    name: ModelName,
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show the versions of a model, where each came from, and which alias names which."""
    from windlass_cli.commands.models import show

    show(name, root, tracking_uri, as_json=as_json)


@models_app.command(
    "family",
    epilog=examples(
        "windlass models family digits", "windlass models family digits/3", "windlass models family digits@shadow"
    ),
)
def models_family(
    model: Annotated[str, typer.Argument(help="NAME, NAME/VERSION or NAME@ALIAS; a name alone means its champion.")],
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show every candidate of the run that a version comes from, and which ones are registered."""
    from windlass_cli.commands.family import show_family

    show_family(model, root, tracking_uri, as_json=as_json)


@models_app.command(
    "diff", epilog=examples("windlass models diff digits 3 4", "windlass models diff digits @champion @shadow --json")
)
def models_diff(
    name: ModelName,
    a: Annotated[str, typer.Argument(metavar="A", help="A version by its number, or @ALIAS.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The version to compare with it.")],
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions: what breaks callers, figures with intervals, recipe, dataset, methods."""
    from windlass_cli.commands.diff import show_diff

    show_diff(name, a, b, root, tracking_uri, as_json=as_json)
