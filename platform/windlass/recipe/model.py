"""The recipe: what a user writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, StringConstraints

from windlass.cluster.jobs import PullPolicy, Toleration
from windlass.cluster.placement import Placement
from windlass.compression.config import CompressConfig
from windlass.data.config import DataConfig
from windlass.evaluation.config import BudgetConfig, EvaluateConfig
from windlass.models.config import ModelConfig
from windlass.registry.config import RegisterConfig
from windlass.schema import DurationS, Section, SizeBytes
from windlass.training.config import TrainConfig
from windlass.variants.config import ServeConfig

TaskName = Literal["image-classification", "tabular-classification", "tabular-regression"]
RecipeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class WorkerResources(Section):
    """One training pod."""

    processes: PositiveInt = Field(default=1, description="workers in each pod; with GPUs, as many as `gpus`")
    cpu: PositiveFloat = Field(default=0.5, description="cores to be kept free for it; it may use more")
    memory: SizeBytes = Field(default=2 * 10**9, gt=0, description="its limit")
    gpus: NonNegativeInt = Field(default=0, description="of `nvidia.com/gpu`")


class StepResources(Section):
    """The pod in which a step runs."""

    cpu: PositiveFloat = Field(default=0.5, description="cores to be kept free for it; it may use more")
    memory: SizeBytes = Field(default=4 * 10**9, gt=0, description="its limit; preparing data needs `resources.memory`")
    gpus: Literal[0, 1] = Field(
        default=0, description="of `nvidia.com/gpu`, for the steps that measure; `serve.device: cuda` needs one"
    )


class TolerationConfig(Section):
    """As in a pod's specification."""

    key: str | None = Field(default=None, description="of the taint; none with Exists: every taint")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="how key and value are compared")
    value: str | None = Field(default=None, description="of the taint")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="of the taint; default: every effect"
    )


class ClusterResources(Section):
    """What a run asks of a cluster. On a laptop there is nothing to ask, and this section changes nothing."""

    worker: WorkerResources = WorkerResources()
    step: StepResources = StepResources()
    node_selector: dict[str, str] = Field(default={}, description="labels that a node must have")
    tolerations: tuple[TolerationConfig, ...] = ()
    checkpoint_claim: str | None = Field(
        default=None, description="volume claim for checkpoints, writable by all training pods; default: the root"
    )
    env_secrets: tuple[str, ...] = Field(
        default=(), description="Secrets whose keys become variables of the steps and of the training pods"
    )
    image_pull_policy: PullPolicy | None = Field(default=None, description="default: what the installation says")
    priority_class: str | None = Field(default=None, description="of all pods of the run")
    queue: str | None = Field(default=None, description="of a gang scheduler, for training jobs")
    training_timeout: DurationS | None = Field(default=None, gt=0, description="of one training job, waiting included")

    def placement(self) -> Placement:
        """As a job has it."""
        return Placement(
            node_selector=self.node_selector,
            tolerations=tuple(Toleration(**toleration.model_dump()) for toleration in self.tolerations),
            priority_class=self.priority_class,
            image_pull_policy=self.image_pull_policy,
        )


class ResourcesConfig(Section):
    """What the steps may use of the machine. It changes how fast a result comes, not the result."""

    memory: SizeBytes = Field(default=2 * 10**9, gt=0, description="limit for preparing data")
    threads: PositiveInt | None = Field(default=None, description="of preparing and training; default: all cores")
    cluster: ClusterResources = ClusterResources()


class Recipe(Section):
    """A task, its data and a budget; everything else has a default."""

    name: RecipeName = Field(description="lower-case letters, digits and dashes, at most 63")
    task: TaskName = Field(description="what to predict, and from what")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    compress: CompressConfig = CompressConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    budget: BudgetConfig = BudgetConfig()
    registration: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    serve: ServeConfig = ServeConfig()
    resources: ResourcesConfig = ResourcesConfig()
