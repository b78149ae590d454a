"""A job from its creation to its end on a real cluster, and what can come between."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import urllib3

from launched_jobs import ALL_KINDS, Ground
from windlass.cluster import launcher
from windlass.cluster.errors import (
    DeadlineExceededError,
    EvictedError,
    ImagePullError,
    JobGoneError,
    JobRefusedError,
    NoOperatorError,
    OutOfMemoryError,
    PodFailedError,
)
from windlass.cluster.jobs import EmptyDir, Owner, Resources
from windlass.cluster.kinds import PYTORCHJOB
from windlass.cluster.launcher import find_owner
from windlass.cluster.status import JobState

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

both_kinds = pytest.mark.parametrize("kind", ALL_KINDS)
pytorchjob_only = pytest.mark.parametrize("kind", ["pytorchjob"])
COUNT = "i=0; while [ $i -lt 6 ]; do i=$((i+1)); echo $i; sleep 0.5; done"
A_MINUTE = 'trap "exit 9" TERM; i=0; while [ $i -lt 300 ]; do i=$((i+1)); sleep 0.2; done'
ENDS_SLOWLY = A_MINUTE.replace("exit 9", "sleep 3; exit 9")


@both_kinds
def test_a_job_runs_to_its_end_and_shows_rank_0_line_by_line(ground: Ground) -> None:
    ground.run(ground.job(f"echo rank $RANK of $PET_NNODES, $PET_NPROC_PER_NODE each; {COUNT}", processes_per_worker=3))
    assert ground.record.lines == ["rank 0 of 2, 3 each", "1", "2", "3", "4", "5", "6"]
    assert ground.record.reports[-1].state is JobState.SUCCEEDED
    assert "2 of 2 pods run" in ground.record.texts
    assert all(before != after for before, after in pairwise(ground.record.reports))


@pytorchjob_only
def test_a_pod_can_write_to_tmp_and_nowhere_else_and_has_no_token(ground: Ground) -> None:
    ground.run(ground.job("echo x > /tmp/x && cat /tmp/x; touch /x 2>&1; ls /var/run/secrets 2>&1; id -u"))
    assert ground.record.lines[0] == "x"
    assert "Read-only file system" in ground.record.lines[1]
    assert "No such file" in ground.record.lines[2]
    assert ground.record.lines[3] == "10001"


@both_kinds
def test_a_killed_worker_is_started_again_and_that_is_said(ground: Ground) -> None:
    def kill() -> None:
        from kubernetes import client
        from kubernetes.stream import stream

        core = client.CoreV1Api(client.ApiClient(ground.api.configuration))  # stream() changes the client that it gets
        where = {"name": ground.pod(1), "namespace": ground.namespace, "container": ground.launcher().kind.container}
        executing = stream(
            core.connect_get_namespaced_pod_exec, **where, command=["kill", "1"], stderr=True, _preload_content=False
        )
        executing.run_forever(timeout=10)
        executing.sock.shutdown()  # close() leaves the socket of a connection that the server has ended

    ground.record.on_text["2 of 2 pods run"] = kill
    again = f"test -e /tmp/before && exit 0; touch /tmp/before; {A_MINUTE}"
    ground.run(ground.job(f"test $RANK = 0 && {{ {COUNT}; exit 0; }}; {again}"))
    assert ground.record.lines == ["1", "2", "3", "4", "5", "6"]
    assert "rank 1 ended with exit code 9" in ground.record.texts
    assert ("restarted 1 of 3" if ground.kind == "pytorchjob" else "restarted 1 time") in ground.record.texts


def test_the_log_goes_on_when_rank_0_itself_is_started_again(ground: Ground) -> None:
    ground.run(ground.job("test -e /tmp/before && { echo second; exit 0; }; touch /tmp/before; echo first; exit 1"))
    assert ground.record.lines == ["first", "second"]


def test_a_deleted_pod_is_replaced_and_the_job_ends_well(ground: Ground) -> None:
    def delete() -> None:
        from kubernetes import client

        client.CoreV1Api(ground.api).delete_namespaced_pod(ground.pod(1), ground.namespace, grace_period_seconds=0)

    ground.record.on_text["2 of 2 pods run"] = delete
    ground.run(ground.job(COUNT))
    assert ground.record.lines == ["1", "2", "3", "4", "5", "6"]
    assert ground.record.reports[-1].state is JobState.SUCCEEDED


def test_a_failed_job_tells_the_first_rank_that_failed_with_its_traceback(ground: Ground) -> None:
    traceback = r'printf "Traceback (most recent call last):\n  File train.py\nValueError: boom\n"; exit 3'
    with pytest.raises(PodFailedError, match="ValueError: boom") as caught:
        ground.run(ground.job(f"test $RANK = 1 && {{ echo start; {traceback}; }}; sleep 3; exit 1", restarts=1))
    assert caught.value.failure.rank == 1
    assert caught.value.failure.exit_code == 3
    assert caught.value.restarts == 1
    assert caught.value.failure.log_tail.splitlines()[0] == "Traceback (most recent call last):"


@pytorchjob_only
def test_a_job_that_has_failed_before_is_started_anew(ground: Ground) -> None:
    job = ground.job("exit 4", restarts=0)
    with pytest.raises(PodFailedError, match="exit code 4"):
        ground.run(job)
    with pytest.raises(PodFailedError, match="exit code 4"):
        ground.run(job)
    assert "replaces the PyTorchJob job: the one that is there has failed" in ground.record.texts


def test_a_running_job_with_other_settings_is_replaced_and_that_is_said(ground: Ground) -> None:
    ground.launcher().start(ground.job(A_MINUTE), ground.record.state)
    ground.run(ground.job("echo well"))
    assert (
        f"replaces the {ground.launcher().kind.name} job: the one that is there has other settings"
        in ground.record.texts
    )
    assert ground.record.lines == ["well"]


def test_a_job_that_is_deleted_by_others_ends_the_launcher_and_its_old_pods_do_not_mix_with_new_ones(
    ground: Ground,
) -> None:
    launcher = ground.launcher()
    ground.record.on_line["ready"] = lambda: launcher.delete("job", ground.namespace)
    with pytest.raises(JobGoneError):
        ground.run(ground.job(f"echo ready; {ENDS_SLOWLY}"))
    ground.run(ground.job("echo well"))
    assert ground.record.lines == ["ready", "well"]
    assert "waits until 2 pods of a job that is gone have ended" in ground.record.texts


def test_a_succeeded_job_is_not_run_twice(ground: Ground) -> None:
    job = ground.job("cat /proc/sys/kernel/random/uuid")
    ground.run(job)
    ground.run(replace(job, owner=None))
    assert ground.record.lines[0] == ground.record.lines[1]
    assert "adopted" in ground.record.texts


def test_an_image_that_does_not_exist_is_named(ground: Ground) -> None:
    image = f"localhost/none:{uuid.uuid4().hex[:6]}"
    with pytest.raises(ImagePullError, match=image) as caught:
        ground.run(ground.job("true", image=image), patience_s=3)
    assert caught.value.image == image
    assert f"image {image} cannot be pulled" in ground.record.texts
    assert ground.jobs() == []


@both_kinds
def test_a_rank_over_its_memory_limit_is_reported_with_the_limit(ground: Ground) -> None:
    eat = "x=$(head -c 200m /dev/zero | tr '\\0' a)"
    with pytest.raises(OutOfMemoryError, match=r"its limit is 16Mi .*raise resources.memory") as caught:
        ground.run(ground.job(f"test $RANK = 1 && {{ echo eats; {eat}; }}; sleep 20", restarts=0))
    assert caught.value.failure.rank == 1
    assert caught.value.failure.reason == "OOMKilled"


@pytorchjob_only
def test_a_pod_that_the_node_throws_out_is_told_with_what_the_node_says(ground: Ground) -> None:
    fill = f"test $RANK = 1 && head -c 8m /dev/zero > /scratch/x; {A_MINUTE}"
    with pytest.raises(EvictedError, match=r"rank 1 .*evicted: .*exceeds the limit.*; run it again") as caught:
        ground.run(ground.job(fill, restarts=0, volumes=(EmptyDir("/scratch", size="1Mi"),)))
    assert caught.value.failure.reason == "Evicted"


@pytest.fixture
def priority_class(api: ApiClient) -> Iterator[str]:
    from kubernetes import client

    scheduling, name = client.SchedulingV1Api(api), f"windlass-test-{uuid.uuid4().hex[:8]}"
    scheduling.create_priority_class({"metadata": {"name": name}, "value": 7, "preemptionPolicy": "Never"})
    yield name
    scheduling.delete_priority_class(name)


@pytorchjob_only
def test_every_pod_of_a_job_has_its_priority_class(ground: Ground, priority_class: str) -> None:
    from kubernetes import client

    ground.run(ground.job("true", priority_class=priority_class))
    pods = client.CoreV1Api(ground.api).list_namespaced_pod(ground.namespace).items
    assert [(pod.spec.priority_class_name, pod.spec.priority) for pod in pods] == [(priority_class, 7)] * 2


@pytorchjob_only
def test_a_priority_class_that_is_not_there_is_named(ground: Ground) -> None:
    with pytest.raises(JobRefusedError, match="no PriorityClass with name absent was found"):
        ground.run(ground.job("true", priority_class="absent"), patience_s=3)


def test_a_full_quota_is_named_while_rank_0_goes_on_and_then_ends_the_job(ground: Ground) -> None:
    from kubernetes import client

    quota = {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}}
    client.CoreV1Api(ground.api).create_namespaced_resource_quota(ground.namespace, quota)
    with pytest.raises(JobRefusedError, match=r"exceeded quota: full"):
        ground.run(ground.job(f"echo alone; {A_MINUTE}"), patience_s=10)
    assert "pods are refused" in ground.record.texts
    assert ground.record.lines == ["alone"]
    assert ground.jobs() == []


def test_a_job_that_no_node_has_room_for_says_what_is_short(ground: Ground) -> None:
    launcher = ground.launcher()
    ground.record.on_text["Insufficient cpu"] = lambda: launcher.delete("job", ground.namespace)
    with pytest.raises(JobGoneError):
        ground.run(ground.job("true", resources=Resources("1000", "16Mi")))
    assert "unschedulable" in ground.record.texts


def test_an_image_that_runs_as_root_waits_and_says_so(ground: Ground) -> None:
    launcher = ground.launcher()
    ground.record.on_text["runAsNonRoot"] = lambda: launcher.delete("job", ground.namespace)
    with pytest.raises(JobGoneError):
        ground.run(ground.job("true", user_id=None))


@both_kinds
def test_a_job_ends_at_its_deadline(ground: Ground) -> None:
    with pytest.raises(DeadlineExceededError, match="its deadline of 6 s"):
        ground.run(ground.job(A_MINUTE, deadline_s=6))


@both_kinds
def test_a_suspended_job_stops_its_pods_and_a_resumed_one_goes_on(ground: Ground) -> None:
    launcher = ground.launcher()
    ground.record.on_line["ready"] = lambda: launcher.suspend("job", ground.namespace)
    ground.record.on_text["suspended"] = lambda: launcher.resume("job", ground.namespace)
    ground.run(ground.job("echo ready; sleep 4; echo done"))
    assert ground.record.lines[-2:] == ["ready", "done"]
    assert JobState.SUSPENDED in [report.state for report in ground.record.reports]


def test_the_owner_of_a_job_is_the_one_that_controls_the_pod_and_takes_the_job_with_it(ground: Ground) -> None:
    owner = _a_batch_job(ground)
    launcher = ground.launcher()

    def delete_owner() -> None:
        from kubernetes import client

        client.BatchV1Api(ground.api).delete_namespaced_job(
            owner.name, ground.namespace, propagation_policy="Background"
        )

    ground.record.on_line["ready"] = delete_owner
    with pytest.raises(JobGoneError):
        launcher.run(ground.job(f"echo ready; {A_MINUTE}", owner=owner), ground.record.log, ground.record.state)


def _a_batch_job(ground: Ground) -> Owner:
    from kubernetes import client

    pod = ground.job("sleep 60")
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "step",
        "image": pod.image,
        "command": list(pod.command),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {"restartPolicy": "Never", "securityContext": security, "containers": [container]}
    body = {"metadata": {"name": "run"}, "spec": {"template": {"spec": spec}}}
    client.BatchV1Api(ground.api).create_namespaced_job(ground.namespace, body)
    core = client.CoreV1Api(ground.api)
    while not (pods := core.list_namespaced_pod(ground.namespace, label_selector="job-name=run").items):
        pass
    owner = find_owner(ground.api, ground.namespace, pods[0].metadata.name)
    assert owner is not None
    assert (owner.api_version, owner.kind, owner.name) == ("batch/v1", "Job", "run")
    return owner


@pytorchjob_only
def test_a_cluster_without_an_operator_says_what_to_install(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = replace(PYTORCHJOB, group="nothing.example.org")
    monkeypatch.setitem(launcher._KINDS, "pytorchjob", (nothing,))
    with pytest.raises(NoOperatorError, match="install Kubeflow's Training Operator"):
        ground.launcher().run(ground.job("true"), ground.record.log, ground.record.state)


def test_urllib3_can_cut_off_what_another_thread_reads() -> None:
    """The watches' end depends on it; it came with urllib3 2.3."""
    assert hasattr(urllib3.HTTPResponse, "shutdown")
