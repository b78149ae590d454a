"""Recipes on Spark with their tables, for tests in a cluster, and the pods that such a run makes."""

# ruff: noqa: S311 - random tables, no secrets

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pyarrow.parquet as pq

from cluster_installation import Installation
from hard_tables import csv_text, json_lines, nasty_rows, typed_table

ON_DUCKDB = ("--set", "data.engine=duckdb")
ROWS_ARE_READ = '"name": "prepare: reading rows", "done"'
"""In the events, from the moment at which executors work."""
EXECUTORS = "windlass.io/part=executor"
DRIVERS = "windlass.io/step=prepare,batch.kubernetes.io/job-name"
_LARGE_ROWS = 300_000
MALFORMED_ROW = _LARGE_ROWS // 2
_FILES, _ROWS_OF_FILE = 4, 750
_GONE_WITHIN_S = 60
_RECIPE = """\
name: hard
task: tabular-classification
data: {data}
model: {{architecture: linear}}
train: {{epochs: 2, global_batch_size: 128, num_workers: 2}}
compress: {{candidates: [int8]}}
evaluate: {{latency_seconds: 0.05, bootstrap: 20, analysis: {{rows: 0}}}}
resources: {{cluster: {{worker: {{cpu: 0.1, memory: 1GB}}, step: {{cpu: 0.1, memory: 2.6GB}}}}}}
"""


def write_recipe(directory: Path, source: str, **data: object) -> None:
    """`recipe.yaml`, on two executors, with these settings of its data."""
    spark = {"engine": "spark", "executors": 2, "executor_memory": "1.5GB"}
    settings = {"source": source, "target": "y", **spark, **data}
    (directory / "recipe.yaml").write_text(_RECIPE.format(data=json.dumps(settings)))


def write_hard_csv(directory: Path) -> None:
    """Four files of quotes, line breaks, unicode, leading zeros and numbers in mixed forms, and their recipe."""
    for number in range(_FILES):
        rows = nasty_rows(random.Random(number), _ROWS_OF_FILE)
        _file(directory, f"{number}.csv").write_text(csv_text(rows), encoding="utf-8")
    write_recipe(directory, "table", columns={"mixed": "number", "code": "category"})


def write_hard_parquet(directory: Path) -> None:
    """Four files of decimals, doubles of every kind and times before 1970, to be divided by group."""
    for number in range(_FILES):
        pq.write_table(typed_table(random.Random(number), _ROWS_OF_FILE), _file(directory, f"{number}.parquet"))
    write_recipe(directory, "table", split={"group": "day"}, bad_rows="drop")


def write_hard_json_lines(directory: Path) -> None:
    """Four files of values of mixed types, to be divided by time."""
    for number in range(_FILES):
        text = json_lines(random.Random(number), _ROWS_OF_FILE)
        _file(directory, f"{number}.jsonl").write_text(text, encoding="utf-8")
    write_recipe(directory, "table", split={"time": "when"})


def _file(directory: Path, name: str) -> Path:
    (directory / "table").mkdir(exist_ok=True)
    return directory / "table" / name


def write_large_table(directory: Path, *, malformed: int | None = None) -> None:
    """One file of several parts; the line `malformed`, counted from 1, has a value too many."""
    draw = random.Random(11)
    names = [f"k{number}" for number in range(20)]
    with (directory / "large.csv").open("w") as file:
        file.write(",".join(["n", *names, "y"]) + "\n")
        for number in range(_LARGE_ROWS):
            more = "one,too,many," if number + 2 == malformed else ""
            letters = ",".join(draw.choices("abcdefgh", k=20))
            file.write(f"{number * 7919 % 1000003},{letters},{more}{'no' if number % 3 else 'yes'}\n")
    write_recipe(directory, "large.csv")


def pods(installation: Installation, label: str) -> list[str]:
    found = installation.kubectl("get", "pods", "-l", label, "-o", "name").stdout.split()
    return [name.removeprefix("pod/") for name in found]


def assert_nothing_is_left(installation: Installation) -> None:
    """Of drivers and executors, once the cluster had time to end them."""
    deadline_s = time.monotonic() + _GONE_WITHIN_S
    while left := [*pods(installation, EXECUTORS), *pods(installation, DRIVERS)]:
        assert time.monotonic() < deadline_s, f"still there: {left}"
        time.sleep(1)
