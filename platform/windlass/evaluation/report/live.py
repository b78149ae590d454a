"""The scripts inside the page, and the policy by which the browser itself keeps the page from asking for anything."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from windlass.evaluation.report.charts import VEGA_LITE, Chart

TEMPLATES = Path(__file__).parent / "templates"
_CALLED = "window.vegaEmbed = vegaEmbed;"
"""Vega interprets its expressions (`ast`), so that the policy need not allow eval."""
_BUNDLE = """
import sys, vl_convert
sys.stdout.write(vl_convert.javascript_bundle(sys.argv[1], vl_version=sys.argv[2]))
"""


@functools.cache
def start_bundling() -> subprocess.Popen[str]:
    """Begin what `scripts` waits for in a process of its own, for it stops all threads of one for 1.4 s."""
    command = [sys.executable, "-P", "-X", "utf8", "-c", _BUNDLE, _CALLED, VEGA_LITE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


@functools.cache
def scripts() -> tuple[str, str]:
    """Vega with Vega-Lite and its embedding as one script, and the page's own."""
    process = start_bundling()
    runtime, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"bundling Vega ended with {process.returncode}: {said}")
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
