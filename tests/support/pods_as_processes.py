"""Of a cluster only what Spark asks of it: an API that keeps pods, and a kubelet that starts each as a process here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DRIVER = "driver"
ADDRESS = "127.0.0.1"
_WATCH_S = 5.0
_END_S = 30.0
_KEPT_VARIABLES = ("PATH", "HOME", "JAVA_HOME", "SPARK_HOME", "PYTHONPATH")


@dataclass
class PodsAsProcesses:
    """The pods that were made, in their order, their processes, and each request as `verb /path`, such as `list …`."""

    directory: Path
    cores: tuple[int, ...] = ()
    """Each pod runs on one of them, in turn; none: all run on all of the machine's."""
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    port: int = 0
    deleted: set[str] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, pod: dict[str, Any]) -> None:
        """Run the command of the pod's container, as a kubelet would, with its variables."""
        name = pod["metadata"]["name"]
        pod["metadata"] |= {"uid": name, "namespace": "team"}
        pod["status"] = {"phase": "Running", "podIP": ADDRESS}
        self.pods[name] = pod
        (container,) = pod["spec"]["containers"]
        environment = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
        for variable in container["env"]:
            value = variable.get("value") or _reference(variable["valueFrom"], name)
            environment |= {variable["name"]: value} if value else {}
        environment |= {"SPARK_LOCAL_IP": ADDRESS, "SPARK_LOCAL_DIRS": tempfile.mkdtemp(dir=self.directory)}
        program, *arguments = container["command"]
        assert program == "python"
        with (self.directory / f"{name}.log").open("wb") as log:
            command = [sys.executable, *arguments, *container["args"]]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        if self.cores:
            # it has one thread still, from which all others will have it
            os.sched_setaffinity(process.pid, {self.cores[len(self.processes) % len(self.cores)]})
        self.processes.append(process)

    def there(self) -> list[dict[str, Any]]:
        """A pod whose process has ended stays until it is deleted."""
        for pod, process in zip(self.pods.values(), self.processes, strict=True):
            if process.poll() is not None:
                pod["status"]["phase"] = "Failed" if process.returncode else "Succeeded"
        return [pod for name, pod in self.pods.items() if name not in self.deleted]

    def verbs(self) -> set[str]:
        """What was asked of the API."""
        return {request.split()[0] for request in self.requests}

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.directory.glob("*.log")))


@contextmanager
def pods_as_processes(directory: Path) -> Iterator[PodsAsProcesses]:
    """The API on a free port of this machine; what still runs at the end is killed."""
    state = PodsAsProcesses(directory)
    with ThreadingHTTPServer((ADDRESS, 0), _handler(state)) as server:
        state.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield state
        finally:
            state.stopped.set()
            server.shutdown()
            for process in state.processes:
                process.kill()
                process.wait(_END_S)


def _reference(source: Mapping[str, Any], name: str) -> str:
    """A pod's own field, or the key of a Secret, which holds what this process's variable of that name does."""
    if "fieldRef" not in source:
        return os.environ.get(source["secretKeyRef"]["key"], "")
    return name if source["fieldRef"]["fieldPath"] == "metadata.name" else ADDRESS


def _handler(state: PodsAsProcesses) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            if "watch=true" in self.path:
                self._watch()
            elif self.path.endswith(f"/pods/{DRIVER}"):
                container = {"name": "main"}
                status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                self._answer({"metadata": _metadata(DRIVER), "spec": {"containers": [container]}, "status": status})
            else:
                self._answer({"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": state.there()})

        def do_POST(self) -> None:
            pod = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.start(pod)
            self._answer(pod, 201)

        def do_DELETE(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if name := self._name():
                state.deleted.add(name)
            self._answer({"kind": "Status", "status": "Success"})

        def _watch(self) -> None:
            """Nothing happens to pods for a while; then the watch is over, as any watch is at some time."""
            self._note()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            state.stopped.wait(_WATCH_S)
            self.close_connection = True

        def _answer(self, found: dict[str, Any], code: int = 200) -> None:
            self._note()
            body = json.dumps({"apiVersion": "v1", "kind": "Pod", **found}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _name(self) -> str:
            """Of the pod that is asked for; empty where it is all of them."""
            return self.path.partition("?")[0].partition("/pods")[2].removeprefix("/")

        def _note(self) -> None:
            all_verbs = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
            verb = self.command.lower() if self._name() else all_verbs[self.command]
            verb = "watch" if "watch=true" in self.path else verb
            state.requests.append(f"{verb} {self.path.partition('?')[0]}")

    return Handler


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": "team", "uid": f"uid-of-{name}", "labels": {}}
