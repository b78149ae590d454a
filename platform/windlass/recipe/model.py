"""The recipe: what a user writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints

from windlass.compression.config import CompressConfig
from windlass.data.config import DataConfig
from windlass.evaluation.config import BudgetConfig, EvaluateConfig
from windlass.models.config import ModelConfig
from windlass.registry.config import RegisterConfig
from windlass.schema import Section, SizeBytes
from windlass.training.config import TrainConfig
from windlass.variants.config import ServeConfig

TaskName = Literal["image-classification", "tabular-classification", "tabular-regression"]
RecipeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class ResourcesConfig(Section):
    """What the steps may use of the machine. It changes how fast a result comes, not the result."""

    memory: SizeBytes = Field(default=2 * 10**9, gt=0, description="limit for preparing data")
    threads: PositiveInt | None = Field(default=None, description="of preparing and training; default: all cores")


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
