"""Throughput of publishing and fetching on S3 against boto3's own transfer manager, 16 workers each.

Ours is the whole operation: digests of all files, the upload, the manifest; the download, digests verified. Rounds
alternate which of the two goes first; each round has new content, and what was written before is flushed before a
clock starts. The ratio is the median of the rounds' ratios, beside the lowest and the highest.

    python tests/performance/bench_storage.py

`WINDLASS_TEST_S3_SERVER` names the server's command (called as `COMMAND PORT FOLDER`); without it moto's server runs,
which is slow enough to hide differences. Writes `bench-results/storage.json`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from results import write_results

from windlass.storage import S3Settings, Workspace
from windlass.storage._s3_settings import connect

_WORKERS = 16
_TARGET = 0.8
_BUCKET = "bench"
_CASES = {"one file of 256 MB": (1, 256_000_000), "200 files of 100 KB": (200, 100_000)}


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = os.environ.get("WINDLASS_TEST_S3_SERVER")
    moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    full = [*shlex.split(command), str(port), str(folder)] if command else moto
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(full, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _write_files(directory: Path, count: int, size_bytes: int) -> None:
    directory.mkdir()
    for number in range(count):
        (directory / f"{number:03}.bin").write_bytes(os.urandom(size_bytes))


def _seconds(action: Callable[[], object]) -> float:
    os.sync()
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


def _with_boto3(client: Any, source: Path, target: Path) -> tuple[float, float]:
    """Seconds to upload and to download a directory with boto3's transfer manager."""
    from boto3.s3.transfer import TransferConfig, create_transfer_manager

    def transfer(submit: Callable[[Any, Path], None]) -> None:
        with create_transfer_manager(client, TransferConfig(max_concurrency=_WORKERS)) as manager:
            for path in source.iterdir():
                submit(manager, path)

    target.mkdir()
    prefix = f"boto3/{source.name}"
    upload_s = _seconds(
        lambda: transfer(lambda manager, path: manager.upload(str(path), _BUCKET, f"{prefix}/{path.name}"))
    )
    download_s = _seconds(
        lambda: transfer(
            lambda manager, path: manager.download(_BUCKET, f"{prefix}/{path.name}", str(target / path.name))
        )
    )
    assert {path.name: path.stat().st_size for path in target.iterdir()} == {
        path.name: path.stat().st_size for path in source.iterdir()
    }
    return upload_s, download_s


def _with_windlass(workspace: Workspace, source: Path) -> tuple[float, float]:
    """Seconds to publish and to fetch a directory, verified."""
    upload_s = _seconds(lambda: workspace.put_input(source))
    reference = workspace.put_input(source)
    return upload_s, _seconds(lambda: workspace.fetch(reference))


def _measure(endpoint: str, folder: Path, count: int, size_bytes: int, rounds: int) -> list[dict[str, Any]]:
    settings = S3Settings(endpoint_url=endpoint, num_workers=_WORKERS)
    client = connect(settings)
    workspace = Workspace(f"s3://{_BUCKET}/windlass", folder / "local", s3=settings)
    seconds: dict[str, list[tuple[float, float]]] = {"boto3": [], "windlass": []}
    for number in range(rounds + 1):  # the first round warms up
        source = folder / f"source-{count}-{number}"
        _write_files(source, count, size_bytes)
        for name in ("boto3", "windlass") if number % 2 else ("windlass", "boto3"):
            target = workspace.local if name == "windlass" else folder / "target"
            taken = _with_boto3(client, source, target) if name == "boto3" else _with_windlass(workspace, source)
            if number:
                seconds[name].append(taken)
            shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(source)
    megabytes = count * size_bytes / 1e6
    return [
        {
            "way": way,
            **_figures(megabytes, [s[index] for s in seconds["boto3"]], [s[index] for s in seconds["windlass"]]),
        }
        for index, way in enumerate(("upload", "download"))
    ]


def _figures(megabytes: float, boto3_s: list[float], windlass_s: list[float]) -> dict[str, float]:
    """Throughput of both, and the ratio of ours to boto3's in the same round."""
    ratios = [theirs / ours for theirs, ours in zip(boto3_s, windlass_s, strict=True)]
    return {
        "boto3_mb_per_s": round(megabytes / statistics.median(boto3_s), 1),
        "windlass_mb_per_s": round(megabytes / statistics.median(windlass_s), 1),
        "ratio": round(statistics.median(ratios), 3),
        "lowest_ratio": round(min(ratios), 3),
        "highest_ratio": round(max(ratios), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret-key", "AWS_REGION": "us-east-1"}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, _server(Path(name) / "server") as endpoint:
        (Path(name) / "server").mkdir(exist_ok=True)
        connect(S3Settings(endpoint_url=endpoint)).create_bucket(Bucket=_BUCKET)
        for case, (count, size_bytes) in _CASES.items():
            measured = _measure(endpoint, Path(name), count, size_bytes, arguments.rounds)
            rows += [{"case": case, **row} for row in measured]
    print(f"{'case':22}{'way':10}{'boto3 MB/s':>12}{'windlass MB/s':>15}{'ratio':>8}{'spread':>14}  target {_TARGET}")
    for row in rows:
        spread = f"{row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f}"
        figures = f"{row['boto3_mb_per_s']:12}{row['windlass_mb_per_s']:15}{row['ratio']:8}{spread:>14}"
        print(f"{row['case']:22}{row['way']:10}{figures}  {'ok' if row['ratio'] >= _TARGET else 'MISSED'}")
    server = os.environ.get("WINDLASS_TEST_S3_SERVER", "moto")
    result = {
        "server": Path(server).name,
        "workers": _WORKERS,
        "rounds": arguments.rounds,
        "target": _TARGET,
        "rows": rows,
    }
    write_results("storage", result)
    return 0 if all(row["ratio"] >= _TARGET for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
