"""The kinds of job: the two distributed ones of Kubeflow's operators, and Kubernetes' own for a single pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Resource = Mapping[str, Any]
"""An object of the API as JSON."""

DIGEST_LABEL = "windlass.io/job-digest"


@dataclass(frozen=True)
class JobKind:
    """Where the jobs of a kind are found, and how their pods are told apart."""

    name: str
    group: str
    version: str
    plural: str
    container: str
    """Of each pod, the one that trains."""
    job_label: str
    """On each pod, the name of its job."""
    rank_label: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    def path(self, namespace: str, name: str = "") -> str:
        """Of the collection, or of one job, below the API server's address."""
        collection = f"/apis/{self.group}/{self.version}/namespaces/{namespace}/{self.plural}"
        return f"{collection}/{name}" if name else collection

    def rank(self, pod: Resource) -> int:
        return int(pod["metadata"]["labels"].get(self.rank_label, 0))

    def owns(self, job: Resource, pod: Resource) -> bool:
        """Whether a pod that names the job is of this job, not of one before it whose pods are still ending."""
        owner: Resource = (pod["metadata"].get("ownerReferences") or [{}])[0]
        if owner.get("kind") == self.name:
            return bool(owner["uid"] == job["metadata"]["uid"])
        # A TrainJob's pods are owned by a Job that is owned by a JobSet.
        return str(pod["metadata"]["creationTimestamp"]) >= str(job["metadata"]["creationTimestamp"])

    def suspension(self, suspended: bool) -> dict[str, Any]:
        """The patch that suspends or resumes a job of this kind."""
        flag = {"suspend": suspended}
        return {"spec": {"runPolicy": flag} if self is PYTORCHJOB else flag}

    def involves(self, job: str, involved: Resource) -> bool:
        """Whether an event's object is the job or what its operator makes of it, pods apart."""
        name = str(involved.get("name", ""))
        return name == job or (self is TRAINJOB and name == f"{job}-{REPLICATED_JOB}-0")


REPLICATED_JOB = "node"
"""The part of Trainer's runtimes for torch that trains; its container has the same name."""

PYTORCHJOB = JobKind(
    name="PyTorchJob",
    group="kubeflow.org",
    version="v1",
    plural="pytorchjobs",
    container="pytorch",
    job_label="training.kubeflow.org/job-name",
    rank_label="training.kubeflow.org/replica-index",
)
TRAINJOB = JobKind(
    name="TrainJob",
    group="trainer.kubeflow.org",
    version="v1alpha1",
    plural="trainjobs",
    container=REPLICATED_JOB,
    job_label="jobset.sigs.k8s.io/jobset-name",
    rank_label="batch.kubernetes.io/job-completion-index",
)
BATCHJOB = JobKind(
    name="Job",
    group="batch",
    version="v1",
    plural="jobs",
    container="main",
    job_label="batch.kubernetes.io/job-name",
    rank_label="batch.kubernetes.io/job-completion-index",
)
