"""A `DistributedJob` as the manifest of either operator, or of one pod as a Job. Pure: no cluster is asked."""

from __future__ import annotations

from typing import Any

from windlass.cluster.errors import UnsupportedSettingError
from windlass.cluster.jobs import Claim, DistributedJob, EmptyDir, Owner, Toleration
from windlass.cluster.kinds import BATCHJOB, DIGEST_LABEL, PYTORCHJOB, REPLICATED_JOB, TRAINJOB, JobKind

Manifest = dict[str, Any]

_TMP = EmptyDir("/tmp")  # noqa: S108  (the only place where a container with a read-only root can write)
_MASTER_PORT = 23456
"""The port of the Service that the Training Operator makes for each pod."""


def render_pytorchjob(job: DistributedJob) -> Manifest:
    """The job as a PyTorchJob (`kubeflow.org/v1`, Training Operator 1.9).

    All pods are Workers. With a Master the operator adds to every worker an init container that Pod Security
    `restricted` refuses and whose image comes from a public registry; so the variables that it would set for the
    master are set here: rank 0 is the worker with index 0.

    In a pod that fails the kubelet starts the container again; the operator counts these restarts over all pods.
    """
    worker = {
        "replicas": job.workers,
        "restartPolicy": "OnFailure" if job.restarts else "Never",
        "template": {"metadata": _pod_metadata(job), "spec": _pod(job, PYTORCHJOB, _rendezvous(job))},
    }
    return {
        "apiVersion": PYTORCHJOB.api_version,
        "kind": PYTORCHJOB.name,
        "metadata": _metadata(job),
        "spec": {
            "nprocPerNode": str(job.processes_per_worker),
            "runPolicy": _run_policy(job),
            "pytorchReplicaSpecs": {"Worker": worker},
        },
    }


def render_trainjob(job: DistributedJob, runtime: str = "torch-distributed") -> Manifest:
    """The job as a TrainJob (`trainer.kubeflow.org/v1alpha1`, Trainer 2.3) on a ClusterTrainingRuntime for torch.

    What a TrainJob has no field for is the runtime's: pull policy, time to live, whether pods get a token, and the
    number of restarts (the launcher ends the job where `restarts` is less than the runtime's).

    Raises:
        UnsupportedSettingError: it asks for a priority class or a queue.
    """
    asked = [name for name in ("priority_class", "queue") if getattr(job, name)]
    if asked:
        raise UnsupportedSettingError(
            TRAINJOB.name, asked, "set them in its runtime, or Kueue's by the label kueue.x-k8s.io/queue-name"
        )
    replicated = {
        "name": REPLICATED_JOB,
        "template": {"spec": {"template": {"metadata": _pod_metadata(job), "spec": _trainjob_patch(job)}}},
    }
    patch = {"template": {"spec": {"replicatedJobs": [replicated]}}}
    spec = {
        "runtimeRef": {"apiGroup": TRAINJOB.group, "kind": "ClusterTrainingRuntime", "name": runtime},
        "activeDeadlineSeconds": job.deadline_s,
        "trainer": {
            "image": job.image,
            "command": list(job.command),
            "numNodes": job.workers,
            "numProcPerNode": job.processes_per_worker,
            "resourcesPerNode": _resources(job),
            "env": _variables(job),
        },
        "runtimePatches": [{"manager": "windlass.io/launcher", "trainingRuntimeSpec": patch}],
    }
    return {
        "apiVersion": TRAINJOB.api_version,
        "kind": TRAINJOB.name,
        "metadata": _metadata(job),
        "spec": _without_none(spec),
    }


def render_job(job: DistributedJob) -> Manifest:
    """The job of one pod as a Job (`batch/v1`, Kubernetes 1.30): whatever has no operator.

    A pod that ended with one of `final_exit_codes` fails the job; one that was lost is replaced without counting.

    Raises:
        UnsupportedSettingError: it asks for several pods or a queue.
    """
    asked = [name for name, wanted in (("workers", job.workers > 1), ("queue", job.queue)) if wanted]
    if asked:
        raise UnsupportedSettingError(BATCHJOB.name, asked, "it is one pod, started as soon as there is room")
    rules: list[Manifest] = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    if job.final_exit_codes:
        codes = {"containerName": BATCHJOB.container, "operator": "In", "values": sorted(job.final_exit_codes)}
        rules.append({"action": "FailJob", "onExitCodes": codes})
    spec = {
        "backoffLimit": job.restarts,
        "activeDeadlineSeconds": job.deadline_s,
        "ttlSecondsAfterFinished": job.ttl_s,
        "podFailurePolicy": {"rules": rules},
        "template": {"metadata": _pod_metadata(job), "spec": {"restartPolicy": "Never", **_pod(job, BATCHJOB, [])}},
    }
    return {
        "apiVersion": BATCHJOB.api_version,
        "kind": BATCHJOB.name,
        "metadata": _metadata(job),
        "spec": _without_none(spec),
    }


