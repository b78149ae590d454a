"""Spark's own scheduler on Kubernetes makes executors of our pod, and they work; a process stands for each pod."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyspark
import pytest

from installations import SPARK, installation_settings
from pods_as_processes import ADDRESS, DRIVER, PodsAsProcesses, pods_as_processes
from windlass.cluster.placement import Placement
from windlass.data.spark.executors import wait_for_executors
from windlass.data.spark.kubernetes import DriverPod, ExecutorPods, cluster_session
from windlass.data.spark.session import spark_context

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

MOST_EXECUTOR_BYTES = 300 * 10**6
PODS = ExecutorPods(count=2, memory_bytes=15 * 10**8, cpu=0.5, placement=Placement(node_selector={"disk": "fast"}))
SETTINGS = installation_settings(user_id=10001, spark=SPARK)


@dataclass
class Session:
    """A session on two executors that had answered a query before it was stopped."""

    cluster: PodsAsProcesses
    total: int
    idle_bytes: list[int]
    """Of each executor, before its first task."""
    exit_codes: list[int]

    @property
    def pod(self) -> dict[str, Any]:
        return next(iter(self.cluster.pods.values()))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    directory: Path = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch, pods_as_processes(directory) as cluster:
        patch.setenv("SPARK_HOME", str(Path(pyspark.__file__).parent))
        patch.setenv("JAVA_HOME", os.environ.get("JAVA_HOME") or str(_java_home()))
        patch.setenv("SPARK_LOCAL_IP", ADDRESS)
        patch.setenv("KUBERNETES_SERVICE_HOST", ADDRESS)
        patch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.port))
        driver = DriverPod(DRIVER, ADDRESS)
        settings = cluster_session(
            SETTINGS, PODS, driver, directory, memory_limit_bytes=10**9, scratch="s3://bucket/work"
        )
        # a server of a test has no certificate
        plain = {**settings.conf, "spark.master": settings.conf["spark.master"].replace("https", "http")}
        with spark_context(replace(settings, conf=plain)) as context:
            status = context._jsc.sc().statusTracker()
            wait_for_executors(PODS, lambda: len(status.getExecutorInfos()) - 1, lambda: None, patience_s=120)
            time.sleep(2)  # an executor that has just registered is still at it
            idle_bytes = [_resident_bytes(process.pid) for process in cluster.processes]
            total = context.parallelize(range(1000), 4).sum()
        yield Session(cluster, total, idle_bytes, [process.wait(60) for process in cluster.processes])


def _java_home() -> Path:
    java = shutil.which("java")
    assert java is not None
    return Path(java).resolve().parents[1]


def _resident_bytes(pid: int) -> int:
    return 1024 * int(subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True).stdout)


def test_executors_of_our_pod_register_and_run_python_with_authentication_and_encryption(session: Session) -> None:
    assert session.total == sum(range(1000)), session.cluster.logs()
    assert len(session.cluster.processes) == 2


def test_an_idle_executor_is_small(session: Session) -> None:
    assert max(session.idle_bytes) < MOST_EXECUTOR_BYTES


def test_executors_end_with_the_session(session: Session) -> None:
    assert session.exit_codes == [0, 0], session.cluster.logs()


def test_the_driver_asks_for_pods_and_for_nothing_else(session: Session) -> None:
    """A ConfigMap, a Service or a volume claim would be refused by the chart's Role."""
    pods = "/api/v1/namespaces/team/pods"
    names = {"", *(f"/{name}" for name in (DRIVER, *session.cluster.pods))}
    assert {request.split()[1].removeprefix(pods) for request in session.cluster.requests} <= names


def test_spark_keeps_what_our_pod_says_of_security_account_and_place(session: Session) -> None:
    spec, container = session.pod["spec"], session.pod["spec"]["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == SPARK.executor_service_account
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_an_executor_gets_the_resources_of_the_recipe(session: Session) -> None:
    resources = session.pod["spec"]["containers"][0]["resources"]
    assert resources["limits"]["memory"] == f"{PODS.memory_bytes >> 20}Mi"
    assert resources["requests"] == {"cpu": "0.5", "memory": f"{PODS.memory_bytes >> 20}Mi"}


def test_an_executor_belongs_to_the_drivers_pod(session: Session) -> None:
    (owner,) = session.pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", DRIVER, f"uid-of-{DRIVER}")


def test_credentials_reach_executors_by_reference_only(session: Session) -> None:
    variables = {each["name"]: each for each in session.pod["spec"]["containers"][0]["env"]}
    assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "store"
    assert "value" not in variables["AWS_SECRET_ACCESS_KEY"]
