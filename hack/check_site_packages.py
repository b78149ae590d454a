"""Refuse what has no place in an image: `check_site_packages.py --requirements FILE… [--own NAME] ROOT…`.

Every distribution below the roots must be in a requirement file with its hash, be there once, and find all that it
needs; every file must belong to one. A file that the interpreter runs by itself at its start (`*.pth`,
`sitecustomize.py`) is refused, wherever it comes from. Runs with the base image's own pip and nothing else.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

ALLOWED = {"distutils-precedence.pth": "setuptools"}
"""Files that run at the interpreter's start, with the distribution that may bring them."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(files: list[Path]) -> tuple[dict[str, str], list[str]]:
    """Versions by name of what the requirement files name with a hash, and what is wrong with the files."""
    versions: dict[str, str] = {}
    problems = []
    for file in files:
        text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*$", "", file.read_text(encoding="utf-8")))
        for line in filter(None, (line.strip() for line in text.splitlines())):
            if re.fullmatch(r"--(only|no)-binary \S+", line):
                continue
            pin = re.fullmatch(r"([\w.-]+)==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})+)", line)
            if pin is None:
                problems.append(f"{file.name}: no `name==version --hash=sha256:…`: {line}")
            else:
                versions[normal(pin[1])] = pin[2]
    return versions, problems


def unknown(found: list[Distribution], versions: dict[str, str], own: list[str]) -> Iterator[str]:
    """Distributions that no requirement file names, or that are there twice."""
    names = [normal(one.metadata["Name"]) for one in found]
    for name, one in zip(names, found, strict=True):
        if name not in own and versions.get(name) != one.version:
            yield f"{name} {one.version} is not in a requirement file; run `make requirements`"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name} is there {names.count(name)} times"


def lacking(found: list[Distribution], extras: dict[str, set[str]]) -> Iterator[str]:
    """What a distribution needs and none here provides."""
    versions = {normal(one.metadata["Name"]): one.version for one in found}
    for one in found:
        name = normal(one.metadata["Name"])
        for text in one.requires or []:
            need = Requirement(text)
            asked = (
                [need.marker.evaluate({"extra": extra}) for extra in ("", *extras.get(name, ()))] if need.marker else []
            )
            if need.marker and not any(asked):
                continue
            version = versions.get(normal(need.name))
            if version is None or not need.specifier.contains(version, prereleases=True):
                yield f"{name} needs {need.name}{need.specifier}, here is {version or 'none'}; run `make requirements`"


def stray(folder: Path, found: list[Distribution]) -> Iterator[str]:
    """Files that no distribution brought, and files that the interpreter runs at its start."""
    owners = {
        os.path.normpath(str(one.locate_file(file))): normal(one.metadata["Name"])
        for one in found
        for file in one.files or []
    }
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        owner = owners.get(str(path))
        starts = path.parent == folder and (path.suffix == ".pth" or path.stem in ("sitecustomize", "usercustomize"))
        if starts and (owner is None or ALLOWED.get(path.name) != owner):
            yield f"{path}: runs whenever Python starts; it came with {owner or 'nothing that is known'}"
        elif owner is None:
            yield f"{path}: belongs to no distribution"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirements", type=Path, action="append", required=True)
    parser.add_argument("--own", action="append", default=[], help="what is built here: NAME or NAME[EXTRA,…]")
    parser.add_argument("roots", type=lambda text: Path(text).resolve(), nargs="+")
    asked = parser.parse_args()
    own = [Requirement(text) for text in asked.own]

    folders = [
        path for root in asked.roots for path in sorted(root.rglob("site-packages")) if path.parent.name[:6] == "python"
    ]
    found = [one for folder in folders for one in distributions(path=[str(folder)])]
    versions, problems = locked(asked.requirements)
    problems += unknown(found, versions, [normal(one.name) for one in own])
    problems += lacking(found, {normal(one.name): one.extras for one in own})
    for folder in folders:
        problems += stray(folder, found)
    if not found:
        problems.append(f"no distribution in {', '.join(map(str, asked.roots))}")
    sys.stdout.write("".join(f"refused: {problem}\n" for problem in problems))
    sys.stdout.write(f"{len(found)} distributions, {len(problems)} problems\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
