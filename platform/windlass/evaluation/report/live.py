"""The scripts inside the page, and the policy by which the browser itself keeps the page from asking for anything."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from windlass.evaluation.report.charts import VEGA_LITE, Chart

TEMPLATES = Path(__file__).parent / "templates"
_CALLED = "window.vegaEmbed = vegaEmbed;"
"""Vega interprets its expressions (`ast`), so that the policy need not allow eval."""


@functools.cache
def scripts() -> tuple[str, str]:
    """Vega with Vega-Lite and its embedding as one script, and the page's own."""
    import vl_convert

    runtime: str = vl_convert.javascript_bundle(_CALLED, vl_version=VEGA_LITE)
    # a browser ends the script at these letters, wherever they are; in JavaScript's strings both forms are the same
    return runtime.replace("</script", "<\\/script"), (TEMPLATES / "page.js").read_text(encoding="utf-8")


def policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy: these scripts run and no other, and nothing is loaded from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def specification(chart: Chart) -> str:
    """The chart as JSON that stands inside a script element."""
    return json.dumps(chart.spec, separators=(",", ":")).replace("<", "\\u003c")
