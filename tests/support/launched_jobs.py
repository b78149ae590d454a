"""Small distributed jobs of busybox pods, and what a launcher tells of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from windlass.cluster.jobs import DistributedJob, Resources
from windlass.cluster.launcher import KindName, Launcher
from windlass.cluster.status import JobReport

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

ALL_KINDS: list[KindName] = ["pytorchjob", "trainjob"]
PRELUDE = "trap 'exit 143' TERM; RANK=$PET_NODE_RANK;"
"""The first process of a container ignores SIGTERM unless it says otherwise, and is killed after 30 s."""
IMAGE = os.environ.get("WINDLASS_TEST_BUSYBOX", "localhost/busybox:1")


@dataclass
class Record:
    """What a launcher told, in order, and what is done once when a line, or a part of a state's text, comes."""

    lines: list[str] = field(default_factory=list)
    reports: list[JobReport] = field(default_factory=list)
    on_line: dict[str, Callable[[], object]] = field(default_factory=dict)
    on_text: dict[str, Callable[[], object]] = field(default_factory=dict)

    def log(self, line: str) -> None:
        self.lines.append(line)
        if line in self.on_line:
            self.on_line.pop(line)()

    def state(self, report: JobReport) -> None:
        self.reports.append(report)
        for part in [part for part in self.on_text if part in report.text]:
            self.on_text.pop(part)()

    @property
    def texts(self) -> str:
        return "\n".join(report.text for report in self.reports)


@dataclass
class Ground:
    """Where one test runs its jobs."""

    api: ApiClient
    namespace: str
    kind: KindName
    record: Record = field(default_factory=Record)

    def job(self, script: str, **settings: Any) -> DistributedJob:
        """Two small pods that run `script`; `$RANK` is the pod's."""
        given: dict[str, Any] = {
            "name": "job",
            "namespace": self.namespace,
            "image": IMAGE,
            "command": ("sh", "-c", f"{PRELUDE} {script}"),
            "workers": 2,
            "resources": Resources("10m", "16Mi"),
            "user_id": 10001,
            "restarts": 3,
        }
        return DistributedJob(**(given | settings))

    def launcher(self, patience_s: float = 60.0) -> Launcher:
        return Launcher(self.api, kind=self.kind, patience_s=patience_s)

    def run(self, job: DistributedJob, *, patience_s: float = 60.0) -> None:
        self.launcher(patience_s).run(job, self.record.log, self.record.state)

    def jobs(self) -> list[dict[str, Any]]:
        from kubernetes import client

        kind = self.launcher().kind
        custom = client.CustomObjectsApi(self.api)
        answer = custom.list_namespaced_custom_object(kind.group, kind.version, self.namespace, kind.plural)
        items: list[dict[str, Any]] = answer["items"]
        return items

    def pod(self, rank: int) -> str:
        """The name of the pod of a rank."""
        from kubernetes import client

        selector = f"{self.launcher().kind.rank_label}={rank}"
        pods = client.CoreV1Api(self.api).list_namespaced_pod(self.namespace, label_selector=selector).items
        return str(pods[0].metadata.name)
