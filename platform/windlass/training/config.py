"""The recipe's `train` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from windlass.schema import Section


class AugmentConfig(Section):
    """Random changes of training images; each draw depends on the epoch and the example, not on the worker."""

    shift: NonNegativeInt = Field(default=0, description="pixels, each way")
    flip: bool = Field(default=False, description="left to right, half of the time")
    crop: NonNegativeInt = Field(default=0, description="pixels of padding before a random crop")
    erase: NonNegativeFloat = Field(default=0.0, lt=1, description="largest share of the area set to zero")


class EarlyStoppingConfig(Section):
    """Stop when the main metric on validation no longer gets better."""

    patience_epochs: PositiveInt = Field(default=5, description="epochs without a gain before training stops")
    min_delta: NonNegativeFloat = Field(default=0.0, description="what counts as a gain, in units of the metric")


class TrainConfig(Section):
    """One training run, validated before any process is started."""

    epochs: PositiveInt = Field(default=10, description="passes over the train split")
    global_batch_size: PositiveInt = Field(default=64, description="examples per step, over all workers")
    num_workers: PositiveInt = Field(default=1, description="processes that share each batch; changes speed only")
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = Field(default="adamw", description="update rule")
    learning_rate: PositiveFloat = Field(default=1e-3, description="at the end of warm-up")
    momentum: NonNegativeFloat = Field(default=0.9, lt=1, description="sgd and rmsprop only")
    weight_decay: NonNegativeFloat = Field(default=0.01, description="decoupled in adamw, an L2 penalty elsewhere")
    schedule: Literal["constant", "linear", "cosine", "step"] = Field(
        default="cosine", description="how the learning rate goes on after warm-up"
    )
    warmup_steps: NonNegativeInt = Field(default=0, description="steps of linear rise from zero")
    step_every_epochs: PositiveInt = Field(default=10, description="schedule `step`: how often the rate falls")
    step_factor: PositiveFloat = Field(default=0.1, lt=1, description="schedule `step`: by what it is multiplied")
    max_grad_norm: PositiveFloat | None = Field(default=1.0, description="bound on the gradient's L2 norm")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="bf16 and fp16 need CUDA")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: rare classes weigh as much as frequent ones"
    )
    early_stopping: EarlyStoppingConfig | None = None
    augment: AugmentConfig = AugmentConfig()
    checkpoint_every_epochs: PositiveInt = Field(default=1, description="how much work a crash can cost")
    keep_checkpoints: PositiveInt = Field(default=2, description="newest ones kept, beside the best")
    seed: NonNegativeInt = Field(default=0, description="of the initial weights, the order and the augmentation")
