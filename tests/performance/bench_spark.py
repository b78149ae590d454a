"""Prepare on Spark against DuckDB: `.venv-spark/bin/python tests/performance/bench_spark.py`.

Both on the same cores in one run, each in a process of its own, with the table of `bench_prepare.py`; the datasets have
to be equal. Spark's time is given with and without the start of its session, which does not grow with the table.
Writes `bench-results/spark.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_prepare import THREADS, generate
from results import write_results

MEMORY_LIMIT_BYTES = 4 * 10**9
ENGINES = ("duckdb", "spark")


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
        "from windlass.data.spark.session import local_settings, spark_session\n"
        "settings = local_settings(Path(tempfile.mkdtemp()), threads=2, memory_limit_bytes=4 * 10**9)\n"
        "started_s = time.monotonic()\n"
        "with spark_session(settings) as session: session.range(1).count()\n"
        "print(time.monotonic() - started_s)"
    )
    reply = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    return float(reply.stdout)


def measure(engine: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", engine, "--path", str(path)]
    reply = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(reply.stdout.splitlines()[-1])
    return result


def compare(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "table.csv"
        generate(path, rows)
        found: dict[str, Any] = {"rows": rows, "csv_bytes": path.stat().st_size}
        found |= {engine: measure(engine, path) for engine in ENGINES}
    made = [found[engine].pop("made") for engine in ENGINES]
    if made[0] != made[1]:
        raise SystemExit("the two engines did not make the same dataset")
    found["ratio"] = found["spark"]["seconds"] / found["duckdb"]["seconds"]
    found["ratio_without_session"] = (found["spark"]["seconds"] - found["spark"]["session_seconds"]) / found["duckdb"][
        "seconds"
    ]
    return found


def report(found: dict[str, Any]) -> str:
    lines = [f"{found['rows']:,} rows, {found['csv_bytes'] / 1e6:,.0f} MB of CSV, {THREADS} threads, equal datasets"]
    lines.append(f"{'':12}{'seconds':>10}")
    lines += [f"{engine:12}{found[engine]['seconds']:>10.1f}" for engine in ENGINES]
    lines.append(
        f"Spark takes {found['ratio']:.2f} times as long as DuckDB, {found['ratio_without_session']:.2f} times without "
        f"its session's {found['spark']['session_seconds']:.1f} s"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--only", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        run_only(arguments.only, arguments.path)
        return
    found = compare(arguments.rows)
    print(report(found))
    write_results("spark", found)


if __name__ == "__main__":
    main()
