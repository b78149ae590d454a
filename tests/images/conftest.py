"""Images as they are built here: with buildah, docker or podman, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from windlass import __version__

ROOT = Path(__file__).parents[2]
BUILD_S = 1800


@dataclass(frozen=True)
class Builder:
    """One of the three builders, as far as the tests need it."""

    name: str

    def build(self, *images: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """What `make images` does."""
        return subprocess.run(
            ["hack/build-images", *images],
            cwd=environment.pop("cwd", ROOT),
            env={**os.environ, "BUILDER": self.name, **environment},
            check=check,
            timeout=BUILD_S,
            capture_output=True,
            text=True,
        )

    def inspect(self, image: str) -> dict[str, Any]:
        """Its `user`, `labels`, `env` and `layers` (digests of what is in them, the base's first)."""
        command = [self.name, "inspect", *(["--type", "image"] if self.name == "buildah" else []), image]
        found = json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)
        if self.name == "buildah":
            config, layers = found["OCIv1"]["config"], found["OCIv1"]["rootfs"]["diff_ids"]
        else:
            config, layers = found[0]["Config"], found[0]["RootFS"]["Layers"]
        return {"user": config["User"], "labels": config["Labels"], "env": config["Env"], "layers": layers}

    def run(self, image: str, *command: str) -> str:
        """The standard output of a command in the image, run as the image says."""
        if self.name != "buildah":
            whole = [self.name, "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none"]  # noqa: S108
            return subprocess.run(
                [*whole, image, *command], check=True, timeout=120, capture_output=True, text=True
            ).stdout
        container = subprocess.run(
            [self.name, "from", image], check=True, capture_output=True, text=True
        ).stdout.strip()
        try:
            inside = [self.name, "run", container, "--", *command]
            return subprocess.run(inside, check=True, timeout=120, capture_output=True, text=True).stdout
        finally:
            subprocess.run([self.name, "rm", container], check=True, capture_output=True)

    def remove(self, image: str) -> None:
        subprocess.run([self.name, "rmi", "--force", image], check=False, timeout=60, capture_output=True)


@pytest.fixture(scope="session")
def builder() -> Builder:
    name = next((name for name in ("buildah", "docker", "podman") if shutil.which(name)), None)
    if name is None:
        pytest.skip("neither buildah, docker nor podman is installed")
    return Builder(name)


@pytest.fixture(scope="session")
def image(builder: Builder) -> Callable[[str], str]:
    """Builds the image of a role, once, and gives its name."""
    names = {
        "components": "windlass:cpu",
        "gateway": "windlass-gateway",
        "mlflow": "windlass-mlflow",
        "spark": "windlass:spark",
    }

    @cache
    def build(role: str) -> str:
        builder.build(names[role], TAG=__version__, REGISTRY="localhost")
        name, _, suffix = names[role].partition(":")
        return f"localhost/{name}:{__version__}" + (f"-{suffix}" if suffix else "")

    return build


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of all that the images are made of."""
    for folder in ("platform", "components", "pipelines", "services", "requirements", "hack"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", ".dockerignore", "images.txt"):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path
