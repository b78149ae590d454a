"""`windlass run --on cluster --kfp URL`, and `runs attach` and `runs cancel` of what runs there."""

from __future__ import annotations

import shlex
from pathlib import Path

from windlass.cluster.checks import Rest
from windlass.cluster.discovery import KubeflowService, find_kubeflow
from windlass.cluster.workflows import WorkflowPods
from windlass.errors import EXIT_FAILURE, WindlassError
from windlass.progress import message
from windlass.recipe.inputs import publish_inputs
from windlass.recipe.load import load_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import finish_run, new_run, read_run
from windlass_cli.commands import on_cluster
from windlass_cli.commands.on_cluster import Cluster, follow_run, settings_of_run, show_run
from windlass_cli.commands.run import check_step, command_line
from windlass_cli.console import stdout
from windlass_cli.defaults import DEFAULT_ROOT
from windlass_cli.display import open_display
from windlass_pipelines.kubeflow import FOUND, KubeflowRecord, KubeflowRun, check_recipe, find_record, start_run
from windlass_pipelines.kubeflow_api import KubeflowApi


def run_on_kubeflow(
    path: Path, overrides: list[str], *, step: str | None, url: str, cluster: Cluster, as_json: bool
) -> int:
    """Start a run on Kubeflow Pipelines and follow it; Ctrl-C leaves it running.

    Args:
        url: of the API of Kubeflow Pipelines, or `auto`: it is found in the cluster.

    Returns:
        The exit code of the run, or 130 when Ctrl-C ended the watching.

    Raises:
        RecipeError: the recipe or an override is wrong, or Kubeflow Pipelines cannot honour it; nothing was started.
        NoKubeflowError: it was to be found in the cluster, and is not there.
        KubeflowRefusedError, KubeflowUnreachableError, NotKubeflowError: nothing was started there.
        ApiError: you may not read a Secret that the recipe names.
    """
    last_step, workspace = check_step(step), cluster.workspace
    resolved = resolve(load_recipe(path, overrides), path.parent, place="cluster")
    check_recipe(resolved.recipe)
    settings = settings_of_run(cluster, resolved.recipe)
    api, found = _open_api(url, cluster)
    place = f"--on cluster --kfp {shlex.quote(url)}{cluster.options}"
    command = f"{command_line('run', path, overrides, step, DEFAULT_ROOT)} {place}"
    with open_display(as_json=as_json):
        run_id = new_run(workspace, publish_inputs(resolved, workspace), command=command)
        try:
            record = start_run(api, settings, workspace, run_id, last_step=last_step, found=found)
        except WindlassError:
            finish_run(workspace, run_id, EXIT_FAILURE)
            raise
        message(f"{run_id} is started: {record.page}")
    run = _run(run_id, record, api, cluster)
    return follow_run(cluster, run_id, run.follow, as_json=as_json, log=record.page)


def attach(run_id: str, cluster: Cluster, *, url: str | None, as_json: bool) -> int:
    """Follow a run on a cluster again, wherever in it that is, or show how it ended.

    Args:
        url: of the API of Kubeflow Pipelines as this machine reaches it; default: as it was started.

    Raises:
        RunNotFoundError: no run has this id.
        KubeflowRefusedError, KubeflowUnreachableError, NotKubeflowError: it cannot be followed.
        JobGoneError: the cluster has removed its Job before the run was done.
    """
    record = find_record(cluster.workspace, run_id)
    if record is None:
        return on_cluster.attach(run_id, cluster, as_json=as_json)
    exit_code = read_run(cluster.workspace, run_id).exit_code
    if exit_code is not None:
        show_run(cluster, run_id, as_json=as_json, log=record.page)
        return exit_code
    run = _run(run_id, record, _open_api(url or record.url, cluster)[0], cluster)
    return follow_run(cluster, run_id, run.follow, as_json=as_json, log=record.page)


def cancel(run_id: str, cluster: Cluster, *, url: str | None) -> None:
    """Stop a run on a cluster, wherever in it that is, and its training job; what is done stays.

    Args:
        url: as of `attach`.

    Raises:
        RunNotFoundError: no run has this id.
        KubeflowRefusedError, KubeflowUnreachableError, NotKubeflowError: it goes on.
        ApiError: it is stopped, but its training job could not be looked for.
    """
    record = find_record(cluster.workspace, run_id)
    if record is None:
        on_cluster.cancel(run_id, cluster)
        return
    before = read_run(cluster.workspace, run_id)
    if before.exit_code is not None:
        stdout().print(f"{run_id} has ended already: {before.status}", markup=False)
        return
    run = _run(run_id, record, _open_api(url or record.url, cluster)[0], cluster)
    deleted = run.cancel()
    after = read_run(cluster.workspace, run_id)
    if after.status != "interrupted":
        stdout().print(f"{run_id} has ended already: {after.status}", markup=False)
        return
    jobs = f", and deleted: {', '.join(deleted)}" if deleted else ""
    again = f"; to go on: {after.command}" if after.command else ""
    stdout().print(f"{run_id} is cancelled{jobs}; what is done is kept{again}", markup=False)


def _open_api(url: str, cluster: Cluster) -> tuple[KubeflowApi, KubeflowService | None]:
    """The API at an address, or where the cluster has it: then requests go through the API server."""
    namespace = cluster.settings.namespace
    if url != FOUND:
        return KubeflowApi(url, namespace), None
    found = find_kubeflow(Rest(cluster.api), namespace)
    return KubeflowApi(f"{cluster.api.configuration.host}{found.path}", namespace, cluster=cluster.api), found


def _run(run_id: str, record: KubeflowRecord, api: KubeflowApi, cluster: Cluster) -> KubeflowRun:
    pods = WorkflowPods(cluster.api, cluster.settings.namespace, record.pod_selector())
    return KubeflowRun(record, cluster.workspace, run_id, api, pods)
