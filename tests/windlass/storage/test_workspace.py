"""What a workspace promises, on a local root and on S3."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from windlass.errors import InvalidInputError
from windlass.storage import (
    InputChangedError,
    InputNotFoundError,
    InvalidNameError,
    InvalidRootError,
    NotPublishedHereError,
    Reference,
    ReservedNameError,
    Workspace,
    WrongResultError,
)
from windlass.storage._manifest import describe_input


def _make(directory: Path) -> None:
    (directory / "deep").mkdir()
    (directory / "deep" / "weights with space+plus%.bin").write_bytes(b"w" * 1000)
    (directory / "größe.json").write_text("{}")
    (directory / "empty").touch()


def _files(directory: Path) -> dict[str, bytes]:
    paths = (path for path in directory.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def _must_not_run(directory: Path) -> None:
    raise AssertionError("made again")


def test_a_published_result_is_made_once_and_fetched_as_it_was_made(workspace: Workspace) -> None:
    first, was_there = workspace.once("train", "k1", _make)
    assert not was_there
    assert workspace.once("train", "k1", _must_not_run) == (first, True)
    assert workspace.find("train", "k1") == first
    expected = {"deep/weights with space+plus%.bin": b"w" * 1000, "größe.json": b"{}", "empty": b""}
    assert _files(workspace.fetch(first)) == expected


def test_a_failing_make_publishes_nothing_and_leaves_no_temporary_files(workspace: Workspace) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("half")
        raise RuntimeError("make failed")

    with pytest.raises(RuntimeError, match="make failed"):
        workspace.once("train", "k1", fail)
    assert workspace.find("train", "k1") is None
    assert list((workspace.local / "tmp").iterdir()) == []
    assert not workspace.once("train", "k1", _make)[1]


def test_writers_without_a_common_lock_all_take_the_result_of_one_winner(workspace: Workspace, tmp_path: Path) -> None:
    together = threading.Barrier(3)
    results: list[tuple[Reference, bool]] = []

    def publish(number: int) -> None:
        def make(directory: Path) -> None:
            (directory / "who").write_text(str(number))
            together.wait(timeout=30)

        machine = Workspace(workspace.uri, tmp_path / f"machine-{number}", s3=workspace._s3)
        results.append(machine.once("train", "k1", make))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {reference for reference, _ in results} == {workspace.find("train", "k1")}
    assert [was_there for _, was_there in results].count(False) == 1
    assert len(list(_files(workspace.fetch(results[0][0])))) == 1


def test_unfinished_work_is_kept_until_the_step_has_published(workspace: Workspace) -> None:
    (workspace.work_directory("train", "k1") / "checkpoint").touch()
    assert (workspace.work_directory("train", "k1") / "checkpoint").exists()
    workspace.once("train", "k1", _make)
    assert not (workspace.local / "work" / "train" / "k1").exists()


def test_a_second_process_waits_for_the_first_and_says_for_what(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(directory: Path) -> None:
        entered.set()
        go_on.wait(timeout=30)
        _make(directory)

    first = threading.Thread(target=workspace.once, args=("train", "k1", slow))
    first.start()
    entered.wait(timeout=30)
    threading.Timer(0.3, go_on.set).start()
    assert workspace.once("train", "k1", _must_not_run)[1]
    first.join()
    assert "waiting for another process that is making train of this run" in capfd.readouterr().err


def test_documents_are_written_read_listed_by_run_and_deleted(workspace: Workspace) -> None:
    for run in ("a", "b", "ab"):
        assert workspace.write_document(f"runs/{run}/run.json", run.encode())
    workspace.write_document("runs/a/run.json", b"again")
    assert workspace.read_document("runs/a/run.json") == b"again"
    assert workspace.read_document("runs/none/run.json") is None
    assert workspace.list_documents("runs/a/") == ["runs/a/run.json"]
    assert workspace.list_documents("runs/") == ["runs/a/run.json", "runs/ab/run.json", "runs/b/run.json"]
    assert workspace.list_documents("none/") == []
    workspace.delete_document("runs/a/run.json")
    workspace.delete_document("runs/a/run.json")
    assert workspace.list_documents("runs/a/") == []


def test_a_document_that_is_there_is_not_replaced_when_it_must_be_absent(workspace: Workspace) -> None:
    assert workspace.write_document("claim.json", b"first", if_absent=True)
    assert not workspace.write_document("claim.json", b"second", if_absent=True)
    assert workspace.read_document("claim.json") == b"first"


@pytest.mark.attack
@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a//b", "a\\b", "a\0b", "./a"])
def test_names_that_lead_elsewhere_are_refused(workspace: Workspace, name: str) -> None:
    for use in (workspace.read_document, workspace.delete_document, lambda name: workspace.write_document(name, b"")):
        with pytest.raises(InvalidNameError, match="use a relative path of plain names"):
            use(name)


def test_an_input_is_published_under_its_content_and_survives_edits(workspace: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    reference = workspace.put_input(table)
    assert reference.uri == f"{workspace.uri}/inputs/{reference.digest}"
    assert workspace.put_input(table) == reference
    table.write_text("a,b\n3,4\n")
    assert workspace.put_input(table) != reference
    assert _files(workspace.fetch(reference)) == {"table.csv": b"a,b\n1,2\n"}


def test_a_directory_is_an_input_with_the_files_that_its_links_name(workspace: Workspace, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "cat").mkdir(parents=True)
    (images / "cat" / "1.png").write_bytes(b"png")
    (images / "cat" / "2.png").symlink_to(images / "cat" / "1.png")
    assert _files(workspace.fetch(workspace.put_input(images))) == {"cat/1.png": b"png", "cat/2.png": b"png"}


def test_inputs_that_cannot_be_published_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"there is no file to publish at .*none\.csv; check the path"):
        workspace.put_input(tmp_path / "none.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputNotFoundError, match="folder"):
        workspace.put_input(tmp_path / "folder")
    (tmp_path / "folder" / "manifest.json").touch()
    with pytest.raises(ReservedNameError, match=r"folder/manifest\.json has a name that Windlass needs .* rename"):
        workspace.put_input(tmp_path / "folder")


def test_an_input_that_changes_meanwhile_is_not_published(workspace: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("before")
    manifest = describe_input(table)
    table.write_text("after!")
    with pytest.raises(InputChangedError, match=r"table\.csv changed while it was being published; run again"):
        workspace._store.publish_files(tmp_path, manifest, f"inputs/{manifest.digest}")
    assert workspace._store.find(f"inputs/{manifest.digest}") is None


def test_a_large_input_that_shrinks_meanwhile_is_not_published(workspace: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(bytes(12 << 20))
    manifest = describe_input(table)
    os.truncate(table, 6 << 20)
    with pytest.raises(InputChangedError, match=r"table\.csv changed while it was being published; run again"):
        workspace._store.publish_files(tmp_path, manifest, f"inputs/{manifest.digest}")
    assert workspace._store.find(f"inputs/{manifest.digest}") is None


def test_a_removed_result_is_gone_and_can_be_made_again(workspace: Workspace) -> None:
    reference, _ = workspace.once("train", "k1", _make)
    other, _ = workspace.once("train", "k11", _make)
    workspace.remove(reference)
    assert workspace.find("train", "k1") is None
    assert workspace.list_documents("steps/train/k1/") == []
    assert workspace.find("train", "k11") == other
    assert workspace.once("train", "k1", _make) == (reference, False)


def test_what_lies_outside_the_root_is_not_removed(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for uri in (str(outside), f"{workspace.uri}/../outside", workspace.uri):
        with pytest.raises(InvalidInputError, match=r"nothing was removed|plain names"):
            workspace.remove(Reference(uri=uri, digest="0" * 64))
    assert outside.exists()
    with pytest.raises(NotPublishedHereError, match=f"{outside} does not lie below {workspace.uri}"):
        workspace.remove(Reference(uri=str(outside), digest="0" * 64))


def test_a_reference_to_another_result_is_refused(workspace: Workspace) -> None:
    reference, _ = workspace.once("train", "k1", _make)
    with pytest.raises(WrongResultError, match="k1 holds another result than the one that was asked for"):
        workspace.fetch(Reference(uri=reference.uri, digest="0" * 64))


@pytest.mark.parametrize("root", ["gs://bucket/prefix", "s3://", "s3://Bad_Bucket/x", "S3://bucket"])
def test_a_root_that_is_not_understood_is_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRootError, match=r"is no place for results; give a local directory such as \.windlass"):
        Workspace(root, tmp_path)


def test_a_local_result_is_fetched_through_a_workspace_on_s3_and_the_other_way_round(
    workspace: Workspace, tmp_path: Path
) -> None:
    local, _ = Workspace(tmp_path / "other").once("train", "k1", _make)
    assert _files(workspace.fetch(local)) == _files(Path(local.uri))
    here, _ = workspace.once("train", "k2", _make)
    elsewhere = Workspace(tmp_path / "third", s3=workspace._s3)
    assert _files(elsewhere.fetch(here)) == _files(Path(local.uri))


def test_importing_storage_loads_no_boto3() -> None:
    command = "import sys, windlass.storage; assert 'boto3' not in sys.modules and 'botocore' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_files_are_listed_with_sizes_and_times(workspace: Workspace) -> None:
    before_s = time.time()
    workspace.once("train", "k1", _make)
    workspace.write_document("runs/r1/run.json", b"{}")
    files = {file.name.rpartition("/")[2]: file for file in workspace.list_files("steps/")}
    assert set(files) == {"weights with space+plus%.bin", "größe.json", "empty", "manifest.json"}
    assert files["weights with space+plus%.bin"].size_bytes == 1000
    assert all(abs(file.modified_s - before_s) < 60 for file in files.values())
    assert [file.name for file in workspace.list_files("runs/")] == ["runs/r1/run.json"]
    assert workspace.list_files("inputs/") == []


def test_what_was_used_since_stays_and_what_was_not_is_removed_whole(workspace: Workspace) -> None:
    reference, _ = workspace.once("train", "k1", _make)
    workspace.fetch(reference)
    assert not workspace.remove_unused("steps/train/k1", time.time() - 60)
    assert workspace.remove_unused("steps/train/k1", time.time() + 60)
    assert workspace.find("train", "k1") is None
    assert workspace.list_files("steps/") == []
    assert not list((workspace.local / "cache").glob("*"))


def test_a_result_that_is_taken_again_counts_as_used(workspace: Workspace) -> None:
    workspace.once("train", "k1", _make)
    time.sleep(1.1)  # an object store keeps whole seconds
    taken_s = time.time()
    time.sleep(1.1)
    workspace.once("train", "k1", _must_not_run)
    assert not workspace.remove_unused("steps/train/k1", taken_s)


def test_what_is_being_made_is_not_removed_and_not_waited_for(workspace: Workspace) -> None:
    def remove_meanwhile(directory: Path) -> None:
        (directory / "made").touch()
        assert not workspace.remove_unused("steps/train/k1", time.time() + 60)

    reference, _ = workspace.once("train", "k1", remove_meanwhile)
    assert workspace.find("train", "k1") == reference
