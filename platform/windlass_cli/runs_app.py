"""`windlass runs` and what can be typed after it."""

from __future__ import annotations

from typing import Annotated

import typer

from windlass_cli.defaults import DEFAULT_ROOT
from windlass_cli.options import AsJson, ClusterRunId, Context, Kfp, Namespace, On, Root, examples

runs_app = typer.Typer(invoke_without_command=True)


@runs_app.callback(
    epilog=examples(
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
    epilog=examples(
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


@runs_app.command("attach", epilog=examples("windlass runs attach digits-20261123-101500-0a1b -n team-a"))
def runs_attach(
    run_id: ClusterRunId,
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


@runs_app.command("cancel", epilog=examples("windlass runs cancel digits-20261123-101500-0a1b -n team-a"))
def runs_cancel(
    run_id: ClusterRunId,
    kfp: Kfp = None,
    namespace: Namespace = None,
    context: Context = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Stop a run on a cluster, its training jobs too; what is done is kept."""
    from windlass_cli.commands.on_cluster import open_cluster
    from windlass_cli.commands.on_kubeflow import cancel

    cancel(run_id, open_cluster(root, namespace=namespace, context=context), url=kfp)
