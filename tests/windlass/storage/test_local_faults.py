"""A local root under kills, full disks and flipped bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.errors import CorruptedError
from windlass.storage import (
    Manifest,
    ObjectCorruptedError,
    Reference,
    StorageFullError,
    Workspace,
    digest_file,
)

_MAKES_SLOWLY = """
import sys, time
from pathlib import Path
from windlass.storage import Workspace

def make(directory):
    (directory / "half").write_text("half")
    print("making", flush=True)
    time.sleep(600)

Workspace(sys.argv[1]).once("train", "k1", make)
"""


def _make(directory: Path) -> None:
    (directory / "model.onnx").write_bytes(b"m" * 1000)


def _published(root: Path) -> Reference:
    return Workspace(root).once("train", "k1", _make)[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting a small tmpfs needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.fault
def test_a_killed_step_publishes_nothing_and_the_next_one_cleans_up_after_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MAKES_SLOWLY, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"making\n"
        (half,) = (tmp_path / "tmp").glob("*/half")
        Workspace(tmp_path).once("other", "k1", _make)
        assert half.exists(), "its owner is alive"
        process.send_signal(signal.SIGKILL)
    assert Workspace(tmp_path).find("train", "k1") is None
    assert not Workspace(tmp_path).once("train", "k1", _make)[1]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.fault
def test_a_full_disk_is_named_and_publishes_nothing(small_disk: Path) -> None:
    workspace = Workspace(small_disk)

    def make_too_much(directory: Path) -> None:
        (directory / "part").write_bytes(b"x" * 500_000)
        (directory / "more").write_bytes(b"x" * 5_000_000)

    with pytest.raises(StorageFullError, match=f"no space left on the disk of {small_disk}/.*: free some space"):
        workspace.once("train", "k1", make_too_much)
    assert workspace.find("train", "k1") is None
    assert list((small_disk / "tmp").iterdir()) == []
    assert not workspace.once("train", "k1", _make)[1]


@pytest.mark.fault
def test_a_document_on_a_full_disk_keeps_its_last_content(small_disk: Path) -> None:
    workspace = Workspace(small_disk)
    workspace.write_document("runs/1/run.json", b"before")
    with pytest.raises(StorageFullError, match=r"no space left on the disk of .*run\.json"):
        workspace.write_document("runs/1/run.json", b"x" * 5_000_000)
    assert workspace.read_document("runs/1/run.json") == b"before"


@pytest.mark.fault
def test_an_input_that_does_not_fit_on_the_disk_is_not_half_published(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"x" * 5_000_000)
    with pytest.raises(StorageFullError, match="no space left"):
        Workspace(small_disk).put_input(tmp_path / "table.csv")
    assert [path for path in small_disk.rglob("*") if path.name == "table.csv"] == []


@pytest.mark.fault
def test_a_flipped_byte_is_found_and_its_file_named_also_after_an_earlier_fetch(tmp_path: Path) -> None:
    reference = _published(tmp_path)
    directory = Workspace(tmp_path).fetch(reference)
    (directory / "model.onnx").write_bytes(b"m" * 999 + b"n")
    with pytest.raises(ObjectCorruptedError) as caught:
        Workspace(tmp_path).fetch(reference)
    expected = (
        f"{directory}/model.onnx is not what was published (its SHA-256 differs); delete {directory} and run again"
    )
    assert str(caught.value) == expected
    assert (caught.value.name, caught.value.directory) == ("model.onnx", str(directory))


@pytest.mark.fault
def test_a_missing_or_shortened_file_is_named(tmp_path: Path) -> None:
    reference = _published(tmp_path)
    path = Path(reference.uri) / "model.onnx"
    path.write_bytes(b"m" * 7)
    with pytest.raises(ObjectCorruptedError, match=r"model\.onnx .*it has 7 bytes instead of 1,000"):
        Workspace(tmp_path).fetch(reference)
    path.unlink()
    with pytest.raises(ObjectCorruptedError, match=r"model\.onnx .*it is missing"):
        Workspace(tmp_path).fetch(reference)


def test_a_directory_without_a_manifest_does_not_exist_and_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "steps" / "train" / "k1").mkdir(parents=True)
    (tmp_path / "steps" / "train" / "k1" / "half").write_text("half")
    assert Workspace(tmp_path).find("train", "k1") is None
    reference = _published(tmp_path)
    assert sorted(path.name for path in Path(reference.uri).iterdir()) == ["manifest.json", "model.onnx"]


@pytest.mark.attack
@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    reference = _published(tmp_path)
    manifest = Path(reference.uri) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("model.onnx", name))
    with pytest.raises(CorruptedError, match=r"manifest\.json is not a Manifest: files: .*cannot name something here"):
        Workspace(tmp_path).fetch(reference)


def test_a_large_file_is_read_once_per_process(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20) * 64)
    time.sleep(0.1)
    started_s = time.monotonic()
    first = digest_file(path)
    first_s = time.monotonic() - started_s
    started_s = time.monotonic()
    assert digest_file(path) == first
    assert time.monotonic() - started_s < first_s / 5
    with path.open("r+b") as file:
        file.write(b"other")
    assert digest_file(path) != first


def test_equal_content_has_an_equal_digest_wherever_it_lies(tmp_path: Path) -> None:
    first, second = _published(tmp_path / "a"), _published(tmp_path / "b")
    assert first.digest == second.digest
    assert Manifest.read(Path(first.uri) / "manifest.json").size_bytes == 1000
