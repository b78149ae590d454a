"""Prepare against the same work in pandas, each in a process of its own: `python tests/performance/bench_prepare.py`.

The work: read a CSV as text, check every cell before it becomes a number, a fingerprint and an exact stratified split
by a hash of each row, the search for leakage, means and deviations of train, Parquet shards. Where the two differ,
pandas has the lighter part: its own 64-bit row hash instead of md5 over exact numbers. `--rows` makes a smaller run;
`--flat` also runs ours with a tenth of the rows, to compare the memory. Writes `bench-results/prepare.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import write_results

NUMBERS = 16
CATEGORIES = 3
MEMORY_LIMIT_BYTES = 10**9
THREADS = 2


def generate(path: Path, rows: int) -> None:
    """A CSV of 16 columns of numbers, 3 of categories and a class; about 183 bytes a row."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    draw = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "violet"])
    writer = None
    for start in range(0, rows, 500_000):
        count = min(500_000, rows - start)
        numbers = draw.normal(size=(NUMBERS, count)).round(6) * 10
        columns: dict[str, Any] = {f"x{i}": numbers[i].round(6) for i in range(NUMBERS)}
        columns |= {f"k{i}": words[draw.integers(0, len(words), count)] for i in range(CATEGORIES)}
        likely = numbers[0] + numbers[1] + draw.normal(size=count) * 5
        columns["y"] = np.array(["no", "yes"])[(likely > 0).astype(int)]
        table = pa.table(columns)
        writer = writer or csv.CSVWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def prepare_ours(path: Path, output: Path) -> None:
    from windlass.data.config import DataConfig
    from windlass.data.prepare import prepare
    from windlass.data.sources import ResolvedSource, SourceFile

    # reading the file for its digest is the recipe's work, not prepare's
    file = SourceFile(name=path.name, uri=str(path), size_bytes=path.stat().st_size, sha256="0" * 64)
    prepare(
        DataConfig(source=str(path), target="y"),
        modality="table",
        target_kind="class",
        source=ResolvedSource(kind="csv", files=(file,)),
        output=output,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
        threads=THREADS,
    )


def prepare_pandas(path: Path, output: Path) -> None:
    """The same steps as a person would write them in pandas."""
    import numpy as np
    import pandas as pd

    from windlass.data.leakage import SAMPLE_ROWS, suspected_leakage

    # as text, for a cell that is no number has to be found with its row
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = [name for name in frame.columns if name.startswith("x")]
    categories = [name for name in frame.columns if name.startswith("k")]
    for name in numbers:
        values = pd.to_numeric(frame[name], errors="coerce")
        misfits = np.flatnonzero(values.isna() & ~frame[name].str.lower().isin(["", "na", "nan", "null"]))
        if len(misfits):
            raise SystemExit(f"row {misfits[0] + 2}, column {name}")
        frame[name] = values
    constant = [name for name in frame.columns if frame[name].nunique(dropna=False) < 2]
    frame = frame.drop(columns=constant).dropna(subset=["y"])
    key = pd.util.hash_pandas_object(frame, index=False)
    fingerprint = hashlib.sha256(str(int(key.sum())).encode()).hexdigest()
    split = np.full(len(frame), "train", dtype=object)
    for name in frame["y"].unique():
        rows = np.flatnonzero(frame["y"] == name)
        ordered = rows[np.argsort(key.to_numpy()[rows], kind="stable")]
        test, validation = round(len(rows) * 0.15), round(len(rows) * 0.15)
        split[ordered[:test]] = "test"
        split[ordered[test : test + validation]] = "validation"
    train = frame[split == "train"]
    sample = train.sample(min(len(train), SAMPLE_ROWS), random_state=0)
    suspected_leakage({name: sample[name].tolist() for name in [*numbers, *categories]}, sample["y"].tolist(), "class")
    statistics: dict[str, Any] = {
        name: [train[name].mean(), train[name].std(ddof=0), int(train[name].isna().sum())] for name in numbers
    }
    statistics |= {name: train[name].value_counts().to_dict() for name in categories}
    frame["y"] = frame["y"].astype("category").cat.codes.astype("int64")
    for name in ("train", "validation", "test"):
        frame[split == name].to_parquet(output / f"{name}.parquet", index=False)
    (output / "dataset.json").write_text(json.dumps({"fingerprint": fingerprint, "statistics": statistics}))


def measure(who: str, path: Path) -> dict[str, float]:
    """Run one of the two in a process of its own.

    Returns:
        `seconds` without the interpreter's start and imports, `cpu_seconds`, and `peak_bytes` of resident memory.
    """
    command = [sys.executable, __file__, "--only", who, "--path", str(path)]
    reply = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, float] = json.loads(reply.stdout)
    return result


def run_only(who: str, path: Path) -> None:
    import duckdb  # noqa: F401
    import pandas as pd  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        output = Path(directory) / "output"
        output.mkdir()
        started_s, cpu_s = time.monotonic(), sum(os.times()[:2])
        (prepare_ours if who == "windlass" else prepare_pandas)(path, output)
        result = {"seconds": time.monotonic() - started_s, "cpu_seconds": sum(os.times()[:2]) - cpu_s}
    unit = 1 if sys.platform == "darwin" else 1024
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps(result))


def compare(rows: int, flat: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "table.csv"
        generate(path, rows)
        found: dict[str, Any] = {"rows": rows, "csv_bytes": path.stat().st_size}
        found["windlass"], found["pandas"] = measure("windlass", path), measure("pandas", path)
        if flat:
            generate(path, rows // 10)
            found["windlass, a tenth of the rows"] = measure("windlass", path)
    return found


def report(found: dict[str, Any]) -> str:
    lines = [f"{found['rows']:,} rows, {found['csv_bytes'] / 1e6:,.0f} MB of CSV, memory limit 1.0 GB, 2 threads"]
    lines.append(f"{'':32}{'seconds':>10}{'CPU s':>10}{'peak MB':>10}")
    for name, figures in found.items():
        if isinstance(figures, dict):
            row = (figures["seconds"], figures["cpu_seconds"], figures["peak_bytes"] / 1e6)
            lines.append(f"{name:32}" + "".join(f"{figure:>10.1f}" for figure in row))
    ours, theirs = found["windlass"], found["pandas"]
    lines.append(
        f"time {ours['seconds'] / theirs['seconds']:.2f} of pandas, "
        f"memory {ours['peak_bytes'] / theirs['peak_bytes']:.2f} of pandas"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000_000)
    parser.add_argument("--flat", action="store_true", help="also with a tenth of the rows")
    parser.add_argument("--only", choices=("windlass", "pandas"), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        run_only(arguments.only, arguments.path)
        return
    found = compare(arguments.rows, arguments.flat)
    print(report(found))
    write_results("prepare", found)


if __name__ == "__main__":
    main()
