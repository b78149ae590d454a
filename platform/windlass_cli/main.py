"""The surface of the command line: what can be typed. What a command does lies in `commands/`, imported when called."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from windlass.errors import InvalidInputError, WindlassError
from windlass_cli.defaults import DEFAULT_PORT, DEFAULT_ROOT

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
runs_app = typer.Typer(invoke_without_command=True)
models_app = typer.Typer(invoke_without_command=True)
recipe_app = typer.Typer(no_args_is_help=True)
app.add_typer(recipe_app, name="recipe", help="Show what a recipe means, and what a recipe can say.")

Place = Literal["machine", "cluster"]
Root = Annotated[
    str, typer.Option("--root", envvar="WINDLASS_ROOT", help="Where results live: a folder, or s3://bucket/prefix.")
]
On = Annotated[Place, typer.Option("--on", help="Whose runs: in a root here, or of a cluster's installation.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Of the cluster's runs.", show_default="the context's")
]
Context = Annotated[str | None, typer.Option("--context", help="Of KUBECONFIG.", show_default="the present one")]
Kfp = Annotated[
    str | None,
    typer.Option(
        "--kfp",
        metavar="URL",
        envvar="WINDLASS_KFP",
        help="API of Kubeflow Pipelines, which then runs the steps; `auto` finds it in the cluster.",
        show_default="one Job runs them",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; progress as JSON lines on stderr.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
]
OnDevice = Annotated[
    Literal["cpu", "cuda"], typer.Option("--device", help="What the model runs on; cuda needs onnxruntime-gpu.")
]
TrackingUri = Annotated[
    str | None,
    typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow server.", show_default="a SQLite file in the root"),
]


def _examples(*lines: str) -> str:
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"[cyan]{line}[/cyan]" for line in lines)


@app.command(
    epilog=_examples("windlass init mine.csv --target y", "windlass init sales.parquet -t price -o sales.yaml")
)
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
    epilog=_examples(
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
    recipe: Annotated[Path, typer.Argument(help="A recipe.")],
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
    epilog=_examples(
        "windlass plan mine.yaml", "windlass plan mine.yaml --set train.epochs=100", "windlass plan mine.yaml --json"
    )
)
def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe.")],
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Say what a run will make, how long it takes and how much disk, from a few timed steps and earlier runs.

    Data are prepared for it, and kept: a run does not prepare them again.
    """
    from windlass_cli.commands.plan import plan_recipe

    plan_recipe(recipe, overrides or [], root=root, as_json=as_json)


