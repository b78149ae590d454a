"""Write a requirement file with hashes for one role: `python hack/lock_requirements.py ROLE [pip's arguments…]`.

The versions are those of constraints.txt, for Spark those of constraints-spark.txt; the hashes are those of the wheels
that Linux with Python 3.11 takes on x86-64 and on ARM. A package that has no wheel is named by a line `--no-binary`;
every other one is refused as source.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (3, 11)
ROLES = ("build", "gateway", "mlflow", "components", "torch-cpu", "torch-cuda", "spark")
CONSTRAINTS = {"spark": "constraints-spark.txt"}
"""Of roles with packages that no other has."""
SOURCE_BUILDER = "setuptools>=80"
"""What makes a wheel of a package that has none."""
NEEDS_TORCH = "captum"
"""The package of the components that asks for torch, which is installed before them from a file of its own."""
HEADER = "# Made by `make requirements`; docs/how-to/images.md says how. Not to be edited.\n"


def wanted(role: str) -> list[str]:
    """What the role asks for, as pyproject.toml and services/mlflow/requirements.in say it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    base, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    is_torch = re.compile(r"torch\b").match
    if role == "build":
        return [*project["build-system"]["requires"], SOURCE_BUILDER]
    if role == "gateway":
        return [*base, *extras["gateway"]]
    if role == "spark":
        return [*base, *extras["spark"], *extras["pipelines"]]
    if role == "mlflow":
        lines = (ROOT / "services" / "mlflow" / "requirements.in").read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line and not line.startswith("#")]
    # Evaluation loads the gateway's worker in the processes that it measures.
    components = [*base, *extras["train"], *extras["pipelines"], *extras["gateway"]]
    return [line for line in components if bool(is_torch(line)) == role.startswith("torch")]


def resolve(role: str, requirements: Sequence[str], *arguments: str) -> list[dict[str, Any]]:
    """The packages that pip would install: `metadata` and `download_info` of each."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--constraint", str(ROOT / CONSTRAINTS.get(role, "constraints.txt")), "--report", str(report)]
        subprocess.run([*command, *arguments, *requirements], check=True)
        return list(json.loads(report.read_bytes())["install"])


def elsewhere(machine: str) -> list[str]:
    """pip's arguments for another processor's wheels: each glibc since the oldest that our packages name."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)] + [f"manylinux2014_{machine}"]
    return ["--no-deps", "--target", "unused", *(word for tag in tags for word in ("--platform", tag))]


def names(packages: list[dict[str, Any]]) -> set[str]:
    return {package["metadata"]["name"] for package in packages}


def without_torch(role: str, packages: list[dict[str, Any]], arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Less what only torch needs, where a package of the role brings torch along."""
    others = [line for line in wanted(role) if not line.startswith(NEEDS_TORCH)]
    if others == wanted(role):
        return packages
    kept = names(resolve(role, others, *arguments)) | {NEEDS_TORCH}
    apart = names(resolve("torch-cpu", wanted("torch-cpu"), *arguments)) - kept
    return [package for package in packages if package["metadata"]["name"] not in apart]


def lock(role: str, arguments: Sequence[str]) -> str:
    """The text of `requirements/<role>.txt`."""
    pinned: dict[str, set[str]] = {}
    sources: set[str] = set()

    def add(packages: list[dict[str, Any]]) -> None:
        for package in packages:
            download, name = package["download_info"], package["metadata"]["name"].lower().replace("_", "-")
            pinned.setdefault(f"{name}=={package['metadata']['version']}", set()).add(
                download["archive_info"]["hashes"]["sha256"]
            )
            if not download["url"].endswith(".whl"):
                sources.add(name)

    add(without_torch(role, resolve(role, wanted(role), *arguments), arguments))
    if not role.startswith("torch"):
        machine = "aarch64" if platform.machine() == "x86_64" else "x86_64"
        add(resolve(role, sorted(pinned), *elsewhere(machine), *arguments))

    text = HEADER + "--only-binary :all:\n" + "".join(f"--no-binary {name}\n" for name in sorted(sources))
    for pin in sorted(pinned):
        text += " \\\n    ".join([pin, *(f"--hash=sha256:{digest}" for digest in sorted(pinned[pin]))]) + "\n"
    return text


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in ROLES:
        sys.stderr.write(f"usage: lock_requirements.py {{{','.join(ROLES)}}} [pip's arguments…]\n")
        return 2
    if sys.version_info[:2] != PYTHON or sys.platform != "linux":
        sys.stderr.write(
            "the images are Linux with Python 3.11: run this there, for pip picks wheels for where it runs\n"
        )
        return 2
    role = sys.argv[1]
    (ROOT / "requirements" / f"{role}.txt").write_text(lock(role, sys.argv[2:]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