def render_pod(job: DistributedJob) -> Manifest:
    """A pod of the job by itself: what others start pods from, such as Spark its executors."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _pod_metadata(job), "spec": _pod(job, BATCHJOB, [])}


def owner_reference(owner: Owner) -> Manifest:
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }


def _metadata(job: DistributedJob) -> Manifest:
    metadata = {
        "name": job.name,
        "namespace": job.namespace,
        "labels": {**job.labels, DIGEST_LABEL: job.digest},
        "annotations": dict(job.annotations) or None,
        "ownerReferences": [owner_reference(job.owner)] if job.owner else None,
    }
    return _without_none(metadata)


def _pod_metadata(job: DistributedJob) -> Manifest:
    return _without_none({"labels": dict(job.labels) or None, "annotations": dict(job.annotations) or None})


def _run_policy(job: DistributedJob) -> Manifest:
    gang = {"minAvailable": job.workers, "queue": job.queue, "priorityClass": job.priority_class} if job.queue else None
    policy = {
        "cleanPodPolicy": "Running",
        "ttlSecondsAfterFinished": job.ttl_s,
        "activeDeadlineSeconds": job.deadline_s,
        # The operator fails the job as soon as the sum over all pods reaches the limit.
        "backoffLimit": job.restarts * job.workers + 1 if job.restarts else 0,
        "schedulingPolicy": _without_none(gang) if gang else None,
    }
    return _without_none(policy)


def _pod(job: DistributedJob, kind: JobKind, variables: list[Manifest]) -> Manifest:
    """A whole pod; a TrainJob patches its runtime's instead."""
    container = {
        "name": kind.container,
        "image": job.image,
        "imagePullPolicy": job.image_pull_policy,
        "command": list(job.command),
        "env": variables + _variables(job),
        "resources": _resources(job),
        "securityContext": _container_security(),
        "volumeMounts": _mounts(job),
    }
    spec = _pod_settings(job) | {
        "automountServiceAccountToken": job.api_access,
        # The operator looks at the job's deadline only when something happens; this makes something happen.
        "activeDeadlineSeconds": job.deadline_s,
        "enableServiceLinks": False,
        "priorityClassName": job.priority_class,
        "containers": [_without_none(container)],
    }
    return _without_none(spec)


def _trainjob_patch(job: DistributedJob) -> Manifest:
    container = {"name": TRAINJOB.container, "securityContext": _container_security(), "volumeMounts": _mounts(job)}
    return _without_none(_pod_settings(job) | {"containers": [container]})


def _pod_settings(job: DistributedJob) -> Manifest:
    return {
        "serviceAccountName": job.service_account,
        "securityContext": _pod_security(job),
        "nodeSelector": dict(job.node_selector) or None,
        "tolerations": [_toleration(toleration) for toleration in job.tolerations] or None,
        "imagePullSecrets": [{"name": name} for name in job.image_pull_secrets] or None,
        "volumes": [_volume(number, volume) for number, volume in enumerate(_all_volumes(job))],
    }


def _pod_security(job: DistributedJob) -> Manifest:
    security = {
        "runAsNonRoot": True,
        "runAsUser": job.user_id,
        "fsGroup": job.user_id,  # so that the user may write to claims
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return _without_none(security)


def _rendezvous(job: DistributedJob) -> list[Manifest]:
    """What torchrun reads to find rank 0; Trainer sets these itself."""
    rank = {"fieldRef": {"fieldPath": f"metadata.labels['{PYTORCHJOB.rank_label}']"}}
    return [
        {"name": "PET_MASTER_ADDR", "value": f"{job.name}-worker-0"},
        {"name": "PET_MASTER_PORT", "value": str(_MASTER_PORT)},
        {"name": "PET_NODE_RANK", "valueFrom": rank},
    ]


def _variables(job: DistributedJob) -> list[Manifest]:
    plain: list[Manifest] = [{"name": name, "value": value} for name, value in job.env.items()]
    for secret in job.secrets:
        reference = {"name": secret.secret, "key": secret.key} | ({"optional": True} if secret.optional else {})
        plain.append({"name": secret.name, "valueFrom": {"secretKeyRef": reference}})
    return plain


def _resources(job: DistributedJob) -> Manifest:
    wanted = job.resources
    gpus = {wanted.gpu_resource: str(wanted.gpus)} if wanted.gpus else {}
    limits = {"memory": wanted.memory, **gpus}
    return {"requests": {"cpu": wanted.cpu, **limits}, "limits": limits}


def _container_security() -> Manifest:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _all_volumes(job: DistributedJob) -> tuple[EmptyDir | Claim, ...]:
    given = any(volume.path == _TMP.path for volume in job.volumes)
    return job.volumes if given else (*job.volumes, _TMP)


def _mounts(job: DistributedJob) -> list[Manifest]:
    return [
        {"name": _volume_name(number), "mountPath": volume.path}
        | ({"readOnly": True} if isinstance(volume, Claim) and volume.read_only else {})
        for number, volume in enumerate(_all_volumes(job))
    ]


def _volume(number: int, volume: EmptyDir | Claim) -> Manifest:
    name = {"name": _volume_name(number)}
    if isinstance(volume, Claim):
        source = {"claimName": volume.claim} | ({"readOnly": True} if volume.read_only else {})
        return name | {"persistentVolumeClaim": source}
    settings = {"sizeLimit": volume.size, "medium": "Memory" if volume.in_memory else None}
    return name | {"emptyDir": _without_none(settings)}


def _volume_name(number: int) -> str:
    return f"volume-{number}"


def _toleration(toleration: Toleration) -> Manifest:
    fields = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }
    return _without_none(fields)


def _without_none(fields: Manifest) -> Manifest:
    """Absent is not null: the API server refuses some nulls and defaults others."""
    return {key: value for key, value in fields.items() if value is not None}
