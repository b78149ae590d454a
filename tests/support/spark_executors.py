"""Spark's executors as processes that share no disk with their driver, which is the process of the test itself."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyspark
import pytest
from kubernetes import client, config

from faulty_proxy import free_port
from installations import SPARK, installation_settings
from pods_as_processes import ADDRESS, DRIVER, PodsAsProcesses, pods_as_processes
from windlass.cluster.settings import ClusterSettings, StorageSettings
from windlass.data.spark import place
from windlass.data.spark.kubernetes import DriverPod, cluster_session

_SERVER_VARIABLE = "WINDLASS_TEST_S3_SERVER"
_START_S = 60


@contextmanager
def object_store(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server, which the usual variables name: that of WINDLASS_TEST_S3_SERVER, else moto's."""
    directory.mkdir()
    port = free_port()
    url = f"http://{ADDRESS}:{port}"
    variables = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret-key", "AWS_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ENDPOINT_URL": url}.items():
        patch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", ADDRESS, "-p", str(port)]
    if given := os.environ.get(_SERVER_VARIABLE):
        command = [*shlex.split(given), str(port), str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s:
            with suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1):
                break
            time.sleep(0.05)
        try:
            yield url
        finally:
            server.kill()


@contextmanager
def driver_in_this_process(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[PodsAsProcesses]:
    """What a pod of a cluster finds; this API has no certificate and knows the driver by another name."""
    directory.mkdir()
    java = os.environ.get("JAVA_HOME") or Path(shutil.which("java") or "").resolve().parents[1]
    with pods_as_processes(directory) as cluster:
        variables = {
            "SPARK_HOME": Path(pyspark.__file__).parent,
            "JAVA_HOME": java,
            "SPARK_LOCAL_IP": ADDRESS,
            "KUBERNETES_SERVICE_HOST": ADDRESS,
            "KUBERNETES_SERVICE_PORT": cluster.port,
        }
        for name, value in variables.items():
            patch.setenv(name, str(value))

        def without_certificate(*arguments: Any, **settings: Any) -> Any:
            session = cluster_session(*arguments, **settings)
            master = {"spark.master": session.conf["spark.master"].replace("https", "http")}
            # how soon a lost pod is noticed where no watch tells it
            polling = {"spark.kubernetes.executor.apiPollingInterval": "2s"}
            return replace(session, conf={**session.conf, **master, **polling})

        api = client.Configuration(host=f"http://{ADDRESS}:{cluster.port}")
        patch.setattr(config, "load_incluster_config", lambda: client.Configuration.set_default(api))
        patch.setattr(place, "cluster_session", without_certificate)
        patch.setattr(DriverPod, "here", classmethod(lambda cls: cls(DRIVER, ADDRESS)))
        yield cluster


def settings_of(root: str, endpoint: str) -> ClusterSettings:
    storage = StorageSettings(root=root, endpoint=endpoint, secret="store")
    return installation_settings(storage=storage, spark=SPARK)
