"""The last check of each build refuses what no hashed requirement brought."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "hack" / "check_site_packages.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`site-packages` with one distribution, `alpha`, that requirements.txt names."""
    found = tmp_path / "lib" / "python3.11" / "site-packages"
    found.mkdir(parents=True)
    add(found, "alpha")
    (tmp_path / "requirements.txt").write_text(f"alpha==1.0 \\\n    --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    return found


def add(folder: Path, name: str, metadata: str = "", files: dict[str, str] | None = None) -> None:
    """Put a distribution there as pip would."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}", encoding="utf-8")
    contents = {f"{name}.py": "", **(files or {})}
    for path, text in contents.items():
        (folder / path).write_text(text, encoding="utf-8")
    listed = [*contents, f"{info.name}/METADATA", f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed), encoding="utf-8")


def verdict(folder: Path) -> tuple[int, str]:
    root = folder.parents[2]
    command = [sys.executable, str(CHECK), "--requirements", str(root / "requirements.txt"), str(root)]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_what_is_hashed_and_whole_passes(folder: Path) -> None:
    assert verdict(folder) == (0, "1 distributions, 0 problems\n")


@pytest.mark.attack
@pytest.mark.parametrize("name", ["stray.pth", "sitecustomize.py", "usercustomize.py"])
def test_a_stray_file_that_runs_at_the_start_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("import os\n", encoding="utf-8")
    code, text = verdict(folder)
    assert code == 1
    assert f"{name}: runs whenever Python starts" in text


@pytest.mark.attack
def test_a_pth_file_is_refused_also_from_a_distribution_that_is_known(folder: Path) -> None:
    add(folder, "beta", files={"beta.pth": "import os\n"})
    with (folder.parents[2] / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write(f"beta==1.0 --hash=sha256:{'1' * 64}\n")
    code, text = verdict(folder)
    assert code == 1
    assert "it came with beta" in text


@pytest.mark.attack
def test_a_distribution_without_a_hash_is_refused(folder: Path) -> None:
    add(folder, "beta")
    code, text = verdict(folder)
    assert code == 1
    assert "beta 1.0 is not in a requirement file" in text


@pytest.mark.attack
@pytest.mark.parametrize("line", ["beta==1.0", "beta", "--extra-index-url file:///elsewhere", "-e ."])
def test_a_line_without_a_hash_is_refused(folder: Path, line: str) -> None:
    with (folder.parents[2] / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    code, text = verdict(folder)
    assert code == 1
    assert line in text


def test_a_dependency_that_is_not_there_is_named(folder: Path) -> None:
    add(folder, "beta", metadata="Requires-Dist: gamma>=2\n")
    assert "beta needs gamma>=2, here is none" in verdict(folder)[1]


def test_a_file_that_no_distribution_brought_is_refused(folder: Path) -> None:
    (folder / "stray.py").write_text("", encoding="utf-8")
    code, text = verdict(folder)
    assert code == 1
    assert "stray.py: belongs to no distribution" in text
