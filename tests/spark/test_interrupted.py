from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]

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


@contextmanager
def driver_at_work(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver whose tasks read rows; at its end it has failed and left no process."""
    path = directory / "a.csv"
    path.write_text("size,kind,y\n" + "".join(f"{i % 901}.{i},{'abc'[i % 3]},{i % 2}\n" for i in range(1_000_000)))
    command = [sys.executable, "-c", PROGRAM, str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as driver:
        assert driver.stderr is not None
        for line in driver.stderr:
            if "reading rows" in line and len(processes_of(driver.pid)) >= LEAST_PROCESSES:
                break
        yield driver
        assert driver.wait(30) != 0
    deadline_s = time.monotonic() + 30
    while processes_of(driver.pid) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert processes_of(driver.pid) == []


def said_by(driver: subprocess.Popen[str]) -> list[str]:
    assert driver.stderr is not None
    return driver.stderr.read().splitlines()


def left_nothing(directory: Path) -> bool:
    names = sorted(entry.name for entry in directory.iterdir())
    return names == ["a.csv", "output"] and list((directory / "output").iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_leaves_no_process_and_ends_soon(tmp_path: Path, how: signal.Signals) -> None:
    with driver_at_work(tmp_path) as driver:
        driver.send_signal(how)
        said_by(driver)
    assert how == signal.SIGKILL or left_nothing(tmp_path)


def test_a_driver_whose_java_is_killed_says_what_it_may_lack_and_leaves_nothing(tmp_path: Path) -> None:
    with driver_at_work(tmp_path) as driver:
        (java,) = [pid for pid in processes_of(driver.pid) if Path(f"/proc/{pid}/comm").read_text().strip() == "java"]
        os.kill(java, signal.SIGKILL)
        said = said_by(driver)
    assert "its Java process has ended (status -9)" in said[-1]
    assert "raise resources.memory" in said[-1]
    assert left_nothing(tmp_path)
