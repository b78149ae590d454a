"""Faults 10 to 12 of the object store, where pods write to it and read from it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import truncating_proxy
from windlass.cluster.errors import PodFailedError
from windlass.cluster.jobs import Claim, DistributedJob, Resources
from windlass.cluster.launcher import Launcher
from windlass.models.spec import STEPS_NAME
from windlass.storage import Workspace

pytestmark = [pytest.mark.cluster, pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

PROXY_PORT = 7071
PRELUDE = """
import os, sys, time
from pathlib import Path
from windlass.storage import Workspace

workspace = Workspace(os.environ["ROOT"], Path("/keep" if os.path.isdir("/keep") else "/tmp/windlass"))
"""
PUBLISH = """
import socket
from urllib.parse import urlsplit

def make(directory):
    (directory / "numbers").write_bytes(bytes(range(256)) * 40)
    print("made", flush=True)
    store = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    while True:
        try:
            socket.create_connection((store.hostname, store.port), timeout=2).close()
        except OSError:
            time.sleep(3)  # connections that are open outlive the address for a moment
            return
        time.sleep(0.1)
"""
PUBLISH_AGAIN = """
def make(directory):
    raise SystemExit("made anew")
"""
ONCE = """
reference, was_there = workspace.once("train", "k1", make)
print("published", reference.digest, was_there, flush=True)
"""
RACE = """
rank = os.environ["PET_NODE_RANK"]
for round in range(8):
    workspace.write_document(f"ready/{round}/{rank}", b"x")
    while len(workspace.list_documents(f"ready/{round}/")) < 2:
        time.sleep(0.01)
    def make(directory):
        (directory / "who").write_text(rank)
    reference, was_there = workspace.once("train", f"r{round}", make)
    print("round", round, reference.digest, was_there, flush=True)
time.sleep(2)
"""


@pytest.fixture
def root(cluster: Any, bucket: str, request: pytest.FixtureRequest) -> str:
    return f"s3://{bucket}/{request.node.name[:30]}"


def job(cluster: Any, root: str, name: str, script: str, **changes: Any) -> DistributedJob:
    """One pod of our image that runs `script` with the store's address and credentials."""
    settings = cluster.settings
    given: dict[str, Any] = {
        "name": name,
        "namespace": settings.namespace,
        "image": settings.image,
        "command": ("python", "-c", script),
        "env": {**settings.storage_environment(), "ROOT": root, **changes.pop("env", {})},
        "secrets": settings.storage_credentials(),
        "resources": Resources("0.1", "500Mi"),
        "user_id": 10001,
        "restarts": 0,
    }
    return DistributedJob(**(given | changes))


def run(
    cluster: Any, described: DistributedJob, kind: str = "job", on_line: Callable[[str], object] = lambda _: None
) -> list[str]:
    """The lines of rank 0."""
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        on_line(line)

    Launcher(cluster.api, kind=kind).run(described, take, lambda _: None)  # type: ignore[arg-type]
    return lines


@contextmanager
def store_behind_a_proxy(cluster: Any, truncated: int) -> Iterator[str]:
    """The name of the pod; the Service `store` leads to it."""
    target = urlsplit(str(cluster.settings.storage.endpoint))
    name, namespace = f"store-{time.monotonic_ns() % 10**6}", cluster.settings.namespace
    command = ["python", "/server/proxy.py", str(target.hostname), str(target.port), str(PROXY_PORT), str(truncated)]
    container = {
        "name": "proxy",
        "image": cluster.settings.image,
        "command": command,
        "readinessProbe": {"tcpSocket": {"port": PROXY_PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "server", "mountPath": "/server"}],
    }
    spec = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "server", "configMap": {"name": name}}],
        "terminationGracePeriodSeconds": 0,
    }
    source = Path(truncating_proxy.__file__).read_text(encoding="utf-8")
    metadata = {"name": name, "labels": {"app": "store"}}
    cluster.core.create_namespaced_config_map(namespace, {"metadata": metadata, "data": {"proxy.py": source}})
    cluster.core.create_namespaced_pod(namespace, {"metadata": metadata, "spec": spec})
    with ExitStack() as stack:
        stack.callback(cluster.core.delete_namespaced_pod, name, namespace)
        wait_until(lambda: is_ready(cluster.core.read_namespaced_pod(name, namespace)))
        yield name


