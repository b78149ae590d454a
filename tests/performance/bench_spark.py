"""Prepare on Spark against DuckDB, and Spark with more rows and more executors, each as a ratio beside its target.

`.venv-spark/bin/python tests/performance/bench_spark.py`. All on the same cores in one run, each in a process of its
own, with the table of `bench_prepare.py`; the datasets have to be equal, their statistics to 1e-9. Spark's time is
given with and without the start of its session, which does not grow with the table. Executors are processes that read
and write an object store: that of WINDLASS_TEST_S3_SERVER, called as `COMMAND PORT FOLDER`. Each is kept to one core,
as on a node whose other cores are taken; driver and object store run on any. Writes `bench-results/spark.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bench_prepare import THREADS, generate
from results import write_results

MEMORY_LIMIT_BYTES = 4 * 10**9
EXECUTOR_BYTES = 15 * 10**8
FEWER = 4
"""The small table has so many times fewer rows."""
ENGINES = ("duckdb", "spark")
TARGETS = {
    "time of Spark over DuckDB's": 3.0,
    "memory of an executor, over that with a quarter of the rows": 1.2,
    "time for four times the rows, over four times the time": 1.1,
    "time on two executors, over that on one": 0.75,
}


def run_only(engine: str, path: Path) -> None:
    """Prepare once and print the seconds and what came out."""
    from windlass.data.config import DataConfig
    from windlass.data.prepare import prepare
    from windlass.data.sources import ResolvedSource, SourceFile

    # reading the file for its digest is the recipe's work, not prepare's
    file = SourceFile(name=path.name, uri=str(path), size_bytes=path.stat().st_size, sha256="0" * 64)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        output = Path(directory) / "output"
        output.mkdir()
        started_s = time.monotonic()
        description = prepare(
            DataConfig.model_validate({"source": str(path), "target": "y", "engine": engine}),
            modality="table",
            target_kind="class",
            source=ResolvedSource(kind="csv", files=(file,)),
            output=output,
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            threads=THREADS,
        )
        seconds = time.monotonic() - started_s
    made = json.loads(description.model_dump_json(exclude={"shards"}))
    print(
        json.dumps({"seconds": seconds, "session_seconds": session_seconds() if engine == "spark" else 0, "made": made})
    )


def session_seconds() -> float:
    """How long a session takes to start and stop in a new process."""
    program = (
        "import tempfile, time; from pathlib import Path\n"
        "from windlass.data.spark.session import local_settings, spark_context\n"
        "settings = local_settings(Path(tempfile.mkdtemp()), threads=2, memory_limit_bytes=4 * 10**9)\n"
        "started_s = time.monotonic()\n"
        "with spark_context(settings) as context: context.parallelize([1]).count()\n"
        "print(time.monotonic() - started_s)"
    )
    reply = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    return float(reply.stdout)


def run_on_executors(count: int, path: Path) -> None:
    """Prepare once on executors without this process's disk, and print the seconds of the work and their memory."""
    import boto3
    import pytest

    from spark_executors import driver_in_this_process, object_store, settings_of
    from windlass import progress
    from windlass.data.config import DataConfig
    from windlass.data.prepare import prepare
    from windlass.data.sources import ResolvedSource, SourceFile
    from windlass.data.spark.kubernetes import ExecutorPods, SparkCluster

    with tempfile.TemporaryDirectory(dir=path.parent) as directory, pytest.MonkeyPatch.context() as patch:
        place, output = Path(directory), Path(directory) / "output"
        output.mkdir()
        with object_store(place / "store", patch) as endpoint, driver_in_this_process(place / "pods", patch) as cluster:
            boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket="data").upload_file(str(path), path.name)
            uri = f"s3://data/{path.name}"
            file = SourceFile(name=path.name, uri=uri, size_bytes=path.stat().st_size, sha256="0" * 64)
            pods = ExecutorPods(count=count, memory_bytes=EXECUTOR_BYTES, cpu=1)
            cluster.cores = tuple(sorted(os.sched_getaffinity(0)))
            begun_s: list[float] = []

            def note(event: dict[str, Any]) -> None:
                if event.get("name", "").startswith("prepare: "):
                    begun_s.append(event["time"])

            with progress.shown_by(note), Peak(lambda: [process.pid for process in cluster.processes]) as peak:
                prepare(
                    DataConfig.model_validate({"source": uri, "target": "y", "engine": "spark"}),
                    modality="table",
                    target_kind="class",
                    source=ResolvedSource(kind="csv", files=(file,)),
                    output=output,
                    memory_limit_bytes=MEMORY_LIMIT_BYTES,
                    threads=THREADS,
                    cluster=SparkCluster(settings_of("s3://data/root", endpoint), pods, "s3://data/work"),
                )
                seconds = time.time() - begun_s[0]
    print(json.dumps({"executors": count, "seconds": seconds, "executor_bytes": peak.most_bytes}))


