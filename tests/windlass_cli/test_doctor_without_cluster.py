"""`windlass doctor --on cluster` where there is no cluster to ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGURATION = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "gone", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me", "namespace": "team"}}],
    "users": [{"name": "me", "user": {}}],
    "current-context": "gone",
}


def doctor(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "windlass_cli", "doctor", "--on", "cluster", *arguments],
        cwd=directory,
        env={**os.environ, "KUBECONFIG": str(directory / "kubeconfig"), "HOME": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_without_a_configuration_it_says_to_set_one(tmp_path: Path) -> None:
    reply = doctor(tmp_path, "--json")
    (finding,) = json.loads(reply.stdout)
    assert (finding["name"], finding["status"], reply.returncode) == ("cluster", "problem", 1)
    assert finding["action"] == "set KUBECONFIG, or choose a --context that it has"
    assert "Traceback" not in reply.stderr


def test_an_unknown_context_is_named(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(json.dumps(CONFIGURATION))
    reply = doctor(tmp_path, "--context", "other")
    assert reply.returncode == 1
    assert "KUBECONFIG has no context 'other'" in reply.stdout


def test_an_api_server_that_does_not_answer_is_named_with_what_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(json.dumps(CONFIGURATION))
    (finding,) = json.loads(doctor(tmp_path, "--json").stdout)
    assert finding["status"] == "problem"
    assert finding["found"].startswith("http://127.0.0.1:9 does not answer")
    assert finding["action"].startswith("kubectl cluster-info")


@pytest.mark.parametrize("root", ["here", "/data/runs"])
def test_a_root_that_pods_cannot_reach_is_refused(tmp_path: Path, root: str) -> None:
    reply = doctor(tmp_path, "--root", root)
    assert reply.returncode == 2
    assert f"--root {root}: pods cannot reach it" in reply.stderr
