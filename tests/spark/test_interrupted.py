from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.spark

PROGRAM = """
import sys
from pathlib import Path
from windlass.data.config import DataConfig
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source

path = Path(sys.argv[1])
(path.parent / "output").mkdir(exist_ok=True)
prepare(
    DataConfig(source=str(path), target="y", engine="spark"), modality="table", target_kind="class",
    source=resolve_source(str(path), path.parent), output=path.parent / "output",
    memory_limit_bytes=2 * 10**9, threads=2,
)
"""

LEAST_PROCESSES = 3
"""Of a driver at work: itself, Java and a Python worker."""


def processes_of(session: int) -> list[int]:
    """Of all that a program has started: its session is theirs."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_leaves_no_process_and_ends_soon(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "a.csv"
    path.write_text("size,kind,y\n" + "".join(f"{i % 901}.{i},{'abc'[i % 3]},{i % 2}\n" for i in range(1_000_000)))
    command = [sys.executable, "-c", PROGRAM, str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as driver:
        assert driver.stderr is not None
        for line in driver.stderr:
            if "reading rows" in line and len(processes_of(driver.pid)) >= LEAST_PROCESSES:
                driver.send_signal(how)
                break
        driver.stderr.read()
        assert driver.wait(30) != 0
    deadline_s = time.monotonic() + 30
    while processes_of(driver.pid) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert processes_of(driver.pid) == []
    if how == signal.SIGINT:
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "output"]
        assert list((tmp_path / "output").iterdir()) == []
