"""The pipeline of one run as Kubeflow Pipelines gets it: with what its recipe and the installation ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, kubernetes

from windlass.cluster.jobs import GPU_RESOURCE
from windlass.cluster.settings import SETTINGS_VARIABLE, ClusterSettings
from windlass.recipe.model import ClusterResources
from windlass_pipelines.cluster import RUN_ANNOTATION
from windlass_pipelines.recipe_pipeline import recipe_pipeline

_MEASURING = ("evaluate", "select")
"""The steps that run candidates as they are served; a GPU would be idle in the others."""
_LABELS = {"app.kubernetes.io/managed-by": "windlass", "windlass.io/part": "step"}


def compile_run(
    settings: ClusterSettings,
    asked: ClusterResources,
    run_id: str,
    *,
    last_step: str,
) -> dict[str, Any]:
    """The pipeline up to and including `last_step`, with the resources of one recipe.

    Args:
        asked: what the recipe asks of a cluster; the training job takes its own part from the recipe.

    Returns:
        What the API takes as `pipeline_spec`: a document with `pipeline_spec` and `platform_spec`.
    """
    pipeline = recipe_pipeline(last_step, _adapter(settings, asked, run_id))
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(package))
        pipeline_spec, platform_spec = yaml.safe_load_all(package.read_text(encoding="utf-8"))
    return {"pipeline_spec": pipeline_spec, "platform_spec": platform_spec}


def _adapter(settings: ClusterSettings, asked: ClusterResources, run_id: str) -> Callable[[Any], None]:
    """The CPU is a request and memory a limit, as of every pod of ours; what trains gets its own in its job."""
    variables = {
        "HOME": "/tmp",  # noqa: S108  (where any user can write)
        "PYTHONUNBUFFERED": "1",
        **settings.storage_environment(),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        SETTINGS_VARIABLE: settings.model_dump_json(),
    }

    def adapt(task: Any) -> None:
        task.set_container_image(settings.image)
        task.set_cpu_request(f"{asked.step.cpu:g}")
        task.set_memory_request(str(asked.step.memory)).set_memory_limit(str(asked.step.memory))
        if asked.step.gpus and task.name in _MEASURING:
            task.set_accelerator_type(GPU_RESOURCE).set_accelerator_limit(asked.step.gpus)
        for name, value in variables.items():
            task.set_env_variable(name, value)
        for secret in (*settings.secret_variables(variables), *settings.storage_credentials()):
            kubernetes.use_secret_as_env(task, secret.secret, {secret.key: secret.name}, optional=secret.optional)
        _place(task, settings, asked)
        for label, value in {**_LABELS, "windlass.io/step": task.name}.items():
            kubernetes.add_pod_label(task, label, value)
        kubernetes.add_pod_annotation(task, RUN_ANNOTATION, run_id)
        kubernetes.set_security_context(task, run_as_user=settings.user_id, run_as_non_root=True)

    return adapt


def _place(task: Any, settings: ClusterSettings, asked: ClusterResources) -> None:
    for label, value in asked.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in asked.tolerations:
        kubernetes.add_toleration(
            task, key=toleration.key, operator=toleration.operator, value=toleration.value, effect=toleration.effect
        )
    kubernetes.set_image_pull_policy(task, asked.image_pull_policy or settings.image_pull_policy)
    if settings.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(settings.image_pull_secrets))
