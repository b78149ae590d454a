"""`windlass serve` of what the registry does not have, with a real registry and real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(tmp_path: Path, free_port: int) -> Iterator[Serve]:
    """Starts `windlass serve`; what still runs at the end has to stop with 0."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "windlass_cli", "serve", *arguments, "--port", str(free_port)],
            cwd=tmp_path,
            env={**os.environ, "MLFLOW_TRACKING_URI": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=60)
                assert process.returncode == 0


def wait_for(process: subprocess.Popen[str], *texts: str) -> str:
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if all(text in line for text in texts):
            return seen
    raise AssertionError(f"{texts} never came: {seen}")


@pytest.mark.parametrize("spec", ["nosuch", "digits/7", "digits@prod"])
def test_serving_what_is_not_registered_ends_with_2_and_says_how_to_see_what_is(
    serve: Serve, registry: Any, spec: str
) -> None:
    registry.register("digits")
    process = serve(spec, "--tracking-uri", registry.tracking_uri)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 2
    last = shown.strip().splitlines()[-1]
    assert last.startswith(f"error: MLflow at {registry.tracking_uri} has no {spec}, so there is nothing to serve")
    assert "`windlass models` lists what is registered, `windlass run RECIPE` registers a version" in last


def test_what_was_absent_once_is_served_when_it_is_registered(serve: Serve, registry: Any) -> None:
    registry.register("digits")
    process = serve("wine", "--tracking-uri", registry.tracking_uri)
    process.communicate(timeout=60)
    assert process.returncode == 2
    registry.register("wine")
    registry.point("wine", "champion", 1)
    wait_for(serve("wine", "--tracking-uri", registry.tracking_uri), '"published"', '"wine"')


def test_one_that_is_registered_is_served_and_the_other_is_named(serve: Serve, registry: Any) -> None:
    registry.register("digits")
    registry.point("digits", "champion", 1)
    process = serve("digits", "nosuch", "--tracking-uri", registry.tracking_uri)
    seen = wait_for(process, "not in the registry", "nosuch")
    assert '"published"' in seen
    assert "there is no model 'nosuch'" in seen


def test_a_registry_that_does_not_answer_is_waited_for(serve: Serve) -> None:
    process = serve("digits", "--tracking-uri", "http://127.0.0.1:9")
    wait_for(process, "registry unreadable", "MLflow at http://127.0.0.1:9 does not answer", "curl")
    wait_for(process, "registry unreadable")
    assert process.poll() is None


def test_serving_from_a_workspace_where_nothing_is_registered_ends_at_once(serve: Serve, tmp_path: Path) -> None:
    process = serve("digits")
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "nothing is registered in .windlass yet; start with `windlass run RECIPE`" in shown
    assert not (tmp_path / ".windlass" / "gateway").exists()


@pytest.mark.parametrize(("spec", "says"), [("a b", "is not a model name"), ("digits/x", "names no version; write")])
def test_what_cannot_be_a_model_is_refused_before_anything_starts(serve: Serve, spec: str, says: str) -> None:
    process = serve(spec)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 2
    assert says in shown
