"""Registration: the whole family's figures in one run, the winner as a model version, the alias after the gate."""

from __future__ import annotations

import os
import re
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from windlass.registry.bundle import write_version
from windlass.registry.config import RegisterConfig
from windlass.registry.documents import Registration
from windlass.registry.mirror import send_missing
from windlass.registry.names import check_name
from windlass.registry.redaction import redact, redact_named
from windlass.registry.tracking import (
    connect,
    exists_already,
    find_or_create_run,
    is_conflict,
    is_transient,
    refusals,
    repeated,
)
from windlass.schema import canonical_json
from windlass.storage import MANIFEST_NAME
from windlass.variants.variant import VARIANT_NAME, Variant

RECIPE_TAG = "windlass.recipe"
PARENT_TAG = "windlass.parent"
RUN_KEY_TAG = "windlass.run_key"
MANIFEST_TAG = "windlass.manifest"
_CREATE_ATTEMPTS = 6
_LONGEST_PARAMETER = 6000
_PARAMETERS_PER_CALL = 100
_METRICS_PER_CALL = 500


@dataclass(frozen=True)
class FamilyMember:
    """A candidate of the run: its name, its published variant, and what was measured of it."""

    name: str
    variant: Path
    figures: Mapping[str, float]


def register(
    config: RegisterConfig,
    *,
    recipe_name: str,
    run_key: str,
    tracking_uri: str,
    variant: Path,
    measurement: Path,
    report: Path,
    verdict: Mapping[str, Any],
    family: Sequence[FamilyMember],
    history: Path | None,
    tags: Mapping[str, str],
    run_id_tag: str,
    gate_open: bool,
    dataset: Path | None = None,
    parameters: Mapping[str, object] | None = None,
    threads: int = 1,
) -> Registration:
    """Log the family to one run and create the winner's version, once for each `run_key`.

    Args:
        run_key: the register step's key; a version that has it already is taken as it is.
        variant: directory of the winner.
        measurement: the winner's measurement.json.
        report: directory with report.json and report.html.
        verdict: the verdict as plain data.
        history: history.jsonl of training; steps.jsonl beside it is taken along. Only what a mirror has not sent yet
            is sent.
        tags: of the version and the run, such as windlass.dataset.
        run_id_tag: the Windlass run, which finds the MLflow run again.
        gate_open: whether the alias moves to the version.
        dataset: dataset.json of the bundle; with it the version can be measured on other data.
        parameters: of the run, such as the resolved recipe's values by path; credentials are taken out.
        threads: of the engine, where MLflow serves the version.

    Raises:
        InvalidModelNameError: nothing was written.
        RegistryUnreachableError, RegistryRefusedError: the same call goes on where this one ended.
    """
    name = check_name(config.model or recipe_name)
    winner = Variant.read(variant / VARIANT_NAME)
    version_tags = {RECIPE_TAG: recipe_name, PARENT_TAG: winner.origin.model.digest, **tags, RUN_KEY_TAG: run_key}
    client = connect(tracking_uri)
    with refusals(tracking_uri):
        found = repeated(tracking_uri, lambda: _find_version(client, name, run_key))
        if found is None:
            run_id = find_or_create_run(
                client, tracking_uri, experiment=recipe_name, run_id_tag=run_id_tag, tags={RECIPE_TAG: recipe_name}
            )
            _log_figures(client, tracking_uri, run_id, family, {**(parameters or {}), "winner": winner.name}, tags)
            _log_documents(client, tracking_uri, run_id, report, verdict)
            if history is not None:
                send_missing(client, tracking_uri, run_id, history, history.with_name("steps.jsonl"))
            source, digest = _upload_version(client, tracking_uri, run_id, variant, measurement, dataset, threads)
            version_tags[MANIFEST_TAG] = digest
            found = _create_version(client, tracking_uri, name, run_key, source, run_id, version_tags)
        alias = config.alias if gate_open else None
        if alias is not None:
            _move_alias(client, tracking_uri, name, alias, int(found.version))
        _end_run(client, tracking_uri, found.run_id)
    return Registration(
        model=name,
        version=int(found.version),
        alias=alias,
        run_id=found.run_id,
        tracking_uri=redact(tracking_uri),
        run_key=run_key,
    )


