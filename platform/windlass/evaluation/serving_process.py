"""A candidate's serving processes from outside: asked by pipe, weighed by the kernel's figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import psutil

from windlass.evaluation.documents import Memory
from windlass.evaluation.errors import MeasurementError


class ServingProcess:
    """A measuring process that answers one command at a time."""

    def __init__(self, candidate: str, request: Path) -> None:
        self._candidate = candidate
        self._stderr = (request.parent / f"stderr-{os.urandom(4).hex()}").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "windlass.evaluation.worker", str(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str) -> dict[str, Any]:
        """Give a command of the worker and wait for its answer.

        Raises:
            MeasurementError: the process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            returncode = self._process.wait()
            self._stderr.seek(0)
            raise MeasurementError(self._candidate, returncode, self._stderr.read().decode(errors="replace"))
        reply: dict[str, Any] = json.loads(line)
        return reply

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def measure_memory(processes: Sequence[ServingProcess]) -> Memory:
    """Of all serving processes together, before and after the model: shared pages count once among them.

    The peak is what they hold after answering and by how much each was larger while it answered, as Linux keeps it:
    nothing is sampled, so nothing is missed. Elsewhere it is what they hold after answering.
    """
    for process in processes:
        process.ask("start")
    interpreter_bytes, _ = _memory_of(processes)
    for process in processes:
        process.ask("load")
    total_bytes, method = _memory_of(processes)
    passing_bytes = sum(_passing_bytes(process.pid) for process in processes)
    return Memory(
        total_bytes=total_bytes,
        peak_bytes=total_bytes + passing_bytes,
        interpreter_bytes=interpreter_bytes,
        method=method,
    )


def _memory_of(processes: Sequence[ServingProcess]) -> tuple[int, Literal["pss", "rss"]]:
    """The sum over the processes: PSS from Linux, RSS elsewhere, which counts shared pages in each of them."""
    rollups = [Path(f"/proc/{process.pid}/smaps_rollup") for process in processes]
    if all(rollup.is_file() for rollup in rollups):
        return sum(_kilobytes(rollup, "Pss") for rollup in rollups), "pss"
    return sum(psutil.Process(process.pid).memory_info().rss for process in processes), "rss"


def _passing_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return 0
    return max(0, _kilobytes(status, "VmHWM") - _kilobytes(status, "VmRSS"))


def _kilobytes(path: Path, name: str) -> int:
    """The bytes of a line such as `Pss:  1234 kB`."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{path} has no line {name}")
