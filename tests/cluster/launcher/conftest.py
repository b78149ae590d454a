"""Jobs of busybox pods on a real cluster: shell commands stand in for ranks.

Every promise is checked on PyTorchJob, some on TrainJob too; `WINDLASS_TEST_ALL_KINDS=1` checks all on both.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launched_jobs import ALL_KINDS, Ground
from windlass.cluster.launcher import KindName

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


@pytest.fixture(scope="session")
def api() -> ApiClient:
    if not Path(os.environ.get("KUBECONFIG", "")).is_file():
        pytest.skip("KUBECONFIG names no file: these tests need a cluster")
    from kubernetes import client, config

    config.load_kube_config()
    return client.ApiClient()


@pytest.fixture(params=ALL_KINDS if os.environ.get("WINDLASS_TEST_ALL_KINDS") else ALL_KINDS[:1])
def kind(request: pytest.FixtureRequest) -> KindName:
    found: KindName = request.param
    return found


@pytest.fixture
def namespace(api: ApiClient) -> Iterator[str]:
    """A namespace of the test's own, which admits only what fits Pod Security `restricted`."""
    from kubernetes import client

    core, name = client.CoreV1Api(api), f"windlass-launcher-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    yield name
    core.delete_namespace(name, grace_period_seconds=0)


@pytest.fixture
def ground(api: ApiClient, namespace: str, kind: KindName) -> Ground:
    return Ground(api, namespace, kind)
