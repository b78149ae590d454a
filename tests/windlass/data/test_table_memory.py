from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

MEMORY_LIMIT_BYTES = 768 * 10**6
PROGRAM = """
import resource
import sys
from pathlib import Path
from windlass.data.config import DataConfig
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source

path, output, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
prepare(
    DataConfig(source=str(path), target="y"), modality="table", target_kind="number",
    source=resolve_source(str(path), path.parent), output=output, memory_limit_bytes=limit, threads=2,
)
status = Path("/proc/self/status")
if status.exists():  # getrusage would count what the process was before it became this program
    print(int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_file_larger_than_the_engines_memory_is_prepared_within_the_limit(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    path, rows = tmp_path / "large.csv", 0
    with csv.CSVWriter(path, file_schema()) as file:
        while not path.exists() or path.stat().st_size < 300 * 10**6:
            columns = draw.normal(size=(12, 200_000)) * 100
            file.write_table(pa.table([pa.array(column) for column in columns], schema=file_schema()))
            rows += 200_000
    (tmp_path / "output").mkdir()
    arguments = [str(path), str(tmp_path / "output"), str(MEMORY_LIMIT_BYTES)]
    reply = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, stdout=subprocess.PIPE)
    assert int(reply.stdout) < MEMORY_LIMIT_BYTES
    description = json.loads((tmp_path / "output" / "dataset.json").read_text())
    assert sum(description["rows"].values()) == rows
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["large.csv", "output"]


def file_schema() -> pa.Schema:
    return pa.schema([(f"x{i}", pa.float64()) for i in range(11)] + [("y", pa.float64())])
