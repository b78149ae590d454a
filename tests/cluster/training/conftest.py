"""A namespace in which training pods run, a bucket that they reach, and trainings on digits in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cluster_installation
import windlass
from installations import installation_settings
from windlass.cluster.launcher import KindName, Launcher
from windlass.cluster.settings import ClusterSettings, StorageSettings
from windlass.data.bundle import BundleWriter
from windlass.data.description import (
    DATASET_NAME,
    IMAGE_COLUMN,
    LABEL_COLUMN,
    SPLITS,
    Column,
    DatasetDescription,
    PixelsTransform,
)
from windlass.models import make_spec
from windlass.storage import Reference, Workspace
from windlass.training.cluster import TrainingPods, describe_job, train_on_cluster
from windlass.training.config import TrainConfig
from windlass.training.documents import Training

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CoreV1Api

IMAGE = os.environ.get("WINDLASS_TEST_IMAGE", f"localhost/windlass:{windlass.__version__}-cpu")
_SECRET, _ACCOUNT = "storage", "training"


@dataclass
class Cluster:
    """What a step knows of its cluster, and what a test does to its pods."""

    api: ApiClient
    core: CoreV1Api
    settings: ClusterSettings

    def pods(self) -> list[Any]:
        return list(self.core.list_namespaced_pod(self.settings.namespace).items)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A namespace under Pod Security `restricted`, with the object store's Secret; all of it goes again."""
    if reason := cluster_installation.why_not():
        pytest.skip(reason)
    from kubernetes import client, config

    config.load_kube_config()
    api = client.ApiClient()
    core, name = client.CoreV1Api(api), f"windlass-training-{uuid.uuid4().hex[:8]}"
    keys = {key: os.environ[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    core.create_namespace({"metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    try:
        core.create_namespaced_secret(name, {"metadata": {"name": _SECRET}, "stringData": keys})
        core.create_namespaced_service_account(name, {"metadata": {"name": _ACCOUNT}})
        settings = installation_settings(
            namespace=name,
            image=IMAGE,
            storage=StorageSettings(
                root=f"s3://{name}/trial",
                endpoint=os.environ["WINDLASS_TEST_CLUSTER_S3_ENDPOINT"],
                public_endpoint=os.environ["WINDLASS_TEST_CLUSTER_S3_PUBLIC_ENDPOINT"],
                secret=_SECRET,
            ),
            training_service_account=_ACCOUNT,
        )
        yield Cluster(api, core, settings)
    finally:
        core.delete_namespace(name, grace_period_seconds=0)


@pytest.fixture(scope="session")
def bucket(cluster: Cluster) -> Iterator[str]:
    """The environment then says how this machine reaches it."""
    import boto3

    endpoint, name = cluster.settings.storage.public_endpoint, cluster.settings.namespace
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", str(endpoint))
        patch.setenv("AWS_REGION", cluster.settings.storage.region)
        made = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
        yield name
        with suppress(Exception):
            made.objects.all().delete()
            made.delete()


@dataclass
class TrainingInPods:
    """One training of digits by two workers in two pods."""

    cluster: Cluster
    workspace: Workspace
    dataset: Reference
    key: str
    config: TrainConfig
    work: Path
    kind: KindName

    def run(self, pods: TrainingPods = TrainingPods(cpu=0.25, memory_bytes=10**9)) -> Path:  # noqa: B008 - frozen
        """Train on the cluster; the directory of the published model."""
        training = Training(
            config=self.config,
            task="image-classification",
            spec=self.spec,
            module=None,
            dataset=self.dataset,
            key=self.key,
        )
        reference = train_on_cluster(
            training,
            self.workspace,
            work=self.work,
            settings=self.cluster.settings,
            pods=pods,
            owner=None,
            launcher=Launcher(self.cluster.api, kind=self.kind),
        )
        return self.workspace.fetch(reference)

    @property
    def spec(self) -> Any:
        return make_spec("cnn", {}, input_shape=(1, 8, 8), num_outputs=10)

    def pods(self) -> list[Any]:
        """Those of this training's job."""
        name = describe_job(
            self.config,
            self.workspace.uri,
            self.key,
            settings=self.cluster.settings,
            pods=TrainingPods(),
            owner=None,
        ).name
        return [pod for pod in self.cluster.pods() if pod.metadata.name.startswith(name)]

    def checkpoints(self) -> list[int]:
        """Their steps."""
        names = self.workspace.list_documents(f"work/train/{self.key}/")
        return [int(name.split("/step-")[1][:6]) for name in names if name.endswith("/checkpoint.json")]


@pytest.fixture
def make_training(cluster: Cluster, bucket: str, tmp_path: Path) -> Callable[..., TrainingInPods]:
    def make(kind: KindName = "pytorchjob", **config: Any) -> TrainingInPods:
        workspace = Workspace(f"s3://{bucket}/trial", tmp_path / "local")
        work = tmp_path / "work"
        work.mkdir()
        (tmp_path / "digits").mkdir()
        dataset = workspace.publish(f"steps/prepare/{uuid.uuid4().hex}", _digits(tmp_path / "digits"))
        settings = TrainConfig.model_validate({"num_workers": 2, "learning_rate": 5e-4, **config})
        return TrainingInPods(cluster, workspace, dataset, uuid.uuid4().hex, settings, work, kind)

    return make


def _digits(directory: Path) -> Path:
    """sklearn's digits as a bundle of images: 1,797 of 8×8×1."""
    import pyarrow as pa
    from sklearn.datasets import load_digits

    pixels_ND, labels_N = load_digits(return_X_y=True)
    order_N = np.random.default_rng(0).permutation(len(labels_N))
    pixels_ND, labels_N = (pixels_ND * 255 / 16).round().astype(np.uint8)[order_N], labels_N[order_N]
    schema = pa.schema([(IMAGE_COLUMN, pa.binary(64)), (LABEL_COLUMN, pa.int64())])
    stops = (0, 1200, 1500, len(labels_N))
    rows = {split: slice(stops[i], stops[i + 1]) for i, split in enumerate(SPLITS)}
    with BundleWriter(directory, schema) as writer:
        for split, part in rows.items():
            images = pa.array([row.tobytes() for row in pixels_ND[part]], pa.binary(64))
            writer.write(split, pa.table([images, pa.array(labels_N[part])], schema=schema))
    DatasetDescription(
        modality="images",
        target_kind="class",
        target=LABEL_COLUMN,
        columns=(Column(name=LABEL_COLUMN, type="number", role="target"),),
        class_names=tuple("0123456789"),
        image_shape=(8, 8, 1),
        rows=writer.rows,
        class_counts={split: tuple(np.bincount(labels_N[part], minlength=10).tolist()) for split, part in rows.items()},
        shards=writer.shards,
        transforms=(PixelsTransform(mean=(0.3,), std=(0.37,)),),
        fingerprint="digits",
    ).write(directory / DATASET_NAME)
    return directory
