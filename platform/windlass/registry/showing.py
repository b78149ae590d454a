"""What MLflow's own pages show of a run beside its metrics: the report, its figures and its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from windlass.registry.tracking import repeated
from windlass.schema import canonical_json
from windlass.storage import MANIFEST_NAME

REPORT_FOLDER = "report"
SHOWN_FOLDERS = ("figures", "tables")
"""Of the report's directory; they lie at the top in MLflow."""
_TABLES_TAG = "mlflow.loggedArtifacts"
"""By it MLflow tells a table from any other JSON file: `mlflow.load_table` finds it, the run's page shows it."""


def log_report(client: Any, tracking_uri: str, run_id: str, report: Path, verdict: Mapping[str, Any]) -> None:
    """Upload what `select` published. It may be called again: a file takes its own place.

    Args:
        report: directory with report.json and report.html, and with `figures/*.svg` and `tables/*.json` if there are
            any; a table is `{"columns": [...], "data": [[...], ...]}`, the form in which MLflow's log_table writes it.
        verdict: the verdict as plain data.
    """
    for path in sorted(report.iterdir()):
        if path.is_file() and path.name != MANIFEST_NAME:
            repeated(tracking_uri, partial(client.log_artifact, run_id, str(path), REPORT_FOLDER))
    text = canonical_json(dict(verdict)).decode()
    repeated(tracking_uri, lambda: client.log_text(run_id, text, f"{REPORT_FOLDER}/verdict.json"))
    for folder in SHOWN_FOLDERS:
        if (report / folder).is_dir():
            repeated(tracking_uri, partial(client.log_artifacts, run_id, str(report / folder), folder))
    tables = [{"path": f"tables/{path.name}", "type": "table"} for path in sorted((report / "tables").glob("*.json"))]
    if tables:
        repeated(tracking_uri, lambda: _tag_tables(client, run_id, tables))


def _tag_tables(client: Any, run_id: str, tables: list[dict[str, str]]) -> None:
    """Name the tables in the run's tag, beside those that an adopted run has already."""
    there = json.loads(client.get_run(run_id).data.tags.get(_TABLES_TAG, "[]"))
    named = there + [table for table in tables if table not in there]
    if named != there:
        client.set_tag(run_id, _TABLES_TAG, json.dumps(named))
