"""The recipe's `register` section."""

from __future__ import annotations

from pydantic import Field

from windlass.schema import Section


class RegisterConfig(Section):
    """Where the chosen version goes."""

    model: str | None = Field(default=None, description="name of the registered model; default: the recipe's name")
    alias: str | None = Field(default="champion", description="alias that moves to the version after the gate")
    tracking_uri: str | None = Field(
        default=None, description="MLflow server; default: a SQLite file in .windlass/, or MLFLOW_TRACKING_URI"
    )
