"""One distributed job: some equal pods, each running one command. It knows no operator; `render` writes it for two."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from windlass.cluster.errors import InvalidJobError

PullPolicy = Literal["Always", "IfNotPresent", "Never"]

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MAX_NAME = 50
"""Of 63 characters of a host name, what the operators append (`-worker-99`, `-node-0-0`) leaves."""


GPU_RESOURCE = "nvidia.com/gpu"
"""As NVIDIA's device plugin names what it gives."""


@dataclass(frozen=True)
class Resources:
    """What one pod gets, as Kubernetes writes quantities; memory and GPUs are limits, the CPU is a request.

    Over its memory a pod is killed; more CPU than asked for it may use while nobody else needs it.
    """

    cpu: str = "1"
    memory: str = "2Gi"
    gpus: int = 0
    gpu_resource: str = GPU_RESOURCE
    """The name under which the cluster's device plugin counts its GPUs."""


@dataclass(frozen=True)
class EmptyDir:
    """A scratch directory that lives as long as its pod."""

    path: str
    size: str | None = None
    """A limit such as `10Gi`; the pod is evicted beyond it."""
    in_memory: bool = False
    """A tmpfs, counted to the pod's memory: shared memory for data loaders at `/dev/shm`."""


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim of the job's namespace, mounted in every pod."""

    path: str
    claim: str
    read_only: bool = False


@dataclass(frozen=True)
class SecretVariable:
    """An environment variable whose value only the kubelet reads."""

    name: str
    secret: str
    key: str
    optional: bool = False


@dataclass(frozen=True)
class Toleration:
    """Lets pods run on nodes that are kept free by a taint; no `key` tolerates every taint."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


@dataclass(frozen=True)
class Owner:
    """The object with which the job disappears."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class DistributedJob:
    """`workers` pods of one image that run one command and find each other by the PET_* variables of torchrun.

    Every pod fits Pod Security `restricted`: no root, no capabilities, a read-only root filesystem with an emptyDir
    at /tmp, no token of a service account unless it is asked for.

    Raises:
        InvalidJobError: a field cannot work on any cluster; the message names all that are wrong.
    """

    name: str
    namespace: str
    image: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    """Pods. Rank 0 is the first."""
    processes_per_worker: int = 1
    """What torchrun starts in each pod; always given, for the operators' default is one per CPU."""
    resources: Resources = Resources()
    volumes: tuple[EmptyDir | Claim, ...] = ()
    secrets: tuple[SecretVariable, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str | None = None
    queue: str | None = None
    """Of a gang scheduler (Volcano). Kueue reads the label `kueue.x-k8s.io/queue-name`: put it into `labels`."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    api_access: bool = False
    """Whether its pods get the token of their service account; a TrainJob leaves that to its runtime."""
    final_exit_codes: tuple[int, ...] = ()
    """After which no restart helps; the operators of distributed jobs have no place for them."""
    user_id: int | None = None
    """Numeric user of the container; None leaves it to the image, which must not name root."""
    deadline_s: int | None = None
    """Of the whole job from its start, restarts included; the cluster ends it, with or without a launcher."""
    ttl_s: int = 24 * 3600
    """After its end the cluster keeps the job, its pods and their logs for so long."""
    restarts: int = 3
    """How often every pod may be restarted after a failure before the job fails."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """On the job and on its pods."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """On the job and on its pods."""
    owner: Owner | None = None

    def __post_init__(self) -> None:
        problems = [problem for problem, wrong in self._problems().items() if wrong]
        if problems:
            raise InvalidJobError(self.name, problems)

    def _problems(self) -> dict[str, bool]:
        paths = [volume.path for volume in self.volumes]
        return {
            f"its name must be a DNS label of at most {_MAX_NAME} characters": (
                not _NAME.fullmatch(self.name) or len(self.name) > _MAX_NAME
            ),
            "command must not be empty": not self.command,
            "workers must be at least 1": self.workers < 1,
            "processes_per_worker must be at least 1": self.processes_per_worker < 1,
            "restarts must not be negative": self.restarts < 0,
            "deadline_s must be positive": self.deadline_s is not None and self.deadline_s < 1,
            "user_id must not be 0, which is root": self.user_id == 0,
            "each volume needs a path of its own": len(paths) != len(set(paths)),
            "volumes need absolute paths": any(not path.startswith("/") for path in paths),
            "env and secrets must not set the same variable": any(s.name in self.env for s in self.secrets),
        }

    @property
    def digest(self) -> str:
        """What tells this job from another of the same name: 16 hex digits over all fields but the owner.

        The owner says who waits for the job, not what it does: a rerun with a new owner goes on with the same job.
        """
        fields = asdict(replace(self, owner=None))
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
