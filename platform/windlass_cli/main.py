"""The surface of the command line: what can be typed. What a command does lies in `commands/`, imported when called."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from windlass.errors import InvalidInputError, WindlassError
from windlass_cli.defaults import DEFAULT_PORT, DEFAULT_ROOT
from windlass_cli.models_app import models_app
from windlass_cli.options import (
    AsJson,
    Context,
    Kfp,
    ModelName,
    ModelVersion,
    Namespace,
    OnDevice,
    Overrides,
    Place,
    RecipeFile,
    Root,
    TrackingUri,
    examples,
)
from windlass_cli.runs_app import runs_app

_EXIT_CODES = """
[bold]Exit codes[/bold]  0: done · 1: something failed · 2: a mistake in what you typed or wrote, nothing was started ·
3: no candidate is inside the budget, nothing was registered · 4: registered without alias, for the winner misses the
budget on the test split · 75: stopped, the same command goes on from there · 130: stopped by Ctrl-C
"""

app = typer.Typer(
    name="windlass",
    help="State a task, your data and a budget; get the smallest model version that meets it, registered and served.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
recipe_app = typer.Typer(no_args_is_help=True)
app.add_typer(recipe_app, name="recipe", help="Show what a recipe means, and what a recipe can say.")


@app.command(epilog=examples("windlass init mine.csv --target y", "windlass init sales.parquet -t price -o sales.yaml"))
def init(
    file: Annotated[Path, typer.Argument(help="A table: CSV, Parquet or JSON Lines.")],
    target: Annotated[str, typer.Option("--target", "-t", help="The column to predict.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The recipe to write.", show_default="FILE.yaml")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the recipe if it exists.")] = False,
) -> None:
    """Read a table and write a recipe for it that runs as it stands."""
    from windlass_cli.commands.init import write_recipe

    write_recipe(file, target, output or file.with_suffix(".yaml"), force=force)


@app.command(
    epilog=examples(
        "windlass run mine.yaml",
        "windlass run mine.yaml --set train.epochs=3 --set budget.max_size=60KB",
        "windlass run mine.yaml --step train",
        "windlass run mine.yaml --json > result.json",
        "windlass run mine.yaml --on cluster --namespace team-a",
        "windlass run mine.yaml --on cluster --kfp auto",
        "windlass run mine.yaml --on cluster --kfp https://kubeflow.example.org/pipeline",
    )
)
def run(
    recipe: RecipeFile,
    overrides: Overrides = None,
    step: Annotated[
        str | None,
        typer.Option(help="Stop after this step: prepare, train, compress, evaluate, select or register."),
    ] = None,
    on: Annotated[Place, typer.Option(help="Where it runs; Ctrl-C leaves a run on a cluster running.")] = "machine",
    kfp: Kfp = None,
    namespace: Namespace = None,
    context: Context = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: prepare, train, compress, evaluate, select, register. What is done already is not done again."""
    if on == "machine":
        if kfp and kfp != os.environ.get("WINDLASS_KFP"):
            raise InvalidInputError(
                "--kfp: Kubeflow Pipelines runs steps on a cluster; add --on cluster, or leave it out"
            )
        from windlass_cli.commands.run import run_recipe

        raise typer.Exit(run_recipe(recipe, overrides or [], step=step, root=root, as_json=as_json))
    from windlass_cli.commands.on_cluster import open_cluster, run_on_cluster

    cluster = open_cluster(root, namespace=namespace, context=context)
    if kfp:
        from windlass_cli.commands.on_kubeflow import run_on_kubeflow

        raise typer.Exit(run_on_kubeflow(recipe, overrides or [], step=step, url=kfp, cluster=cluster, as_json=as_json))
    raise typer.Exit(run_on_cluster(recipe, overrides or [], step=step, cluster=cluster, as_json=as_json))


@app.command(
    epilog=examples(
        "windlass plan mine.yaml", "windlass plan mine.yaml --set train.epochs=100", "windlass plan mine.yaml --json"
    )
)
def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Say what a run will make, how long it takes and how much disk, from a few timed steps and earlier runs.

    Data are prepared for it, and kept: a run does not prepare them again.
    """
    from windlass_cli.commands.plan import plan_recipe

    plan_recipe(recipe, overrides or [], root=root, as_json=as_json)


@app.command("try", epilog=examples("windlass try pipelines/recipes/digits.yaml"))
def try_(
    recipe: RecipeFile,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Run a recipe, serve the version on a free port, ask it once over HTTP, and stop."""
    from windlass_cli.commands.try_recipe import try_recipe

    raise typer.Exit(try_recipe(recipe, overrides or [], root=root))


@app.command(epilog=examples("windlass serve digits", "windlass serve digits wine --port 9000 --workers 2"))
def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Registered models.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = DEFAULT_PORT,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer requests.")] = 1,
    device: OnDevice = "cpu",
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
) -> None:
    """Serve models over HTTP, following their aliases; Ctrl-C drains and stops."""
    from windlass_cli.commands.serve import serve_models

    code = serve_models(
        models, host=host, port=port, workers=workers, device=device, root=root, tracking_uri=tracking_uri
    )
    raise typer.Exit(code)


