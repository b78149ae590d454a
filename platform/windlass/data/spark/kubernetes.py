"""Spark's own scheduler on Kubernetes: this pod is the driver, in client mode, and Spark makes its executors as pods.

It needs no operator. Executors have an account without rights and without a token, read the object store's credentials
from a Secret as every pod of ours does, and belong to the driver's pod: where that goes, they go.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from windlass.cluster.jobs import DistributedJob, Resources
from windlass.cluster.kinds import BATCHJOB
from windlass.cluster.placement import ANYWHERE, Placement, pod_fields
from windlass.cluster.render import Manifest, render_pod
from windlass.cluster.settings import ClusterSettings, SparkSettings
from windlass.data.spark.session import FIRST_COMPILER, LEAST_HEAP_BYTES, SessionSettings

_MEBIBYTE = 1 << 20
_HEAP_SHARE = 0.5
"""Of an executor's memory; the rest is for the Python workers, which read and write files, and for Java's own."""
_SMALL_HEAP = ("-XX:+UseSerialGC", "-Xms64m")
"""Java begins with little and gives it back. Blocks pass through it and few live on: one thread collects those."""
_JAVA_BYTES = 256 * _MEBIBYTE
"""Of an executor's Java process beyond its heap: code, threads, buffers of the network."""
_LABELS = {"app.kubernetes.io/managed-by": "windlass", "windlass.io/part": "executor"}
_DRIVER_LABEL = "windlass.io/driver"


@dataclass(frozen=True)
class ExecutorPods:
    """What a recipe asks of the executors."""

    count: int
    memory_bytes: int
    """The limit of each pod: heap, Python workers and all else."""
    cpu: float = 1.0
    """Cores kept free for each; it runs as many tasks at once, and at least one."""
    placement: Placement = ANYWHERE

    @property
    def slots(self) -> int:
        return max(1, int(self.cpu))

    @property
    def heap_bytes(self) -> int:
        return max(LEAST_HEAP_BYTES, int(self.memory_bytes * _HEAP_SHARE))


@dataclass(frozen=True)
class SparkCluster:
    """A cluster in which this process is a pod that may make others."""

    settings: ClusterSettings
    pods: ExecutorPods
    scratch: str
    """`s3://bucket/prefix` of this step: what tasks write before the driver takes it."""


@dataclass(frozen=True)
class DriverPod:
    """The pod in which this process runs."""

    name: str
    ip: str

    @classmethod
    def here(cls) -> Self:
        name = socket.gethostname()
        return cls(name, socket.gethostbyname(name))


def describe_executor(settings: ClusterSettings, pods: ExecutorPods, driver: DriverPod) -> DistributedJob:
    """One executor, as any pod of ours is described; Spark adds its own variables, volumes and labels."""
    spark = _spark(settings)
    return DistributedJob(
        name="windlass-executor",
        command=("python", "-m", "windlass.data.spark.executor"),
        resources=Resources(cpu=f"{pods.cpu:g}", memory=str(pods.memory_bytes)),
        labels={**_LABELS, _DRIVER_LABEL: driver.name},
        **pod_fields(
            settings,
            pods.placement,
            service_account=spark.executor_service_account,
            variables={"HOME": "/tmp"},  # noqa: S108 - an emptyDir
            image=spark,
        ),
    )


def executor_pod(settings: ClusterSettings, pods: ExecutorPods, driver: DriverPod) -> Manifest:
    """The executor's pod, from which Spark makes each."""
    return render_pod(describe_executor(settings, pods, driver))


def cluster_session(
    settings: ClusterSettings,
    pods: ExecutorPods,
    driver: DriverPod,
    directory: Path,
    *,
    memory_limit_bytes: int,
    scratch: str,
) -> SessionSettings:
    """A session whose driver is this pod.

    Args:
        directory: of this process; the executor's pod is written there.
        memory_limit_bytes: of this process and the Java process that it starts.
        scratch: where tasks put what the driver takes, `s3://bucket/prefix`.
    """
    template = directory / "executor.json"
    template.write_text(json.dumps(executor_pod(settings, pods, driver)), encoding="utf-8")
    heap_bytes = max(LEAST_HEAP_BYTES, int(memory_limit_bytes * _HEAP_SHARE))
    outside_heap_bytes = pods.memory_bytes - pods.heap_bytes - _JAVA_BYTES
    return SessionSettings(
        directory=directory,
        slots=pods.count * pods.slots,
        heap_bytes=heap_bytes,
        task_memory_bytes=max(0, outside_heap_bytes) // pods.slots,
        reader_memory_bytes=max(0, memory_limit_bytes - heap_bytes - _JAVA_BYTES),
        # the driver's pod has the cores of an executor kept free for it, however many its node has
        reader_threads=pods.slots,
        # it runs no task
        driver_options=(*_SMALL_HEAP, FIRST_COMPILER),
        executor_options=_SMALL_HEAP,
        conf=_conf(settings, pods, driver, template),
        scratch=scratch,
    )


def _conf(settings: ClusterSettings, pods: ExecutorPods, driver: DriverPod, template: Path) -> dict[str, str]:
    spark, kubernetes = _spark(settings), "spark.kubernetes"
    heap_mebibytes = pods.heap_bytes // _MEBIBYTE
    return {
        "spark.master": f"k8s://https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}",
        f"{kubernetes}.namespace": settings.namespace,
        f"{kubernetes}.container.image": spark.image,
        f"{kubernetes}.container.image.pullPolicy": pods.placement.image_pull_policy or spark.image_pull_policy,
        f"{kubernetes}.driver.pod.name": driver.name,
        f"{kubernetes}.executor.podNamePrefix": driver.name,
        f"{kubernetes}.executor.podTemplateFile": str(template),
        f"{kubernetes}.executor.podTemplateContainerName": BATCHJOB.container,
        f"{kubernetes}.executor.request.cores": f"{pods.cpu:g}",
        f"{kubernetes}.executor.deleteOnTermination": "true",
        # Executors get their configuration from the driver, and no volume is claimed: fewer rights are needed.
        f"{kubernetes}.executor.disableConfigMap": "true",
        f"{kubernetes}.driver.service.deleteOnTermination": "false",
        f"{kubernetes}.driver.ownPersistentVolumeClaim": "false",
        f"{kubernetes}.driver.reusePersistentVolumeClaim": "false",
        f"{kubernetes}.authenticate.executor.serviceAccountName": spark.executor_service_account,
        "spark.executor.instances": str(pods.count),
        "spark.executor.cores": str(pods.slots),
        "spark.executor.memory": f"{heap_mebibytes}m",
        "spark.executor.memoryOverhead": f"{pods.memory_bytes // _MEBIBYTE - heap_mebibytes}m",
        # Executors connect to the address to which the driver binds.
        "spark.driver.host": driver.ip,
        "spark.driver.bindAddress": driver.ip,
        # Beside `spark.authenticate`, without which whoever reaches a port of Spark's runs code.
        "spark.network.crypto.enabled": "true",
    }


def executors_of(driver: DriverPod) -> str:
    """The selector of its executors' pods."""
    return f"{_DRIVER_LABEL}={driver.name}"


def _spark(settings: ClusterSettings) -> SparkSettings:
    assert settings.spark is not None  # a recipe that needs it is refused before
    return settings.spark
