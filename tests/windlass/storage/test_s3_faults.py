"""S3 under kills, cuts, flipped bytes and lost answers; fault numbers are those of the acceptance list."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_proxy import Proxy
from windlass.errors import CorruptedError
from windlass.storage import ObjectCorruptedError, Reference, S3Settings, StorageUnreachableError, Workspace

_MEGABYTE = 1 << 20
_LARGE_BYTES = 24 * _MEGABYTE
_PUBLISHES = """
import sys, time
from pathlib import Path
from windlass.storage import S3Settings, Workspace

root, local, endpoint, text, gate = sys.argv[1:]

def make(directory):
    (directory / "who").write_text(text)
    if text == "large":
        (directory / "large").write_bytes(bytes(range(256)) * (24 * 4096))
    while gate and not Path(gate).exists():
        time.sleep(0.01)

workspace = Workspace(root, Path(local), s3=S3Settings(endpoint_url=endpoint, part_size_bytes=5 << 20, num_workers=2))
reference, was_there = workspace.once("train", "k1", make)
print(reference.digest, was_there)
"""


def _make_large(directory: Path) -> None:
    (directory / "who").write_text("large")
    (directory / "large").write_bytes(bytes(range(256)) * (24 * 4096))


def _must_not_run(directory: Path) -> None:
    raise AssertionError("made again")


def _content(directory: Path) -> dict[str, str]:
    paths = (path for path in directory.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


_LARGE = {
    "who": hashlib.sha256(b"large").hexdigest(),
    "large": hashlib.sha256(bytes(range(256)) * (24 * 4096)).hexdigest(),
}


def _publisher(root: str, local: Path, endpoint: str, text: str, gate: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PUBLISHES, root, str(local), endpoint, text, gate]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture
def outage(own_s3_server: Any) -> Iterator[tuple[str, str, Callable[[], None], Callable[[], None]]]:
    """An endpoint, a bucket, and what takes the endpoint away and brings it back.

    A server that keeps its data is killed and started again; moto forgets everything when it is killed, so there a
    proxy before it closes its port. The client sees refused connections both times.
    """
    bucket = own_s3_server.new_bucket()
    if own_s3_server.keeps_data:
        yield own_s3_server.endpoint, bucket, own_s3_server.kill, own_s3_server.start
        return
    proxy = Proxy(own_s3_server.port)
    proxy.open()
    yield proxy.endpoint, bucket, proxy.close, proxy.open
    proxy.close()


@pytest.mark.fault
def test_fault_8_a_killed_uploader_publishes_nothing_and_its_rerun_sends_only_the_rest(
    proxied: Workspace, proxy: Any
) -> None:
    proxy.upload_rate = 4 * _MEGABYTE
    process = _publisher(proxied.uri, proxied.local, proxy.endpoint, "large")
    while proxy.bytes_up < 15 * _MEGABYTE:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert proxied.find("train", "k1") is None
    proxy.bytes_up, proxy.upload_rate = 0, None
    reference, was_there = proxied.once("train", "k1", _must_not_run)
    assert was_there, "made by the killed process"
    assert proxy.bytes_up < 20 * _MEGABYTE, "parts that had arrived were sent again"
    names = proxied.list_documents("steps/train/k1/")
    assert len(names) == 3, "no leftovers"
    other = Workspace(proxied.uri, proxied.local / "other machine", s3=proxied._s3)
    assert _content(other.fetch(reference)) == _LARGE


@pytest.mark.fault
@pytest.mark.slow
def test_fault_9_a_store_that_is_down_for_60_s_only_delays_the_upload(
    outage: tuple[str, str, Callable[[], None], Callable[[], None]], tmp_path: Path
) -> None:
    endpoint, bucket, go_down, come_back = outage
    workspace = Workspace(f"s3://{bucket}/p", tmp_path / "local", s3=S3Settings(endpoint_url=endpoint))
    workspace.write_document("before.json", b"{}")
    go_down()
    down_s = time.monotonic()
    revival = threading.Timer(60, come_back)
    revival.start()
    reference, was_there = workspace.once("train", "k1", _make_large)
    revival.join()
    assert not was_there
    assert time.monotonic() - down_s > 60
    assert _content(Workspace(workspace.uri, tmp_path / "other", s3=workspace._s3).fetch(reference)) == _LARGE


@pytest.mark.fault
def test_fault_9_a_store_that_goes_down_in_the_middle_of_an_upload_only_delays_it(
    outage: tuple[str, str, Callable[[], None], Callable[[], None]], tmp_path: Path
) -> None:
    endpoint, bucket, go_down, come_back = outage
    settings = S3Settings(endpoint_url=endpoint, part_size_bytes=5 << 20, num_workers=1)
    workspace = Workspace(f"s3://{bucket}/p", tmp_path / "local", s3=settings)

    def make_many(directory: Path) -> None:
        for number in range(150):
            (directory / f"{number}.bin").write_bytes(os.urandom(50_000))
        threading.Timer(0.3, go_down).start()
        threading.Timer(3.0, come_back).start()

    reference, _ = workspace.once("train", "k1", make_many)
    fetched = Workspace(workspace.uri, tmp_path / "other", s3=settings).fetch(reference)
    assert _content(fetched) == _content(workspace.fetch(reference))
    assert len(_content(fetched)) == 150


@pytest.mark.fault
def test_fault_10_a_store_that_stays_down_is_named_and_a_rerun_uploads_the_kept_copy(
    outage: tuple[str, str, Callable[[], None], Callable[[], None]], tmp_path: Path
) -> None:
    endpoint, bucket, go_down, come_back = outage
    settings = S3Settings(endpoint_url=endpoint, retry_for_s=1)
    workspace = Workspace(f"s3://{bucket}/p", tmp_path / "local", s3=settings)

    def make_then_go_down(directory: Path) -> None:
        _make_large(directory)
        go_down()

    expected = (
        rf"^{endpoint} did not answer within \d+ s while .* \(.*\); what was made is kept on this machine: "
        r"run the same command again when the store is back$"
    )
    with pytest.raises(StorageUnreachableError, match=expected):
        workspace.once("train", "k1", make_then_go_down)
    come_back()
    again = Workspace(f"s3://{bucket}/p", tmp_path / "local", s3=settings)
    assert again.find("train", "k1") is None
    reference, was_there = again.once("train", "k1", _must_not_run)
    assert was_there
    assert _content(again.fetch(reference)) == _LARGE


@pytest.mark.fault
@pytest.mark.parametrize("faults", [["cut"], ["flip"], ["cut", "flip", "cut", "flip"]])
def test_fault_11_truncated_and_damaged_downloads_are_noticed_and_repeated(
    proxied: Workspace, proxy: Any, faults: list[str]
) -> None:
    reference, _ = proxied.once("train", "k1", _make_large)
    other = Workspace(proxied.uri, proxied.local / "other machine", s3=proxied._s3)
    proxy.faults = list(faults)
    assert _content(other.fetch(reference)) == _LARGE
    assert proxy.faults == []


@pytest.mark.fault
def test_fault_11_a_damaged_small_file_and_document_are_repeated_too(proxied: Workspace, proxy: Any) -> None:
    def make(directory: Path) -> None:
        (directory / "small").write_bytes(b"s" * 60_000)

    reference, _ = proxied.once("train", "k1", make)
    document = b"d" * 60_000
    proxied.write_document("report.html", document)
    other = Workspace(proxied.uri, proxied.local / "other machine", s3=proxied._s3)
    proxy.faults = ["flip", "cut"]
    assert (other.fetch(reference) / "small").read_bytes() == b"s" * 60_000
    proxy.faults = ["flip", "cut"]
    assert other.read_document("report.html") == document
    assert proxy.faults == []


@pytest.mark.fault
def test_damaged_and_cut_uploads_are_refused_by_the_server_and_repeated(
    proxied: Workspace, proxy: Any, s3_server: Any
) -> None:
    if not s3_server.keeps_data:
        pytest.skip("moto does not check the signed digest of a request's body")
    proxy.upload_faults = ["flip", "cut", "flip"]
    reference, _ = proxied.once("train", "k1", _make_large)
    assert proxy.upload_faults == []
    other = Workspace(proxied.uri, proxied.local / "other machine", s3=proxied._s3)
    assert _content(other.fetch(reference)) == _LARGE


@pytest.mark.fault
def test_an_interrupted_download_goes_on_with_the_parts_that_are_missing(proxied: Workspace, proxy: Any) -> None:
    reference, _ = proxied.once("train", "k1", _make_large)
    local = proxied.local / "other machine"
    impatient = S3Settings(endpoint_url=proxy.endpoint, part_size_bytes=5 << 20, retry_for_s=0, num_workers=1)
    proxy.cut_after_bytes = proxy.bytes_down + 12 * _MEGABYTE
    with pytest.raises(StorageUnreachableError, match="while downloading"):
        Workspace(proxied.uri, local, s3=impatient).fetch(reference)
    (unfinished,) = (local / "cache").glob("*.unfinished")
    (journal,) = unfinished.with_name(f"{unfinished.name}.parts").iterdir()
    arrived = len(journal.read_text().split())
    assert 2 <= arrived < 5
    proxy.bytes_down = 0
    assert _content(Workspace(proxied.uri, local, s3=impatient).fetch(reference)) == _LARGE
    assert proxy.bytes_down < (5 - arrived) * 5 * _MEGABYTE + _MEGABYTE


@pytest.mark.fault
def test_fault_12_of_writers_on_several_machines_exactly_one_wins(
    proxied: Workspace, s3_server: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    processes = [
        _publisher(proxied.uri, tmp_path / f"machine-{number}", s3_server.endpoint, f"writer {number}", str(gate))
        for number in range(3)
    ]
    while len(list(tmp_path.glob("machine-*/tmp/*/who"))) < len(processes):
        time.sleep(0.05)
    gate.touch()
    answers = [process.communicate(timeout=120)[0].split() for process in processes]
    published = proxied.find("train", "k1")
    assert published is not None
    assert {digest for digest, _ in answers} == {published.digest}
    assert sorted(was_there for _, was_there in answers) == ["False", "True", "True"]
    left = [name for name in proxied.list_documents("steps/train/k1/") if not name.endswith("/used")]
    assert len(left) == 2, "the losers' files are cleared away"


@pytest.mark.fault
def test_fault_12_of_16_claims_at_once_exactly_one_succeeds(proxied: Workspace, s3_server: Any) -> None:
    if not s3_server.keeps_data:
        pytest.skip("moto does not make If-None-Match atomic")
    together = threading.Barrier(16)
    won: list[int] = []

    def claim(number: int) -> None:
        together.wait(timeout=60)
        if proxied.write_document("claim.json", json.dumps(number).encode(), if_absent=True):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert proxied.read_document("claim.json") == json.dumps(won[0]).encode()


@pytest.mark.fault
@pytest.mark.parametrize("lost", [b"if-none-match", b"uploadid="])
def test_a_lost_answer_does_not_make_a_writer_believe_that_it_lost(proxied: Workspace, proxy: Any, lost: bytes) -> None:
    proxy.lose_answer_to = [lost]
    reference, was_there = proxied.once("train", "k1", _make_large)
    assert proxy.lose_answer_to == []
    assert not was_there
    other = Workspace(proxied.uri, proxied.local / "other machine", s3=proxied._s3)
    assert _content(other.fetch(reference)) == _LARGE


@pytest.mark.fault
def test_the_lost_answer_to_the_completion_of_a_large_file_is_no_failure(proxied: Workspace, proxy: Any) -> None:
    proxy.lose_answer_to = [b"<completemultipartupload"]
    assert not proxied.once("train", "k1", _make_large)[1]
    assert proxy.lose_answer_to == []


@pytest.mark.fault
def test_an_object_that_was_replaced_is_refused_by_name(proxied: Workspace, s3_server: Any) -> None:
    reference, _ = proxied.once("train", "k1", _make_large)
    bucket, prefix = proxied.uri.removeprefix("s3://").split("/", 1)
    (name,) = [name for name in proxied.list_documents("steps/") if name.endswith("/who")]
    s3_server.client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"LARGE")
    other = Workspace(proxied.uri, proxied.local / "other machine", s3=proxied._s3)
    with pytest.raises(ObjectCorruptedError, match=r"k1/who is not what was published \(its SHA-256 differs in 4 down"):
        other.fetch(reference)
    proxied.delete_document(name)
    with pytest.raises(ObjectCorruptedError, match=r"k1/who is not what was published \(it is missing or too short"):
        other.fetch(reference)


def test_a_damaged_copy_on_this_machine_is_fetched_again(proxied: Workspace) -> None:
    reference, _ = proxied.once("train", "k1", _make_large)
    (proxied.fetch(reference) / "who").write_text("LARGE")
    assert _content(proxied.fetch(reference)) == _LARGE


def test_a_result_without_a_manifest_is_refused_by_name(proxied: Workspace) -> None:
    with pytest.raises(ObjectCorruptedError, match=r"k9/manifest\.json is not what was published \(it is missing"):
        proxied.fetch(Reference(uri=f"{proxied.uri}/steps/train/k9", digest="0" * 64))
    proxied.write_document("steps/train/k9/manifest.json", b"{}")
    with pytest.raises(CorruptedError, match=r"k9/manifest\.json is not a manifest of ours; delete what it lies in"):
        proxied.find("train", "k9")