@pytest.fixture
def store_service(cluster: Any) -> Iterator[str]:
    """The address of the Service `store`, behind which nothing stands yet."""
    namespace = cluster.settings.namespace
    spec = {"selector": {"app": "store"}, "ports": [{"port": PROXY_PORT}]}
    cluster.core.create_namespaced_service(namespace, {"metadata": {"name": "store"}, "spec": spec})
    yield f"http://store.{namespace}.svc.cluster.local:{PROXY_PORT}"
    cluster.core.delete_namespaced_service("store", namespace)


def is_ready(pod: Any) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ())


def wait_until(reached: Callable[[], bool], seconds: float = 60) -> None:
    deadline_s = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.2)


@pytest.fixture
def claim(cluster: Any) -> Iterator[str]:
    """A volume that outlives the pods."""
    namespace, name = cluster.settings.namespace, f"kept-{time.monotonic_ns() % 10**6}"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    cluster.core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": name}, "spec": spec})
    yield name
    cluster.core.delete_namespaced_persistent_volume_claim(name, namespace)


def test_fault_10_a_store_that_stays_away_is_named_and_the_kept_copy_is_uploaded_by_the_next_pod(
    cluster: Any, root: str, store_service: str, claim: str
) -> None:
    place = {
        "env": {"AWS_ENDPOINT_URL": store_service, "WINDLASS_S3_RETRY_FOR": "3s"},
        "volumes": (Claim("/keep", claim),),
    }
    keeps = job(cluster, root, "keeps", PRELUDE + PUBLISH + ONCE, **place)
    with ExitStack() as store:
        store.enter_context(store_behind_a_proxy(cluster, truncated=0))
        with pytest.raises(PodFailedError) as failed:
            run(cluster, keeps, on_line=lambda line: store.close() if line == "made" else None)
    assert re.search(f"{store_service} did not answer within [0-9]+ s while", str(failed.value))
    assert "what was made is kept on this machine: run the same command again" in str(failed.value)
    with store_behind_a_proxy(cluster, truncated=0):
        lines = run(cluster, job(cluster, root, "uploads", PRELUDE + PUBLISH_AGAIN + ONCE, **place))
    _, digest, was_there = lines[-1].split()
    assert was_there == "True", "made by the pod that failed"
    found = Workspace(root).find("train", "k1")
    assert found is not None
    assert found.digest == digest


def test_fault_11_answers_that_are_cut_short_are_noticed_by_their_checksum_and_asked_for_again(
    cluster: Any, make_training: Callable[..., Any], store_service: str
) -> None:
    training = make_training(epochs=1)
    storage = cluster.settings.storage.model_copy(update={"endpoint": store_service})
    settings = cluster.settings.model_copy(update={"storage": storage})
    with store_behind_a_proxy(cluster, truncated=4) as proxy:
        training.cluster = replace(cluster, settings=settings)
        model = training.run()
        said = cluster.core.read_namespaced_pod_log(proxy, settings.namespace).splitlines()
    assert len((model / STEPS_NAME).read_text().splitlines()) == 19
    assert len(said) == 4
    assert any("/steps/prepare/" in line for line in said)
    restarts = [pod.status.container_statuses[0].restart_count for pod in training.pods()]
    assert restarts == [0, 0], "no pod had to start again for it"


def test_fault_12_of_two_pods_that_publish_one_key_at_once_exactly_one_wins_and_both_know_it(
    cluster: Any, root: str
) -> None:
    described = job(cluster, root, "race", PRELUDE + RACE, workers=2)
    run(cluster, described, "pytorchjob")
    core, namespace = cluster.core, cluster.settings.namespace
    logs = [core.read_namespaced_pod_log(f"race-worker-{rank}", namespace) for rank in range(2)]
    rounds = [[line.split()[1:] for line in log.splitlines() if line.startswith("round ")] for log in logs]
    assert [number for number, _, _ in rounds[0]] == list("01234567"), logs
    for (number, digest, was_there), (same_number, same_digest, was_there_too) in zip(*rounds, strict=True):
        assert (number, digest) == (same_number, same_digest)
        assert sorted((was_there, was_there_too)) == ["False", "True"]
