"""The recipe's `register` section."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from windlass.registry.names import is_alias, is_name
from windlass.schema import Section


class RegisterConfig(Section):
    """Where the chosen version goes."""

    model: str | None = Field(default=None, description="name of the registered model; default: the recipe's name")
    alias: str | None = Field(default="champion", description="alias that moves to the version after the gate")
    tracking_uri: str | None = Field(
        default=None, description="MLflow server; default: a SQLite file in .windlass/, or MLFLOW_TRACKING_URI"
    )

    @field_validator("model")
    @classmethod
    def model_has_a_plain_name(cls, value: str | None) -> str | None:
        if value is not None and not is_name(value):
            raise ValueError("not a model name; use letters, digits, dots, dashes and underscores, at most 128")
        return value

    @field_validator("alias")
    @classmethod
    def alias_is_free_to_use(cls, value: str | None) -> str | None:
        if value is not None and not is_alias(value):
            raise ValueError(
                "not an alias; use letters, digits, dashes and underscores; `latest` and `v1` are MLflow's"
            )
        return value

    @field_validator("tracking_uri")
    @classmethod
    def tracking_uri_holds_no_credentials(cls, value: str | None) -> str | None:
        """A run keeps its recipe as it is; what the environment says is kept nowhere."""
        if value is not None and "@" in urlsplit(value).netloc:
            raise ValueError(
                "holds a user name or a password, and recipes are stored as they are; leave it out and put the whole "
                "address into MLFLOW_TRACKING_URI, or only the credentials into MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        return value
