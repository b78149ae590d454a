"""Runs a `DistributedJob` on a cluster and stays with it until its end.

    launcher = Launcher(ApiClient())
    launcher.run(job, on_log=print, on_state=lambda report: print(report.text))

A job is found by its name. A launcher that was killed finds its job again when it is started anew; a second launcher
joins the first. One that is told to stop (SIGTERM, Ctrl-C) takes the job down with it before it does anything else.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from windlass.cluster._rest import Backoff, Rest
from windlass.cluster._session import Session
from windlass.cluster._signals import DeleteOnSignal
from windlass.cluster.errors import ApiError, JobGoneError, JobRefusedError, NoOperatorError
from windlass.cluster.jobs import DistributedJob, Owner
from windlass.cluster.kinds import BATCHJOB, DIGEST_LABEL, PYTORCHJOB, TRAINJOB, JobKind, Resource
from windlass.cluster.render import owner_reference, render_job, render_pytorchjob, render_trainjob
from windlass.cluster.status import JobReport, JobState, state_of

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

KindName = Literal["auto", "pytorchjob", "trainjob", "job"]

_KINDS = {
    "pytorchjob": (PYTORCHJOB,),
    "trainjob": (TRAINJOB,),
    "job": (BATCHJOB,),
    "auto": (PYTORCHJOB, TRAINJOB),
}
_OWNERS = frozenset({"Job", "Workflow"})
_DELETION_S = 120.0
"""A deleted job is gone when its pods are: they have 30 s to end, by default."""


class Launcher:
    """Starts, adopts, follows, suspends and deletes the distributed jobs of one cluster.

    Args:
        api: of the kubernetes client, configured for the cluster.
        kind: which kind of job to make; `auto` takes what the cluster knows, a PyTorchJob if it knows both.
        runtime: of a TrainJob, the ClusterTrainingRuntime.
        patience_s: how long an image may fail to be pulled, or pods may be refused, before that is an error.

    Raises (all methods):
        NoOperatorError: the cluster knows no such kind of job.
        ApiError: this identity lacks a right; the message names it.
        ClusterUnreachableError: the API server is away for more than five minutes.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        kind: KindName = "auto",
        runtime: str = "torch-distributed",
        patience_s: float = 120.0,
    ) -> None:
        self._api, self._kind_name, self._runtime, self._patience_s = api, kind, runtime, patience_s
        self._rest = Rest(api)
        self._found: JobKind | None = None

    @property
    def kind(self) -> JobKind:
        """What jobs are made as; the first use asks the cluster."""
        if self._found is None:
            self._found = self._find_kind()
        return self._found

    def _find_kind(self) -> JobKind:
        kinds = _KINDS[self._kind_name]
        for kind in kinds:
            known = self._rest.find(f"/apis/{kind.api_version}") or {}
            if any(each["name"] == kind.plural for each in known.get("resources", ())):
                return kind
        raise NoOperatorError([kind.name for kind in kinds])

    def run(
        self,
        job: DistributedJob,
        on_log: Callable[[str], object],
        on_state: Callable[[JobReport], object],
    ) -> None:
        """Start the job, or adopt the one of this name, and return when it has succeeded.

        In the main thread SIGTERM and SIGINT delete the job, within 0.3 s, until the method returns.

        Args:
            on_log: gets each line of rank 0 as it is written.
            on_state: gets the state once per change, and why pods wait.

        Raises:
            UnsupportedSettingError: this kind of job has no place for a setting.
            JobRefusedError: the cluster does not let the job or its pods be created.
            ImagePullError: an image cannot be pulled.
            OutOfMemoryError, EvictedError, PodFailedError: a pod failed too often; they carry the first one's log.
            DeadlineExceededError: the job took too long.
            JobGoneError: somebody else deleted it.
            LaunchInterruptedError: a signal came; the job is deleted.
        """
        manifest = self._render(job)
        with DeleteOnSignal(self._rest.with_own_connections(), self.kind.path(job.namespace, job.name), job.name):
            self._follow(job, self._start_or_adopt(job, manifest, on_state), on_log, on_state)

    def start(self, job: DistributedJob, on_state: Callable[[JobReport], object]) -> None:
        """Start the job, or adopt the one of this name, and leave it to the cluster; `follow` sees it to its end.

        Raises:
            UnsupportedSettingError, JobRefusedError: as of `run`.
        """
        self._start_or_adopt(job, self._render(job), on_state)

    def follow(
        self,
        job: DistributedJob,
        on_log: Callable[[str], object],
        on_state: Callable[[JobReport], object],
    ) -> None:
        """Stay with a job that was started, from its first line on; signals do nothing to it.

        Raises:
            JobGoneError: there is no such job.
            JobError: as of `run`.
        """
        resource = self._rest.find(self.kind.path(job.namespace, job.name))
        if resource is None:
            raise JobGoneError(job.name)
        self._follow(job, resource, on_log, on_state)

    def _follow(
        self,
        job: DistributedJob,
        resource: Resource,
        on_log: Callable[[str], object],
        on_state: Callable[[JobReport], object],
    ) -> None:
        session = Session(
            self._rest, self.kind, job, resource, patience_s=self._patience_s, on_log=on_log, on_state=on_state
        )
        session.follow()

    def suspend(self, name: str, namespace: str) -> None:
        """End the job's pods and keep the job; what waits for it goes on waiting.

        Raises:
            JobGoneError: there is no such job.
        """
        self._change(name, namespace, self.kind.suspension(True))

    def resume(self, name: str, namespace: str) -> None:
        """Start the pods of a suspended job again.

        Raises:
            JobGoneError: there is no such job.
        """
        self._change(name, namespace, self.kind.suspension(False))

    def delete(self, name: str, namespace: str) -> bool:
        """Delete the job; the cluster removes its pods. False where there was none."""
        return self._rest.delete(self.kind.path(namespace, name), "Background")

    def _change(self, name: str, namespace: str, patch: dict[str, Any]) -> None:
        try:
            self._rest.merge(self.kind.path(namespace, name), patch)
        except ApiError as error:
            if error.status == 404:
                raise JobGoneError(name) from error
            raise

    def _render(self, job: DistributedJob) -> dict[str, Any]:
        if self.kind is BATCHJOB:
            return render_job(job)
        return render_pytorchjob(job) if self.kind is PYTORCHJOB else render_trainjob(job, self._runtime)

    def _start_or_adopt(
        self, job: DistributedJob, manifest: dict[str, Any], on_state: Callable[[JobReport], object]
    ) -> Resource:
        """The one job of this name: as it is if it does the same, else in place of what was there."""
        backoff, give_up, told = Backoff(most_s=2.0), time.monotonic() + _DELETION_S, 0
        while True:
            found = self._rest.find(self.kind.path(job.namespace, job.name))
            if found is not None:
                reason = _why_replace(found, job)
                if reason is None:
                    on_state(
                        JobReport(state_of(found), f"adopted the {self.kind.name} {job.name}, which is there already")
                    )
                    return self._adopt(job, found)
                on_state(JobReport(JobState.PENDING, f"replaces the {self.kind.name} {job.name}: {reason}"))
                self._remove(job, found)
            elif former := self._former_pods(job):
                if time.monotonic() > give_up:
                    raise JobRefusedError(job.name, f"pods of a job that is gone do not end: {', '.join(former)}")
                if len(former) != told:
                    told = len(former)
                    on_state(JobReport(JobState.PENDING, f"waits until {told} pods of a job that is gone have ended"))
            else:
                try:
                    return self._rest.create(self.kind.path(job.namespace), manifest)
                except ApiError as error:
                    if error.status != 409:  # another launcher was faster, or another writer at a quota
                        raise JobRefusedError(job.name, error.message) from error
            time.sleep(backoff.next_s())

    def _former_pods(self, job: DistributedJob) -> list[str]:
        """Pods that are left of a job of this name.

        Their names are the new ones', and Kubernetes counts the pods of a Job by its name: one that is made while
        others' pods go may be left without any for five minutes.
        """
        path = f"/api/v1/namespaces/{job.namespace}/pods"
        left = self._rest.get(path, {"labelSelector": f"{self.kind.job_label}={job.name}"})["items"]
        return [pod["metadata"]["name"] for pod in left]

    def _adopt(self, job: DistributedJob, found: Resource) -> Resource:
        """Make the job live as long as its new owner: with the old one it would disappear."""
        wanted = [owner_reference(job.owner)] if job.owner else []
        present = {reference["uid"] for reference in found["metadata"].get("ownerReferences", ())}
        if not wanted or wanted[0]["uid"] in present:
            return found
        return self._rest.merge(self.kind.path(job.namespace, job.name), {"metadata": {"ownerReferences": wanted}})

    def _remove(self, job: DistributedJob, found: Resource) -> None:
        """Delete a job and wait until its pods are gone: the new ones have the same names."""
        path, uid = self.kind.path(job.namespace, job.name), found["metadata"]["uid"]
        self._rest.delete(path, "Foreground", uid)
        backoff, give_up = Backoff(most_s=2.0), time.monotonic() + _DELETION_S
        while (left := self._rest.find(path)) is not None and left["metadata"]["uid"] == uid:
            if time.monotonic() > give_up:
                raise JobRefusedError(job.name, f"the job of before is not gone {_DELETION_S:.0f} s after its deletion")
            time.sleep(backoff.next_s())


