"""`windlass run --on cluster`, `runs attach`, `runs cancel`, `runs --on cluster`: what a cluster carries out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.cluster.discovery import connect, find_settings
from windlass.cluster.errors import ApiError, JobRefusedError
from windlass.cluster.launcher import Launcher
from windlass.cluster.settings import ClusterSettings
from windlass.cluster.workflows import secret_keys
from windlass.errors import EXIT_FAILURE, InvalidInputError
from windlass.progress import message
from windlass.recipe.errors import RecipeError
from windlass.recipe.inputs import publish_inputs
from windlass.recipe.load import load_recipe
from windlass.recipe.model import Recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import finish_run, list_runs, new_run, read_run
from windlass.recipe.spark_job import check_spark
from windlass.storage import Workspace
from windlass_cli.commands.run import check_step, command_line
from windlass_cli.commands.runs import print_run, print_runs
from windlass_cli.console import print_json, stderr, stdout
from windlass_cli.defaults import DEFAULT_ROOT
from windlass_cli.display import open_display
from windlass_cli.summary import RunSummary, print_summary, summarize
from windlass_pipelines.cluster import ClusterRun, storage_from_outside
from windlass_pipelines.local import EventHandler, describe_problem
from windlass_pipelines.pod import log_document

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

EXIT_DETACHED = 130
"""As a shell says of Ctrl-C: this command has ended, the run has not."""


@dataclass(frozen=True)
class Cluster:
    """An installation, the root of its runs, and how jobs are started there."""

    settings: ClusterSettings
    workspace: Workspace
    api: ApiClient
    launcher: Launcher
    options: str
    """What to type behind a command to mean the same place."""


def open_cluster(root: str, *, namespace: str | None, context: str | None) -> Cluster:
    """Find the installation that is meant; a root that was not chosen is the installation's.

    Raises:
        NoClusterError, NoInstallationError, SeveralInstallationsError: there is none, or it cannot be told which.
        InvalidInputError: pods cannot reach the root.
    """
    api, default_namespace = connect(context)
    settings = find_settings(api, namespace or default_namespace)
    chosen = settings.storage.root if root == DEFAULT_ROOT else root
    if not chosen.startswith("s3://"):
        raise InvalidInputError(f"--root {root}: pods cannot reach it; leave it out, or give s3://bucket/prefix")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    words = [] if namespace is None else ["--namespace", namespace]
    words += [] if context is None else ["--context", context]
    words += [] if root == DEFAULT_ROOT else ["--root", root]
    return Cluster(
        settings=settings,
        workspace=Workspace(chosen, s3=storage_from_outside(settings, endpoint)),
        api=api,
        launcher=Launcher(api, kind="job"),
        options=f" {shlex.join(words)}" if words else "",
    )


def run_on_cluster(path: Path, overrides: list[str], *, step: str | None, cluster: Cluster, as_json: bool) -> int:
    """Start a run in the cluster and follow it; Ctrl-C leaves it running.

    Returns:
        The exit code of the run, or 130 when Ctrl-C ended the watching.

    Raises:
        RecipeError: the recipe or an override is wrong, or a cluster cannot honour it; nothing was started.
        JobRefusedError, ApiError: the cluster did not let it start, or you may not read a Secret that it names.
    """
    last_step = check_step(step)
    resolved = resolve(load_recipe(path, overrides), path.parent, place="cluster")
    workspace, settings = cluster.workspace, settings_of_run(cluster, resolved.recipe)
    command = f"{command_line('run', path, overrides, step, DEFAULT_ROOT)} --on cluster{cluster.options}"
    with open_display(as_json=as_json) as display:
        run_id = new_run(workspace, publish_inputs(resolved, workspace), command=command)
        run = ClusterRun(settings, workspace, run_id, last_step)
        try:
            run.start(cluster.launcher, display.show)
        except (JobRefusedError, ApiError):
            finish_run(workspace, run_id, EXIT_FAILURE)
            raise
        message(f"{run_id} is started{cluster.options}")
    return follow_run(cluster, run_id, lambda show: run.follow(cluster.launcher, show), as_json=as_json)


def settings_of_run(cluster: Cluster, recipe: Recipe) -> ClusterSettings:
    """The installation's settings with the Secrets that a recipe names; of their keys the names, never the values.

    Raises:
        NoSparkError: the recipe needs Spark, which the installation lacks.
        RecipeError: there is no such Secret.
        ApiError: you may not read it.
    """
    check_spark(cluster.settings, recipe)
    settings, path = cluster.settings, "resources.cluster.env_secrets"
    found = {}
    for name in recipe.resources.cluster.env_secrets:
        keys = secret_keys(cluster.api, settings.namespace, name)
        if keys is None:
            make = f"kubectl -n {settings.namespace} create secret generic {name} --from-literal=NAME=VALUE"
            problem = f"{path}: {settings.namespace} has no Secret {name!r}; make it, or leave it out: {make}"
            raise RecipeError(f"recipe {recipe.name!r}", [problem])
        found[name] = keys
    return settings.model_copy(update={"env_secrets": found})


def attach(run_id: str, cluster: Cluster, *, as_json: bool) -> int:
    """Follow a run again from its first event on, or show how it ended.

    Raises:
        RunNotFoundError: no run has this id.
        JobGoneError: the cluster has removed its Job before the run was done.
    """
    record = read_run(cluster.workspace, run_id)
    if record.exit_code is not None:
        show_run(cluster, run_id, as_json=as_json)
        return record.exit_code
    run = ClusterRun(cluster.settings, cluster.workspace, run_id)
    return follow_run(cluster, run_id, lambda show: run.follow(cluster.launcher, show), as_json=as_json)


def cancel(run_id: str, cluster: Cluster) -> None:
    """Stop a run; what is done stays, and the same recipe goes on from there.

    Raises:
        RunNotFoundError: no run has this id.
    """
    record = read_run(cluster.workspace, run_id)
    if record.exit_code is not None:
        stdout().print(f"{run_id} has ended already: {record.status}", markup=False)
        return
    ClusterRun(cluster.settings, cluster.workspace, run_id).cancel(cluster.launcher)
    again = f"; to go on: {record.command}" if record.command else ""
    stdout().print(f"{run_id} is cancelled, its pods are being deleted; what is done is kept{again}", markup=False)


def list_all(cluster: Cluster, *, as_json: bool) -> None:
    """The runs in the root of an installation, whoever started them, the newest first."""
    start, root = f"windlass run RECIPE --on cluster{cluster.options}", cluster.workspace.uri
    records = list_runs(cluster.workspace)
    print_runs(records, root, start=start, as_json=as_json)
    running = [record.run_id for record in records if record.status == "running"]
    if running and not as_json:
        stdout().print(f"to follow what runs: windlass runs attach {running[0]}{cluster.options}", markup=False)


def show(run_id: str, cluster: Cluster, *, as_json: bool) -> None:
    """One run as far as it came, without following it.

    Raises:
        RunNotFoundError: no run has this id.
    """
    print_run(_summarize(cluster, run_id), as_json=as_json)


def follow_run(
    cluster: Cluster,
    run_id: str,
    follow: Callable[[EventHandler], int],
    *,
    as_json: bool,
    log: str | None = None,
) -> int:
    """Show a run's events as `follow` hands them on, then its result; Ctrl-C ends the watching only."""
    try:
        with open_display(as_json=as_json) as display:
            code = follow(display.show)
    except KeyboardInterrupt:
        stderr().print(
            f"{run_id} goes on in the cluster\n"
            f"to follow it again: windlass runs attach {run_id}{cluster.options}\n"
            f"to stop it: windlass runs cancel {run_id}{cluster.options}",
            markup=False,
        )
        return EXIT_DETACHED
    show_run(cluster, run_id, as_json=as_json, log=log)
    return code