@app.command("try", epilog=_examples("windlass try pipelines/recipes/digits.yaml"))
def try_(
    recipe: Annotated[Path, typer.Argument(help="A recipe.")],
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Run a recipe, serve the version on a free port, ask it once over HTTP, and stop."""
    from windlass_cli.commands.try_recipe import try_recipe

    raise typer.Exit(try_recipe(recipe, overrides or [], root=root))


@runs_app.callback(
    epilog=_examples(
        "windlass runs",
        "windlass runs --on cluster -n team-a",
        "windlass runs show digits-20261123-101500-0a1b",
    )
)
def runs(
    called: typer.Context,
    on: On = "machine",
    namespace: Namespace = None,
    context: Context = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """List what was run, the newest first; `runs show` shows one run."""
    if called.invoked_subcommand is not None:
        return
    if on == "machine":
        from windlass_cli.commands.runs import list_all

        list_all(root, as_json=as_json)
        return
    from windlass_cli.commands import on_cluster

    on_cluster.list_all(on_cluster.open_cluster(root, namespace=namespace, context=context), as_json=as_json)


@runs_app.command(
    "show",
    epilog=_examples(
        "windlass runs show digits-20261123-101500-0a1b",
        "windlass runs show digits-20261123-101500-0a1b --on cluster -n team-a",
    ),
)
def runs_show(
    run_id: Annotated[str, typer.Argument(help="As `windlass runs` lists it.")],
    on: On = "machine",
    namespace: Namespace = None,
    context: Context = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show the steps, the candidates and the verdict of one run."""
    if on == "machine":
        from windlass_cli.commands.runs import show

        show(run_id, root, as_json=as_json)
        return
    from windlass_cli.commands import on_cluster

    on_cluster.show(run_id, on_cluster.open_cluster(root, namespace=namespace, context=context), as_json=as_json)


@runs_app.command("attach", epilog=_examples("windlass runs attach digits-20261123-101500-0a1b -n team-a"))
def runs_attach(
    run_id: Annotated[str, typer.Argument(help="As `windlass run --on cluster` said it.")],
    kfp: Kfp = None,
    namespace: Namespace = None,
    context: Context = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Follow a run on a cluster from its first event on, or show how it ended."""
    from windlass_cli.commands.on_cluster import open_cluster
    from windlass_cli.commands.on_kubeflow import attach

    cluster = open_cluster(root, namespace=namespace, context=context)
    raise typer.Exit(attach(run_id, cluster, url=kfp, as_json=as_json))


@runs_app.command("cancel", epilog=_examples("windlass runs cancel digits-20261123-101500-0a1b -n team-a"))
def runs_cancel(
    run_id: Annotated[str, typer.Argument(help="As `windlass run --on cluster` said it.")],
    kfp: Kfp = None,
    namespace: Namespace = None,
    context: Context = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Stop a run on a cluster, its training jobs too; what is done is kept."""
    from windlass_cli.commands.on_cluster import open_cluster
    from windlass_cli.commands.on_kubeflow import cancel

    cancel(run_id, open_cluster(root, namespace=namespace, context=context), url=kfp)


@models_app.callback(
    epilog=_examples("windlass models", "windlass models show digits", "windlass models family digits")
)
def models(
    context: typer.Context, root: Root = DEFAULT_ROOT, tracking_uri: TrackingUri = None, as_json: AsJson = False
) -> None:
    """List the registered models; `models show` shows one with its versions, `models family` a version's candidates."""
    if context.invoked_subcommand is None:
        from windlass_cli.commands.models import list_all

        list_all(root, tracking_uri, as_json=as_json)


@models_app.command("show", epilog=_examples("windlass models show digits"))
def models_show(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show the versions of a model, where each came from, and which alias names which."""
    from windlass_cli.commands.models import show

    show(name, root, tracking_uri, as_json=as_json)


@models_app.command(
    "family",
    epilog=_examples(
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
    "diff", epilog=_examples("windlass models diff digits 3 4", "windlass models diff digits @champion @shadow --json")
)
def models_diff(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    a: Annotated[str, typer.Argument(metavar="A", help="A version by its number, or @ALIAS.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The version to compare with it.")],
    root: Root = DEFAULT_ROOT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions: what breaks callers, figures with intervals, recipe, dataset, methods."""
    from windlass_cli.commands.diff import show_diff

    show_diff(name, a, b, root, tracking_uri, as_json=as_json)


@app.command(epilog=_examples("windlass serve digits", "windlass serve digits wine --port 9000 --workers 2"))
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
    epilog=_examples(
        "windlass predict digits rows.csv -o scores.parquet",
        "windlass predict wine/2 rows.parquet -o scores.csv",
        "windlass predict wine@champion rows.jsonl -o scores.jsonl",
    )
)
def predict(
    model: Annotated[str, typer.Argument(help="A registered model: NAME, NAME/VERSION or NAME@ALIAS.")],
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
    epilog=_examples(
        "windlass evaluate digits --data new-digits/",
        "windlass evaluate houses@champion --data 2027.csv -o houses-2027",
        "windlass evaluate houses/3 --data s3://bucket/houses/ --bad-rows drop",
    )
)
def evaluate(
    model: Annotated[str, typer.Argument(help="A registered model: NAME, NAME/VERSION or NAME@ALIAS.")],
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
    epilog=_examples(
        "windlass promote digits --candidate pruned-50+int8",
        "windlass promote digits --candidate fp32 --version 3 --alias shadow",
        "windlass promote digits --candidate fp32 --alias none",
    )
)
def promote(
    name: Annotated[str, typer.Argument(help="A registered model.")],
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
    epilog=_examples(
        "windlass rollback digits", "windlass rollback digits --to 3", "windlass rollback digits --alias shadow"
    )
)
def rollback(
    name: Annotated[str, typer.Argument(help="A registered model.")],
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
    epilog=_examples(
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


@recipe_app.command("show", epilog=_examples("windlass recipe show mine.yaml", "windlass recipe show mine.yaml --json"))
def recipe_show(
    recipe: Annotated[Path, typer.Argument(help="A recipe.")], overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Show the resolved recipe: every default filled in, every file by its digest."""
    from windlass_cli.commands.recipe import show

    show(recipe, overrides or [], as_json=as_json)


@recipe_app.command("schema", epilog=_examples("windlass recipe schema > recipe.schema.json"))
def recipe_schema() -> None:
    """Print the JSON Schema of a recipe, so that an editor completes it."""
    from windlass_cli.commands.recipe import print_schema

    print_schema()


@app.command(
    epilog=_examples(
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
