"""The manifests of one job for either operator, beside their golden YAML.

`WINDLASS_TEST_WRITE_GOLDEN=1 pytest tests/windlass/cluster/test_render.py` writes them anew; read the difference.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from windlass.cluster.errors import InvalidJobError, UnsupportedSettingError
from windlass.cluster.jobs import (
    Claim,
    DistributedJob,
    EmptyDir,
    Owner,
    Resources,
    SecretVariable,
    Toleration,
)
from windlass.cluster.render import render_pytorchjob, render_trainjob

GOLDEN = Path(__file__).parent / "golden"

SMALL = DistributedJob(
    name="digits", namespace="ml", image="example.org/train:1", command=("python", "-m", "train"), workers=2
)
FULL = replace(
    SMALL,
    name="fine-tune",
    env={"WINDLASS_ROOT": "s3://bucket/prefix"},
    processes_per_worker=4,
    resources=Resources(cpu="8", memory="64Gi", gpus=4),
    volumes=(
        EmptyDir("/dev/shm", size="8Gi", in_memory=True),  # noqa: S108  (a mount path)
        EmptyDir("/scratch", size="100Gi"),
        Claim("/checkpoints", "checkpoints"),
        Claim("/data", "corpus", read_only=True),
    ),
    secrets=(
        SecretVariable("AWS_ACCESS_KEY_ID", "s3", "AWS_ACCESS_KEY_ID"),
        SecretVariable("AWS_SESSION_TOKEN", "s3", "AWS_SESSION_TOKEN", optional=True),
    ),
    node_selector={"gpu": "h100"},
    tolerations=(Toleration("nvidia.com/gpu", effect="NoSchedule"), Toleration("team", "Equal", "nlp")),
    image_pull_secrets=("registry",),
    service_account="training",
    user_id=10001,
    deadline_s=3600,
    ttl_s=600,
    restarts=2,
    labels={"app.kubernetes.io/part-of": "windlass"},
    annotations={"windlass.io/run": "digits-1"},
    owner=Owner("batch/v1", "Job", "windlass-run-1", "7e1c"),
)


def _is_golden(name: str, manifest: dict[str, Any]) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(manifest, sort_keys=False)
    if os.environ.get("WINDLASS_TEST_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_a_small_job_as_a_pytorchjob_is_the_golden_one() -> None:
    _is_golden("small-pytorchjob", render_pytorchjob(SMALL))


def test_a_small_job_as_a_trainjob_is_the_golden_one() -> None:
    _is_golden("small-trainjob", render_trainjob(SMALL))


def test_every_setting_reaches_a_pytorchjob() -> None:
    _is_golden("full-pytorchjob", render_pytorchjob(replace(FULL, priority_class="high", queue="gpus")))


def test_every_setting_that_it_has_a_field_for_reaches_a_trainjob() -> None:
    _is_golden("full-trainjob", render_trainjob(FULL, "my-runtime"))


def test_a_trainjob_refuses_what_it_has_no_field_for_and_names_it() -> None:
    with pytest.raises(UnsupportedSettingError, match=r"a TrainJob cannot set priority_class, queue: set them in its"):
        render_trainjob(replace(SMALL, priority_class="high", queue="gpus"))


def test_a_job_without_restarts_is_never_started_again() -> None:
    manifest = render_pytorchjob(replace(SMALL, restarts=0))
    assert manifest["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] == "Never"
    assert manifest["spec"]["runPolicy"]["backoffLimit"] == 0


def test_a_volume_at_tmp_takes_the_place_of_the_one_that_is_always_there() -> None:
    manifest = render_pytorchjob(replace(SMALL, volumes=(EmptyDir("/tmp", size="1Gi"),)))  # noqa: S108  (a mount path)
    pod = manifest["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "volume-0", "emptyDir": {"sizeLimit": "1Gi"}}]


def test_the_digest_tells_jobs_apart_by_what_they_do_and_not_by_who_owns_them() -> None:
    assert replace(FULL, owner=None).digest == FULL.digest
    assert replace(FULL, deadline_s=7200).digest != FULL.digest


def test_a_job_that_no_cluster_can_run_is_refused_with_all_its_mistakes() -> None:
    with pytest.raises(InvalidJobError) as caught:
        DistributedJob(
            name="Digits_1",
            namespace="ml",
            image="i",
            command=(),
            workers=0,
            user_id=0,
            env={"TOKEN": "x"},
            secrets=(SecretVariable("TOKEN", "s", "k"),),
            volumes=(EmptyDir("data"), Claim("data", "c")),
        )
    message = str(caught.value)
    for mistake in ("DNS label", "command", "workers", "root", "same variable", "absolute", "path of its own"):
        assert mistake in message


def test_a_name_that_leaves_no_room_for_the_names_of_pods_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="at most 50 characters"):
        replace(SMALL, name="a" * 51)