def _why_replace(found: Resource, job: DistributedJob) -> str | None:
    if "deletionTimestamp" in found["metadata"]:
        return "the one that is there is being deleted"
    if found["metadata"].get("labels", {}).get(DIGEST_LABEL) != job.digest:
        return "the one that is there has other settings"
    if state_of(found) is JobState.FAILED:
        return "the one that is there has failed"
    return None


def own_pod_name() -> str:
    """Of the pod in which this process runs.

    A pod's host name is its own name, cut off at 63 characters; Kubeflow Pipelines says the whole.
    """
    return os.environ.get("KFP_POD_NAME") or socket.gethostname()


def find_owner(api: ApiClient, namespace: str, pod_name: str) -> Owner | None:
    """The Job or Workflow that controls a pod: what to make the owner of a job that this pod starts.

    The pod itself may be replaced while its run goes on, and a pod that has ended but stays would keep the job alive.

    Raises:
        ApiError: there is no such pod, or this identity may not read it.
    """
    pod = Rest(api).get(f"/api/v1/namespaces/{namespace}/pods/{pod_name}")
    for reference in pod["metadata"].get("ownerReferences", ()):
        if reference.get("controller") and reference["kind"] in _OWNERS:
            return Owner(reference["apiVersion"], reference["kind"], reference["name"], reference["uid"])
    return None