def show_run(cluster: Cluster, run_id: str, *, as_json: bool, log: str | None = None) -> None:
    """The result of a run, and what went wrong.

    Args:
        log: where all that its steps said is found; default: below the root.
    """
    workspace, summary = cluster.workspace, _summarize(cluster, run_id)
    log = log or f"{workspace.uri}/{log_document(run_id)}"
    text = (workspace.read_document(log_document(run_id)) or b"").decode(errors="replace")
    problem = describe_problem(workspace, run_id, summary.run.exit_code or 0, log=text, log_name=log)
    if as_json:
        print_json({**summary.model_dump(mode="json"), "problem": problem, "log": log})
        return
    print_summary(stdout(), summary)
    if problem is not None:
        stderr().print(
            f"error: {problem}\nto go on: {summary.run.command}\nall that the steps said: {log}", markup=False
        )


def _summarize(cluster: Cluster, run_id: str) -> RunSummary:
    summary = summarize(cluster.workspace, run_id, root=cluster.workspace.uri)
    return summary.model_copy(update={"next": _next(summary, cluster.settings)})


def _next(summary: RunSummary, settings: ClusterSettings) -> tuple[str, ...]:
    """The gateway of the installation serves the version by itself."""
    if summary.registration is None:
        return ()
    name = summary.registration.model
    service = settings.gateway_uri.removeprefix("http://").split(".")[0]
    return (
        f"kubectl --namespace {settings.namespace} port-forward service/{service} 8080",
        f"curl http://127.0.0.1:8080/v1/models/{name}",
    )
