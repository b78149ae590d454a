"""`windlass try`: the whole way once, to a prediction that came over HTTP."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from windlass.compression.documents import CANDIDATES_NAME, Candidates
from windlass.errors import WindlassError
from windlass.recipe.runs import read_recipe
from windlass.storage import Workspace
from windlass.variants import GOLDEN_NAME, GoldenExamples
from windlass_cli.commands.run import command_line, follow, show_result
from windlass_cli.console import stdout
from windlass_cli.summary import RunSummary, summarize

_READY_TIMEOUT_S = 60.0
_DRAIN_TIMEOUT_S = 45.0
_POLL_S = 0.2


class GatewayDidNotStartError(WindlassError):
    """The gateway of `windlass try` ended, or was not ready in time."""

    def __init__(self, log: Path) -> None:
        super().__init__(
            f"the gateway did not become ready; {log} says why, and `windlass doctor` looks at the machine"
        )
        self.log = log


def try_recipe(path: Path, overrides: list[str], *, root: str) -> int:
    """Run a recipe, serve its version on a free port, ask it once, and stop.

    Returns:
        The exit code of the run; nothing is served unless it is 0.
    """
    workspace = Workspace(root)
    command = command_line("try", path, overrides, None, root)
    run_id, outcome = follow(workspace, path, overrides, last_step="register", command=command, as_json=False)
    summary = summarize(workspace, run_id, root=root)
    show_result(summary, outcome, command=command, as_json=False)
    if outcome.exit_code == 0 and summary.registration is not None:
        _ask_once(workspace, summary, summary.registration.model, root)
    return outcome.exit_code


def _ask_once(workspace: Workspace, summary: RunSummary, name: str, root: str) -> None:
    row = _example_row(workspace, summary)
    log = workspace.local / "runs" / summary.run.run_id / "gateway.log"
    options = ["--root", root]
    if uri := read_recipe(workspace, summary.run.run_id).recipe.registration.tracking_uri:
        options += ["--tracking-uri", uri]
    with _gateway(name, options, log) as url:
        address = f"{url}/v1/models/{name}/predict"
        reply = _post(address, {"rows": [row]})
    console = stdout()
    console.print(f"\nserved at {url} and asked once: POST {address} gave", markup=False)
    console.print(f"  {json.dumps(reply)}", markup=False)


def _example_row(workspace: Workspace, summary: RunSummary) -> Any:
    """A row as a caller sends it: the first golden one of the version."""
    compressed = next(result for result in summary.run.steps if result.step == "compress")
    candidates = Candidates.read(workspace.fetch(compressed.reference) / CANDIDATES_NAME).candidates
    variant = next(candidate.variant for candidate in candidates if candidate.name == summary.winner)
    return GoldenExamples.read(workspace.fetch(variant) / GOLDEN_NAME).rows[0]


@contextlib.contextmanager
def _gateway(name: str, options: list[str], log: Path) -> Iterator[str]:
    """A gateway in a process of its own while the block runs; gives its URL once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "windlass_cli", "serve", name, "--port", str(port), *options]
    with log.open("wb") as log_file, subprocess.Popen(command, stdout=log_file, stderr=log_file) as process:
        try:
            _wait_until_ready(process, url, log)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_DRAIN_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{url}/readyz", timeout=2),  # noqa: S310 - our own address
        ):
            return
        time.sleep(_POLL_S)
    raise GatewayDidNotStartError(log)


def _post(url: str, document: Any) -> Any:
    request = urllib.request.Request(  # noqa: S310 - our own address
        url, data=json.dumps(document).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
        return json.load(reply)
