"""A Spark session, started from one description of where its tasks run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import InvalidInputError, MissingExtraError, WindlassError

if TYPE_CHECKING:
    from pyspark import SparkContext

LEAST_JAVA = 17
_MEBIBYTE = 1 << 20
LEAST_HEAP_BYTES = 512 * _MEBIBYTE
"""Spark starts with no less than 450."""
_HEAP_SHARE = 0.5
"""Of a step's memory on one machine; the rest is for the Python workers, which read and write files."""
_LOCAL_ADDRESS = "127.0.0.1"
_ENDING_S = 2.0
"""From a connection that breaks to the end of the process that broke it."""
FIRST_COMPILER = "-XX:TieredStopAtLevel=1"
"""Java's second compiler takes 20 CPU seconds of each session, and wins them back from 4 million rows on."""
_CONF = {
    "spark.app.name": "windlass",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    # What is moved is blocks of rows, compressed already; a task hands over several of a bucket together.
    "spark.shuffle.compress": "false",
    "spark.kryoserializer.buffer.max": "512m",
    "spark.authenticate": "true",
}


class NoJavaError(InvalidInputError):
    """Spark needs a Java runtime, and there is none."""

    def __init__(self) -> None:
        super().__init__(
            f"data.engine: spark needs Java {LEAST_JAVA} or newer, and there is no `java`; install one (Debian: "
            f"apt-get install openjdk-{LEAST_JAVA}-jre-headless; macOS: brew install openjdk@{LEAST_JAVA}) or set "
            "JAVA_HOME, or use data.engine: duckdb"
        )


class OldJavaError(InvalidInputError):
    """The Java runtime is older than Spark's least."""

    def __init__(self, command: str, found: int) -> None:
        super().__init__(
            f"data.engine: spark needs Java {LEAST_JAVA} or newer, and {command} is {found}; install a newer one and "
            "set JAVA_HOME to it, or use data.engine: duckdb"
        )
        self.command, self.found = command, found


class JavaEndedError(WindlassError):
    """Spark's Java process, which the driver talks to, is gone."""

    def __init__(self, status: int) -> None:
        super().__init__(
            f"data.engine: spark: its Java process has ended (status {status}), as it does where memory is short: "
            "raise resources.memory (on a cluster resources.cluster.step.memory), else run the same command again"
        )
        self.status = status


@dataclass(frozen=True)
class SessionSettings:
    """Where a session's tasks run, and with what."""

    directory: Path
    """Of this process and its own; Spark spills there."""
    slots: int
    """Tasks that run at once, of all executors together."""
    heap_bytes: int
    """Of the Java process that this one starts: the driver's, and on one machine also that of the tasks."""
    task_memory_bytes: int
    """What the Python worker of one task may take to read files."""
    reader_memory_bytes: int
    """What this process may take to read files itself, beside the Java process that it starts."""
    reader_threads: int
    driver_options: tuple[str, ...] = ()
    """Of the Java process that this one starts, over what is common to all."""
    executor_options: tuple[str, ...] = ()
    conf: Mapping[str, str] = field(default_factory=dict)
    """Spark's own configuration of the place, over what is common to all."""
    scratch: str | None = None
    """Where tasks put shards for this process, `s3://bucket/prefix`; None: they see the disk of this process."""


def local_settings(directory: Path, *, threads: int, memory_limit_bytes: int) -> SessionSettings:
    """Everything on this machine: `threads` tasks at once, in about the memory of `memory_limit_bytes`."""
    heap_bytes = max(LEAST_HEAP_BYTES, int(memory_limit_bytes * _HEAP_SHARE))
    outside_heap_bytes = max(0, memory_limit_bytes - heap_bytes)
    conf = {
        "spark.master": f"local[{threads}]",
        "spark.driver.host": _LOCAL_ADDRESS,
        "spark.driver.bindAddress": _LOCAL_ADDRESS,
    }
    return SessionSettings(
        directory=directory,
        slots=threads,
        heap_bytes=heap_bytes,
        task_memory_bytes=outside_heap_bytes // threads,
        # it reads when no task runs
        reader_memory_bytes=outside_heap_bytes,
        reader_threads=threads,
        driver_options=("-XX:+UseParallelGC", FIRST_COMPILER),
        conf=conf,
    )


@contextlib.contextmanager
def spark_context(settings: SessionSettings) -> Iterator[SparkContext]:
    """A context that is stopped at the end, its executors with it; the Java process goes with this one.

    Raises:
        MissingExtraError: PySpark is not installed.
        NoJavaError, OldJavaError: there is no Java that Spark runs on.
        JavaEndedError: it ended while the context was used.
    """
    try:
        from py4j.protocol import Py4JError
        from pyspark import SparkConf, SparkContext
    except ImportError:
        raise MissingExtraError("data.engine: spark", "spark") from None
    check_java()
    # The context asks this variable, and no configuration, which Python its tasks run.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    conf = SparkConf().setAll([*_CONF.items(), *_conf_of(settings).items(), *settings.conf.items()])
    context = SparkContext(conf=conf)
    java: subprocess.Popen[bytes] = context._gateway.proc
    try:
        yield context
    except (Py4JError, OSError) as error:
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise JavaEndedError(java.wait(_ENDING_S)) from error
        raise
    finally:
        if java.poll() is None:
            context.stop()


def check_java() -> None:
    """Raise where Spark would die in its launcher with a line of its own shell script."""
    command = _java_command()
    if command is None:
        raise NoJavaError
    said = subprocess.run([command, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if said.returncode or version is None:
        raise NoJavaError
    if int(version[1]) < LEAST_JAVA:
        raise OldJavaError(command, int(version[1]))


def _java_command() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which(str(Path(home, "bin", "java"))) if home else shutil.which("java")


def _conf_of(settings: SessionSettings) -> dict[str, str]:
    return {
        "spark.local.dir": str(settings.directory),
        "spark.driver.memory": f"{settings.heap_bytes // _MEBIBYTE}m",
        "spark.driver.defaultJavaOptions": " ".join(settings.driver_options),
        "spark.executor.defaultJavaOptions": " ".join(settings.executor_options),
    }
