"""The driver's configuration and its executors' pods, as they are written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from installations import SPARK, installation_settings
from windlass.cluster.jobs import Toleration
from windlass.cluster.placement import Placement
from windlass.data.spark.executor import executor_command
from windlass.data.spark.kubernetes import DriverPod, ExecutorPods, cluster_session, executors_of
from windlass.data.spark.session import SessionSettings

DRIVER = DriverPod("windlass-prepare-1-abc", "198.18.0.9")
SETTINGS = installation_settings(image_pull_secrets=("pull",), user_id=10001, spark=SPARK)
PODS = ExecutorPods(
    count=2,
    memory_bytes=4 << 30,
    cpu=1.5,
    placement=Placement(node_selector={"disk": "fast"}, tolerations=(Toleration("data", "Exists"),)),
)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionSettings:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "198.19.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return cluster_session(
        SETTINGS, PODS, DRIVER, tmp_path, memory_limit_bytes=2 * 10**9, scratch="s3://bucket/work/step"
    )


@pytest.fixture
def conf(session: SessionSettings) -> Mapping[str, str]:
    return session.conf


@pytest.fixture
def pod(conf: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(conf["spark.kubernetes.executor.podTemplateFile"]).read_text("utf-8"))
    return found


def test_ports_of_spark_say_nothing_in_clear(conf: Mapping[str, str]) -> None:
    assert conf["spark.network.crypto.enabled"] == "true"


def test_no_credential_is_in_the_configuration(conf: Mapping[str, str]) -> None:
    assert not [name for name in conf if "secret" in name.lower() or "AWS" in name]


def test_executors_connect_to_the_pods_address_and_belong_to_the_pod(conf: Mapping[str, str]) -> None:
    assert conf["spark.driver.host"] == conf["spark.driver.bindAddress"] == DRIVER.ip
    assert conf["spark.kubernetes.driver.pod.name"] == DRIVER.name


def test_heap_and_the_rest_are_the_memory_that_the_recipe_gives_an_executor(conf: Mapping[str, str]) -> None:
    parts = [int(conf[f"spark.executor.{name}"].removesuffix("m")) for name in ("memory", "memoryOverhead")]
    assert sum(parts) == 4096


def test_the_tasks_of_an_executor_share_what_its_java_process_leaves(session: SessionSettings) -> None:
    assert session.slots == PODS.count * 1
    assert session.task_memory_bytes == (4096 - 2048 - 256) << 20


def test_the_driver_reads_within_its_own_memory_and_cores_and_not_an_executors(session: SessionSettings) -> None:
    assert session.heap_bytes == 10**9
    assert session.reader_memory_bytes == 10**9 - (256 << 20)
    assert session.reader_threads == 1


def test_an_executor_reads_credentials_from_the_secret_and_has_no_token(pod: dict[str, Any]) -> None:
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "windlass-spark-executor"
    (key,) = [each for each in container["env"] if each["name"] == "AWS_SECRET_ACCESS_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "store", "key": "AWS_SECRET_ACCESS_KEY"}


def test_an_executor_fits_pod_security_restricted_on_a_read_only_root(pod: dict[str, Any]) -> None:
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_an_executor_is_placed_as_the_other_pods_of_the_run(pod: dict[str, Any]) -> None:
    assert pod["spec"]["nodeSelector"] == {"disk": "fast"}
    assert pod["spec"]["tolerations"] == [{"key": "data", "operator": "Exists"}]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]


def test_driver_and_executors_begin_with_a_small_heap(session: SessionSettings) -> None:
    assert "-Xms64m" in session.driver_options
    assert "-Xms64m" in session.executor_options


def test_executors_are_found_by_their_driver(pod: dict[str, Any]) -> None:
    label, _, value = executors_of(DRIVER).partition("=")
    assert pod["metadata"]["labels"][label] == value == DRIVER.name


def test_an_executors_command_has_the_options_in_their_order() -> None:
    options = {f"SPARK_JAVA_OPT_{number}": f"-Dn={number}" for number in (10, 2, 0)}
    said = {
        "SPARK_DRIVER_URL": "spark://driver",
        "SPARK_EXECUTOR_ID": "1",
        "SPARK_EXECUTOR_CORES": "1",
        "SPARK_APPLICATION_ID": "spark-1",
        "SPARK_EXECUTOR_POD_IP": "198.18.0.10",
        "SPARK_RESOURCE_PROFILE_ID": "0",
        "SPARK_EXECUTOR_POD_NAME": "exec-1",
    }
    places = {"JAVA_HOME": "/opt/java", "SPARK_HOME": "/opt/spark", "SPARK_EXECUTOR_MEMORY": "2048m"}
    command = executor_command({**options, **said, **places})
    assert command[:7] == [
        "/opt/java/bin/java",
        *("-Dn=0", "-Dn=2", "-Dn=10"),
        "-Xmx2048m",
        *("-cp", "/opt/spark/jars/*"),
    ]
    assert set(said.values()) <= set(command)
