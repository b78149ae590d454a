"""The images as they are when built. `make images` first makes this quick: what is built is not built again."""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from windlass import __version__

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]

LIMIT_MB = {"components": 2300, "gateway": 550, "mlflow": 1100, "spark": 1050}
ENTRIES = {
    "components": "windlass_components.train, windlass_pipelines.runner, windlass_cli.main, windlass_gateway.worker",
    "gateway": "windlass_gateway.supervisor, windlass_gateway.worker, windlass_gateway.reconciler",
    "mlflow": "tracking_server.database, mlflow.server",
    "spark": "windlass.recipe.steps, windlass.data.spark.executor, pyspark",
}
ROLES = sorted(LIMIT_MB)
COUNT = """
import os
seen = {}
for top in sorted(set(os.listdir("/")) - {"proc", "sys", "dev", "tmp", "run"}):
    for folder, _, files in os.walk("/" + top):
        for found in (os.lstat(os.path.join(folder, file)) for file in files):
            seen[found.st_ino] = found.st_size
print(sum(seen.values()))
"""


@pytest.mark.parametrize("role", ROLES)
def test_an_image_is_smaller_than_its_limit(builder, image: Callable[[str], str], role: str) -> None:
    assert int(builder.run(image(role), "python", "-c", COUNT)) / 1e6 < LIMIT_MB[role]


@pytest.mark.parametrize("role", ROLES)
def test_an_image_says_what_it_is(builder, image: Callable[[str], str], role: str) -> None:
    found = builder.inspect(image(role))
    assert found["user"] == "10001:10001"
    assert found["labels"]["org.opencontainers.image.version"] == __version__
    assert found["labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert found["labels"]["org.opencontainers.image.title"].startswith("windlass")


@pytest.mark.parametrize("role", ROLES)
def test_the_entry_modules_of_a_role_load_as_its_user(builder, image: Callable[[str], str], role: str) -> None:
    code = f"import os, {ENTRIES[role]}; print(os.getuid())"
    assert builder.run(image(role), "python", "-W", "ignore", "-c", code).strip() == "10001"


@pytest.mark.parametrize("role", ROLES)
def test_an_image_holds_no_compiler_and_no_cache_of_pip(builder, image: Callable[[str], str], role: str) -> None:
    tools = "for tool in cc gcc g++ clang make ld as; do command -v $tool; done; ls -d /root/.cache /tmp/.cache /build"
    assert builder.run(image(role), "sh", "-c", f"({tools}) 2>/dev/null || true") == ""


@pytest.mark.parametrize("role", ROLES)
def test_nothing_of_an_image_can_be_changed_by_its_user(builder, image: Callable[[str], str], role: str) -> None:
    assert builder.run(image(role), "sh", "-c", "find /opt/windlass -writable ! -type l | head") == ""


@pytest.mark.parametrize("role", ["gateway", "mlflow", "spark"])
def test_only_the_components_hold_torch(builder, image: Callable[[str], str], role: str) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('torch'))"
    assert builder.run(image(role), "python", "-c", code).strip() == "None"


def test_spark_runs_tasks_in_python_as_the_user_of_its_image(builder, image: Callable[[str], str]) -> None:
    moved = "c.parallelize(range(1000), 4).map(lambda i: (i % 3, i)).partitionBy(3, int).values().sum()"
    code = f"from pyspark import SparkContext; c = SparkContext('local[1]'); print({moved})"
    assert builder.run(image("spark"), "env", "SPARK_LOCAL_IP=127.0.0.1", "python", "-c", code).strip() == "499500"


def test_a_change_of_code_changes_the_last_layer_only(builder, checkout: Path) -> None:
    image = "localhost/windlass-gateway:reused"
    build = {"cwd": str(checkout), "TAG": "reused"}
    try:
        builder.build("windlass-gateway", **build)
        before = builder.inspect(image)["layers"]
        with (checkout / "platform" / "windlass" / "errors.py").open("a", encoding="utf-8") as file:
            file.write("\n# changed\n")
        builder.build("windlass-gateway", **build)
        after = builder.inspect(image)["layers"]
    finally:
        builder.remove(image)
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


def variation(checkout: Path, requirements: str, extra: str = "") -> None:
    """Make the tracking server's image a tiny one: other requirements, and one more command before the check.

    A comment that no build has seen keeps the builder from taking a layer of an earlier test run: what is not run again
    says nothing.
    """
    text = f"# {uuid.uuid4()}\n{requirements}"
    (checkout / "requirements" / "mlflow.txt").write_text(text, encoding="utf-8")
    dockerfile = checkout / "services" / "mlflow" / "Dockerfile"
    check = "RUN python3 check_site_packages.py"
    dockerfile.write_text(dockerfile.read_text(encoding="utf-8").replace(check, f"{extra}\n{check}"), encoding="utf-8")


def pinned(checkout: Path, file: str, name: str) -> str:
    text = (checkout / "requirements" / file).read_text(encoding="utf-8")
    found = re.search(rf"(?m)^{name}==(?:.*\\\n)*.*\n", text)
    assert found is not None
    return found[0]


def build_variation(builder, checkout: Path) -> subprocess.CompletedProcess[str]:
    try:
        return builder.build("windlass-mlflow", check=False, cwd=str(checkout), TAG="variation")
    finally:
        builder.remove("localhost/windlass-mlflow:variation")


def test_a_tiny_variation_of_an_image_is_built(builder, checkout: Path) -> None:
    variation(checkout, pinned(checkout, "build.txt", "pluggy"))
    done = build_variation(builder, checkout)
    assert done.returncode == 0, done.stderr
    assert "1 distributions, 0 problems" in done.stdout + done.stderr


@pytest.mark.attack
def test_a_stray_pth_file_fails_the_build(builder, checkout: Path) -> None:
    place = "/opt/windlass/lib/python3.11/site-packages/stray.pth"
    variation(checkout, pinned(checkout, "build.txt", "pluggy"), f"RUN echo 'import os' > {place}")
    done = build_variation(builder, checkout)
    assert done.returncode != 0
    assert "stray.pth: runs whenever Python starts" in done.stdout + done.stderr


@pytest.mark.attack
def test_a_dependency_without_a_hash_fails_the_build(builder, checkout: Path) -> None:
    variation(checkout, pinned(checkout, "components.txt", "rich"))
    done = build_variation(builder, checkout)
    assert done.returncode != 0
    assert "In --require-hashes mode, all requirements must have their versions pinned" in done.stdout + done.stderr


@pytest.mark.attack
def test_another_file_than_the_hashed_one_fails_the_build(builder, checkout: Path) -> None:
    requirement = re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", pinned(checkout, "build.txt", "pluggy"))
    variation(checkout, requirement)
    done = build_variation(builder, checkout)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stdout + done.stderr
