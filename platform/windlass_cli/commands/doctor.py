"""`windlass doctor`: whether this machine can do the work, and what to do where it cannot."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import urllib.error
from collections.abc import Sequence
from pathlib import Path

import windlass
from windlass.cluster.checks import Finding
from windlass.errors import EXIT_FAILURE
from windlass.registry.redaction import redact
from windlass.registry.tracking import default_tracking_uri, sqlite_path
from windlass.schema import format_size
from windlass.storage import Workspace
from windlass.variants.engines import DeviceUnavailableError, check_device
from windlass_cli.console import print_json, stdout, table
from windlass_cli.defaults import DEFAULT_PORT
from windlass_pipelines.probe import ask_tracking_server

_EXTRAS = ("train", "pipelines", "gateway")
_FOR_GPUS = {"onnxruntime": "onnxruntime-gpu"}
"""Distributions of the same modules; only one of the two may be installed."""
_NEEDED_MEMORY_BYTES = 2 * 10**9
_NEEDED_DISK_BYTES = 2 * 10**9
_TIMEOUT_S = 5.0


def check_all(root: str, tracking_uri: str | None, *, as_json: bool) -> int:
    """Look at everything, show it, and give 1 if a problem was found."""
    local = Workspace(root).local
    checks = [
        _python(),
        *(_packages(extra) for extra in _EXTRAS),
        _memory(),
        _disk(local),
        _port(),
        _gpu(),
        _engine(),
        _pss(),
        _mlflow(tracking_uri or default_tracking_uri(local)),
    ]
    return show(checks, as_json=as_json)


def show(findings: Sequence[Finding], *, as_json: bool) -> int:
    """What was found, as a table or for machines; 1 if a problem was found, else 0."""
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [(each.name, each.status, each.found, each.action) for each in findings]
        stdout().print(table(("what", "status", "found", "what to do"), rows))
    return EXIT_FAILURE if any(each.status == "problem" for each in findings) else 0


def _python() -> Finding:
    found = (
        f"windlass {windlass.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    return Finding(name="versions", status="ok", found=found)


def _packages(extra: str) -> Finding:
    """The packages of one role, compared with the versions that this one was tested with."""
    name = f"packages: {extra}"
    action = f"pip install -U 'windlass[{extra}]'"
    try:
        from packaging.requirements import Requirement
    except ImportError:  # every role brings it
        return Finding(name=name, status="warning", found="not installed", action=action)
    wrong, found = [], []
    for text in importlib.metadata.requires("windlass") or []:
        requirement = Requirement(text)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.marker.evaluate({"extra": ""}) or requirement.name == "windlass":
            continue
        try:
            version = _installed(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
        found.append(f"{requirement.name} {version}")
    if wrong:
        return Finding(name=name, status="warning", found=", ".join(wrong), action=action)
    return Finding(name=name, status="ok", found=", ".join(found))


def _installed(name: str) -> str:
    """The version of a distribution, or of the one that is installed in its place to use a GPU."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name not in _FOR_GPUS:
            raise
        return importlib.metadata.version(_FOR_GPUS[name])


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    found = f"{format_size(total)}, {os.cpu_count()} cores"
    if total < _NEEDED_MEMORY_BYTES:
        return Finding(
            name="memory",
            status="warning",
            found=found,
            action=f"runs want {format_size(_NEEDED_MEMORY_BYTES)}; set resources.memory and train.num_workers lower",
        )
    return Finding(name="memory", status="ok", found=found)


def _disk(local: Path) -> Finding:
    existing = next(parent for parent in (local, *local.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    found = f"{format_size(free)} free at {existing}"
    if not os.access(existing, os.W_OK):
        return Finding(
            name="disk", status="problem", found=f"{existing} cannot be written", action="choose another --root"
        )
    if free < _NEEDED_DISK_BYTES:
        return Finding(name="disk", status="warning", found=found, action="make room, or choose another --root")
    return Finding(name="disk", status="ok", found=found)


def _port() -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError as error:
            return Finding(
                name="port",
                status="warning",
                found=f"{DEFAULT_PORT}: {error.strerror}",
                action="stop what listens there, or `windlass serve MODEL --port 9000`",
            )
    return Finding(name="port", status="ok", found=f"{DEFAULT_PORT} is free")


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding(name="gpu", status="ok", found="none; training and serving use the CPU")
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout.strip()
    except (subprocess.SubprocessError, OSError) as error:
        return Finding(name="gpu", status="warning", found=f"nvidia-smi: {error}", action="reinstall the NVIDIA driver")
    if _torch_version().endswith("+cpu"):
        return Finding(
            name="gpu", status="warning", found=f"{found}; torch is built for CPU", action="install torch for CUDA"
        )
    return Finding(name="gpu", status="ok", found=found)


def _engine() -> Finding:
    """Whether versions can be measured and served on a GPU; most people do not ask for it."""
    name = "serve.device"
    try:
        check_device("cuda")
    except ImportError:
        return Finding(name=name, status="ok", found="onnxruntime is not installed")
    except DeviceUnavailableError as error:
        return Finding(
            name=name, status="ok", found=f"cpu; not cuda: {error.cause}", action=f"for cuda: {error.action}"
        )
    return Finding(name=name, status="ok", found="cpu, cuda")


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _pss() -> Finding:
    if Path("/proc/self/smaps_rollup").exists():
        return Finding(name="memory figures", status="ok", found="PSS")
    return Finding(
        name="memory figures",
        status="warning",
        found="this system has no PSS",
        action="nothing: RSS is measured instead, which counts shared pages more than once",
    )


def _mlflow(tracking_uri: str) -> Finding:
    if (database := sqlite_path(tracking_uri)) is not None:
        found = str(database) if database.exists() else f"{database}, made by the first run"
        return Finding(name="mlflow", status="ok", found=found)
    if not tracking_uri.startswith(("http://", "https://")):
        return Finding(name="mlflow", status="ok", found=f"{redact(tracking_uri)}, not asked")
    try:
        ask_tracking_server(tracking_uri, _TIMEOUT_S)
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Finding(
            name="mlflow",
            status="problem",
            found=f"{redact(tracking_uri)}: {error}",
            action="start the server and its database, or correct MLFLOW_TRACKING_URI",
        )
    return Finding(name="mlflow", status="ok", found=f"{redact(tracking_uri)} answers")