class Peak:
    """The most memory (PSS) that any of some processes has had, with all that it started; looked at by a thread."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self.most_bytes, self._pids, self._ended = 0, pids, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            children = _children()
            for pid in self._pids():
                self.most_bytes = max(self.most_bytes, _tree_bytes(pid, children))


_LOOK_EVERY_S = 0.5


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found[int(stat.read_text().rpartition(")")[2].split()[1])].append(int(stat.parent.name))
    return found


def _tree_bytes(pid: int, children: Mapping[int, list[int]]) -> int:
    own_bytes = 0
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own_bytes = 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return own_bytes + sum(_tree_bytes(child, children) for child in children.get(pid, ()))


def measure(path: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *words, "--path", str(path)]
    reply = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(reply.stdout.splitlines()[-1])
    return result


def compare(rows: int) -> dict[str, Any]:
    from hard_tables import same_description

    with tempfile.TemporaryDirectory() as directory:
        path, small = Path(directory) / "table.csv", Path(directory) / "small.csv"
        generate(path, rows)
        generate(small, rows // FEWER)
        found: dict[str, Any] = {"rows": rows, "csv_bytes": path.stat().st_size}
        found |= {engine: measure(path, "--only", engine) for engine in ENGINES}
        found["executors"] = {
            "few rows": measure(small, "--executors", "2"),
            "all rows": measure(path, "--executors", "2"),
            "all rows on one": measure(path, "--executors", "1"),
        }
    made = [found[engine].pop("made") for engine in ENGINES]
    same_description(*made)
    return {**found, "ratios": ratios(found)}


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """In the order of their targets."""
    few, many, alone = found["executors"].values()
    figures = (
        found["spark"]["seconds"] / found["duckdb"]["seconds"],
        many["executor_bytes"] / few["executor_bytes"],
        many["seconds"] / (FEWER * few["seconds"]),
        many["seconds"] / alone["seconds"],
    )
    return dict(zip(TARGETS, figures, strict=True))


def report(found: dict[str, Any]) -> str:
    lines = [f"{found['rows']:,} rows, {found['csv_bytes'] / 1e6:,.0f} MB of CSV, {THREADS} threads, same datasets"]
    lines += [f"{engine:48}{found[engine]['seconds']:>8.1f} s" for engine in ENGINES]
    session_s = found["spark"]["session_seconds"]
    without = (found["spark"]["seconds"] - session_s) / found["duckdb"]["seconds"]
    lines.append(f"without its session's {session_s:.1f} s Spark takes {without:.2f} times as long as DuckDB")
    for name, each in found["executors"].items():
        label = f"{each['executors']} executors, {name}"
        lines.append(f"{label:48}{each['seconds']:>8.1f} s {each['executor_bytes'] / 1e6:>8.0f} MB each at most")
    for name, target in TARGETS.items():
        ratio = found["ratios"][name]
        lines.append(f"{name:64}{ratio:>6.2f}  at most {target:g}{'' if ratio <= target else ': missed'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--only", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--executors", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    if arguments.only:
        run_only(arguments.only, arguments.path)
        return
    if arguments.executors:
        run_on_executors(arguments.executors, arguments.path)
        return
    if "WINDLASS_TEST_S3_SERVER" not in os.environ:
        parser.error("WINDLASS_TEST_S3_SERVER has to name an S3 server: moto reads a whole object for each piece of it")
    found = compare(arguments.rows)
    print(report(found))
    write_results("spark", found)


if __name__ == "__main__":
    main()
