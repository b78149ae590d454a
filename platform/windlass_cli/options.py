"""Options and arguments that several commands have, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RecipeFile = Annotated[Path, typer.Argument(help="A recipe.")]
ModelName = Annotated[str, typer.Argument(help="A registered model.")]
ModelVersion = Annotated[str, typer.Argument(help="A registered model: NAME, NAME/VERSION or NAME@ALIAS.")]
ClusterRunId = Annotated[str, typer.Argument(help="As `windlass run --on cluster` said it.")]
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


def examples(*lines: str) -> str:
    """The epilog of a command's help."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"[cyan]{line}[/cyan]" for line in lines)