@app.command(
    epilog=examples(
        "windlass predict digits rows.csv -o scores.parquet",
        "windlass predict wine/2 rows.parquet -o scores.csv",
        "windlass predict wine@champion rows.jsonl -o scores.jsonl",
    )
)
def predict(
    model: ModelVersion,
    rows: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON Lines, of any length.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="By its suffix: .parquet, .csv or .jsonl.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.")] = False,
    device: OnDevice = "cpu",
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Score every row of a file with a model version, in flat memory."""
    from windlass_cli.commands.predict import predict_file

    predict_file(model, rows, output, force=force, device=device, root=root, tracking_uri=tracking_uri, as_json=as_json)


@app.command(
    epilog=examples(
        "windlass evaluate digits --data new-digits/",
        "windlass evaluate houses@champion --data 2027.csv -o houses-2027",
        "windlass evaluate houses/3 --data s3://bucket/houses/ --bad-rows drop",
    )
)
def evaluate(
    model: ModelVersion,
    data: Annotated[str, typer.Option("--data", help="Labelled data, as a recipe's data.source names them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder.", show_default="MODEL-VERSION-on-DATA")
    ] = None,
    bad_rows: Annotated[
        Literal["refuse", "drop"], typer.Option(help="What to do with rows that do not parse.")
    ] = "refuse",
    threads: Annotated[int, typer.Option(min=1, help="Of the engine.")] = 1,
    device: OnDevice = "cpu",
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Measure a registered version on other labelled data, and write the same report as a run does."""
    from windlass.evaluation.config import EvaluateConfig
    from windlass.variants.config import ServeConfig
    from windlass_cli.commands.evaluate import evaluate_version

    evaluate_version(
        model,
        data,
        output=output,
        bad_rows=bad_rows,
        config=EvaluateConfig(),
        serve=ServeConfig(threads=threads, device=device),
        root=root,
        tracking_uri=tracking_uri,
        as_json=as_json,
    )


@app.command(
    epilog=examples(
        "windlass promote digits --candidate pruned-50+int8",
        "windlass promote digits --candidate fp32 --version 3 --alias shadow",
        "windlass promote digits --candidate fp32 --alias none",
    )
)
def promote(
    name: ModelName,
    candidate: Annotated[str, typer.Option(help="One of its family, as `windlass models family` lists it.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="The version whose family is meant.", show_default="the champion")
    ] = None,
    alias: Annotated[
        str, typer.Option(help="Names the candidate's version then; `none` only registers it.")
    ] = "champion",
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Register a candidate that its run did not choose, and move the alias to it."""
    from windlass_cli.commands import family

    family.promote(name, candidate, version=version, alias=alias, root=root, tracking_uri=tracking_uri, as_json=as_json)


@app.command(
    epilog=examples(
        "windlass rollback digits", "windlass rollback digits --to 3", "windlass rollback digits --alias shadow"
    )
)
def rollback(
    name: ModelName,
    alias: Annotated[str, typer.Option(help="The alias that goes back.")] = "champion",
    to: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A version.", show_default="what it named before")
    ] = None,
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Let an alias name again what it named before; a second rollback undoes the first."""
    from windlass_cli.commands import family

    family.rollback(name, alias=alias, to=to, root=root, tracking_uri=tracking_uri, as_json=as_json)


@app.command(
    epilog=examples(
        "windlass prune --dry-run",
        "windlass prune --keep-runs 3 --yes",
        "windlass prune --older-than 30d --root s3://bucket/prefix",
    )
)
def prune(
    keep_runs: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="The newest runs stay.", show_default="10, and 0 where --older-than is given"
        ),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="DURATION", help="What is younger stays: 30d, 12h.", show_default="an hour")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Free disk: remove what no alias, no run in progress and none of the newest runs needs. MLflow is not touched."""
    from windlass_cli.commands import prune as pruning

    pruning.prune(
        keep_runs=keep_runs,
        older_than=older_than,
        dry_run=dry_run,
        yes=yes,
        root=root,
        tracking_uri=tracking_uri,
        as_json=as_json,
    )


@recipe_app.command("show", epilog=examples("windlass recipe show mine.yaml", "windlass recipe show mine.yaml --json"))
def recipe_show(recipe: RecipeFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show the resolved recipe: every default filled in, every file by its digest."""
    from windlass_cli.commands.recipe import show

    show(recipe, overrides or [], as_json=as_json)


@recipe_app.command("schema", epilog=examples("windlass recipe schema > recipe.schema.json"))
def recipe_schema() -> None:
    """Print the JSON Schema of a recipe, so that an editor completes it."""
    from windlass_cli.commands.recipe import print_schema

    print_schema()


@app.command(
    epilog=examples(
        "windlass doctor",
        "windlass doctor --json",
        "windlass doctor --on cluster --namespace team-a",
        "windlass doctor --on cluster --no-pod",
    )
)
def doctor(
    on: Annotated[Place, typer.Option(help="What is looked at.")] = "machine",
    namespace: Namespace = None,
    context: Context = None,
    no_pod: Annotated[
        bool, typer.Option("--no-pod", help="Start nothing in the cluster: what only a pod can try is left out.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine (versions, memory, disk, ports, GPU, MLflow) or a cluster, and say what to do."""
    if on == "machine":
        from windlass_cli.commands.doctor import check_all

        raise typer.Exit(check_all(root, tracking_uri, as_json=as_json))
    from windlass_cli.commands.doctor_cluster import check_cluster

    code = check_cluster(root, namespace=namespace, context=context, with_pod=not no_pod, as_json=as_json)
    raise typer.Exit(code)


app.add_typer(runs_app, name="runs")
app.add_typer(models_app, name="models")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        import windlass

        typer.echo(windlass.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; an error of ours is one message and its exit code, never a traceback."""
    try:
        app()
    except WindlassError as error:
        if os.environ.get("WINDLASS_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