def _log_figures(
    client: Any,
    tracking_uri: str,
    run_id: str,
    family: Sequence[FamilyMember],
    parameters: Mapping[str, object],
    tags: Mapping[str, str],
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    data = repeated(tracking_uri, lambda: client.get_run(run_id)).data
    now_ms = int(time.time() * 1000)
    metrics = [
        Metric(f"{_key(member.name)}/{_key(figure)}", float(value), now_ms, 0)
        for member in family
        for figure, value in member.figures.items()
    ]
    metrics = [metric for metric in metrics if metric.key not in data.metrics]
    # a parameter of a run can be written once: of an adopted run, what is there stays
    params = [
        Param(_key(name), redact_named(name, str(value))[:_LONGEST_PARAMETER]) for name, value in parameters.items()
    ]
    params = [param for param in params if param.key not in data.params]
    run_tags = [RunTag(name, redact(value)) for name, value in tags.items()]
    repeated(tracking_uri, lambda: client.log_batch(run_id, tags=run_tags))
    for start in range(0, len(metrics), _METRICS_PER_CALL):
        some = metrics[start : start + _METRICS_PER_CALL]
        repeated(tracking_uri, partial(client.log_batch, run_id, metrics=some))
    for start in range(0, len(params), _PARAMETERS_PER_CALL):
        group = params[start : start + _PARAMETERS_PER_CALL]
        repeated(tracking_uri, partial(client.log_batch, run_id, params=group))


def _key(text: str) -> str:
    """The characters that MLflow takes in names of metrics and parameters."""
    return re.sub(r"[^\w.\- /]", "_", text)[:250]


def _log_documents(client: Any, tracking_uri: str, run_id: str, report: Path, verdict: Mapping[str, Any]) -> None:
    for path in sorted(report.iterdir()):
        if path.is_file() and path.name != MANIFEST_NAME:
            repeated(tracking_uri, partial(client.log_artifact, run_id, str(path), "report"))
    text = canonical_json(dict(verdict)).decode()
    repeated(tracking_uri, lambda: client.log_text(run_id, text, "report/verdict.json"))


def _upload_version(
    client: Any, tracking_uri: str, run_id: str, variant: Path, measurement: Path, dataset: Path | None, threads: int
) -> tuple[str, str]:
    """Upload the version's directory below a name that no other attempt uses.

    Returns:
        Its address and the digest of its manifest.
    """
    folder = f"versions/{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "version"
        manifest = write_version(variant, measurement, directory, run_id=run_id, threads=threads, dataset=dataset)
        repeated(tracking_uri, lambda: client.log_artifacts(run_id, str(directory), folder))
    root = repeated(tracking_uri, lambda: client.get_run(run_id)).info.artifact_uri
    return f"{root}/{folder}", manifest.digest


def _find_version(client: Any, name: str, run_key: str) -> Any:
    """The version with this key, the lowest where two callers made one each, or None."""
    found = client.search_model_versions(
        f"name = '{name}' and tags.`{RUN_KEY_TAG}` = '{run_key}'", max_results=100, order_by=["version_number ASC"]
    )
    return min(found, key=lambda version: int(version.version), default=None)


def _create_version(
    client: Any, tracking_uri: str, name: str, run_key: str, source: str, run_id: str, tags: Mapping[str, str]
) -> Any:
    """Create the version unless it is there. After an error the reply may be what was lost, so it looks again."""
    _create_model(client, tracking_uri, name)

    def create_and_find() -> Any:
        if (found := _find_version(client, name, run_key)) is not None:
            return found
        client.create_model_version(name, source, run_id, tags=dict(tags), await_creation_for=0)
        # another process may have created one in the meantime
        return _find_version(client, name, run_key)

    return repeated(tracking_uri, create_and_find, attempts=_CREATE_ATTEMPTS, mendable=_mendable)


def _create_model(client: Any, tracking_uri: str, name: str) -> None:
    from mlflow import MlflowException

    def create() -> None:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if not exists_already(error):
                raise

    repeated(tracking_uri, create, mendable=_mendable)


def _move_alias(client: Any, tracking_uri: str, name: str, alias: str, version: int) -> None:
    repeated(
        tracking_uri,
        lambda: client.set_registered_model_alias(name, alias, str(version)),
        attempts=_CREATE_ATTEMPTS,
        mendable=_mendable,
    )


def _mendable(error: Exception) -> bool:
    return is_transient(error) or is_conflict(error)


def _end_run(client: Any, tracking_uri: str, run_id: str) -> None:
    """Mark the run as finished, unless somebody else started it and will end it."""
    if os.environ.get("MLFLOW_RUN_ID") == run_id:
        return
    run = repeated(tracking_uri, lambda: client.get_run(run_id))
    if run.info.status != "FINISHED" and run.info.lifecycle_stage == "active":
        repeated(tracking_uri, lambda: client.set_terminated(run_id, "FINISHED"))
