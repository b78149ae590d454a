"""What the Dockerfiles say, read without building them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = ["components/Dockerfile", "services/gateway/Dockerfile", "services/mlflow/Dockerfile"]


def instructions(dockerfile: str) -> list[str]:
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / dockerfile).read_text(encoding="utf-8"))
    return [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def stages(dockerfile: str) -> dict[str, list[str]]:
    """Instructions by stage, each stage with its FROM first."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in instructions(dockerfile):
        if line.startswith("FROM "):
            name = line.split(" AS ")[1]
            found[name] = []
        if name:
            found[name].append(line)
    return found


def images() -> list[list[str]]:
    lines = (ROOT / "images.txt").read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_the_list_of_images_names_targets_that_exist() -> None:
    for _, dockerfile, target, *_ in images():
        assert target in stages(dockerfile)
    assert {line[1] for line in images()} == set(DOCKERFILES)


def test_cuda_is_built_by_the_same_stages_as_cpu_and_differs_in_torch_alone() -> None:
    found = stages("components/Dockerfile")
    for stage in ("torch-cpu", "packages-cpu", "code-cpu"):
        as_cuda = [line.replace("cpu", "cuda") for line in found[stage]]
        assert found[stage.replace("cpu", "cuda")] == as_cuda
    assert "ARG TORCH_REQUIREMENTS=requirements/torch-cpu.txt" in found["torch-cpu"]
    assert "ARG TORCH_REQUIREMENTS=requirements/torch-cuda.txt" in found["torch-cuda"]
    only_cuda = "ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    as_cpu = [line.replace("cuda", "cpu").replace(", with CUDA", "") for line in found["cuda"] if line != only_cuda]
    assert as_cpu == found["cpu"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_base_image_comes_from_one_argument(dockerfile: str) -> None:
    assert instructions(dockerfile)[0] == "ARG PYTHON_IMAGE=python:3.11-slim"
    bases = {lines[0].split()[1] for lines in stages(dockerfile).values()}
    assert bases - set(stages(dockerfile)) == {"${PYTHON_IMAGE}"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_nothing_is_installed_without_a_hash(dockerfile: str) -> None:
    installs = re.findall(r"pip [^&]* install [^&]*", " && ".join(instructions(dockerfile)))
    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-index" in install


@pytest.mark.parametrize(("dockerfile", "target"), [tuple(line[1:3]) for line in images()])
def test_code_is_copied_last_into_an_image_that_runs_as_a_numeric_user(dockerfile: str, target: str) -> None:
    found = stages(dockerfile)
    lines = found[target]
    parent = found.get(lines[0].split()[1], [])
    assert "USER 10001:10001" in [*parent, *lines]
    assert not [line for line in lines if line.startswith(("RUN", "ADD"))]
    last = [line for line in lines if line.startswith("COPY")][-1]
    assert re.match(r"COPY (--from=code\S* /code/ /|services/mlflow/tracking_server )", last)


@pytest.mark.parametrize("path", [*DOCKERFILES, "hack/build-images", "hack/lock_requirements.py", "images.txt"])
def test_no_registry_host_is_named(path: str) -> None:
    assert not re.search(r"https?://|index-url", (ROOT / path).read_text(encoding="utf-8"))
