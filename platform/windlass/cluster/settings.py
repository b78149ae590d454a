"""What a cluster with the chart tells the command line and the steps of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from windlass.cluster.jobs import PullPolicy, SecretVariable
from windlass.errors import InvalidInputError

SETTINGS_VARIABLE = "WINDLASS_CLUSTER_SETTINGS"
"""Holds the settings as JSON in each pod of a run; where it is unset, steps run on the machine itself."""
SETTINGS_KEY = "settings.json"
SETTINGS_LABEL = "windlass.io/settings"
"""The chart's ConfigMap has it, with the value `true`."""

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": False, "AWS_SECRET_ACCESS_KEY": False, "AWS_SESSION_TOKEN": True}
"""Keys of the object store's Secret; whether they may be absent."""
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class InvalidSettingsError(InvalidInputError):
    """The settings that a cluster gives are not of this version's form."""

    def __init__(self, origin: str, problem: str) -> None:
        super().__init__(f"{origin}: {problem}; upgrade the chart and the command line to the same version")
        self.origin, self.problem = origin, problem


class StorageSettings(BaseModel):
    """The object store, by two addresses: as pods reach it, and as people outside do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = Field(pattern=r"^s3://[^/]+(/.+)?$")
    """Where the results of runs go."""
    endpoint: str | None = None
    """None is AWS."""
    public_endpoint: str | None = None
    """For the command line; None is the same as `endpoint`."""
    region: str = "us-east-1"
    addressing: Literal["auto", "path", "virtual"] = "auto"
    secret: str | None = None
    """A Secret whose keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; None: the pods' own identity."""


class SparkSettings(BaseModel):
    """How steps prepare data on Spark: the step's pod is the driver, the executors are pods that it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    """Of both."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    driver_service_account: str
    """Makes and deletes the executors."""
    executor_service_account: str


class ClusterSettings(BaseModel):
    """One installation of the chart in one namespace.

    Raises:
        ValidationError: a field is missing, wrong or unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    namespace: str
    """Where runs and training jobs are created."""
    image: str
    """Of the steps and of the training pods."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    user_id: int | None = None
    """Of the pods, and the group of their volumes; None leaves both to the cluster, as OpenShift wants it."""
    storage: StorageSettings
    tracking_uri: str
    gateway_uri: str
    """As pods reach it."""
    pipeline_service_account: str
    training_service_account: str
    training_kind: Literal["auto", "pytorchjob", "trainjob"] = "auto"
    training_runtime: str = "torch-distributed"
    """Of a TrainJob: its ClusterTrainingRuntime."""
    spark: SparkSettings | None = None
    """None: the installation has none."""
    env_secrets: Mapping[str, tuple[str, ...]] = {}
    """Of one run: the Secrets that its recipe names, each with the names of its keys. The chart leaves it empty."""

    @classmethod
    def from_json(cls, text: str, origin: str) -> Self:
        """Read what a ConfigMap or a variable holds; `origin` names it in errors.

        Raises:
            InvalidSettingsError: it is not of this form.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            raise InvalidSettingsError(origin, f"{where}: {first['msg']}") from None

    @classmethod
    def from_environment(cls) -> Self | None:
        """The settings of the run that this pod belongs to; None outside a cluster's run.

        Raises:
            InvalidSettingsError: the variable holds something else.
        """
        text = os.environ.get(SETTINGS_VARIABLE)
        return cls.from_json(text, SETTINGS_VARIABLE) if text else None

    def storage_environment(self) -> dict[str, str]:
        """The variables by which a pod finds the object store, credentials apart."""
        region = self.storage.region
        variables = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}  # boto3 reads the second, others the first
        variables["WINDLASS_S3_ADDRESSING"] = self.storage.addressing
        return variables | ({"AWS_ENDPOINT_URL": self.storage.endpoint} if self.storage.endpoint else {})

    def storage_credentials(self) -> tuple[SecretVariable, ...]:
        """The rest of them, which only the kubelet reads; none where pods have an identity of their own."""
        secret = self.storage.secret
        if secret is None:
            return ()
        return tuple(SecretVariable(name, secret, name, optional) for name, optional in _CREDENTIALS.items())

    def secret_variables(self, taken: Collection[str]) -> tuple[SecretVariable, ...]:
        """The keys of `env_secrets` as variables of a pod, by reference, as `envFrom` would take them.

        Of two Secrets with the same key the later one counts.

        Args:
            taken: variables that the pod has; a key of such a name, or of none that a variable can have, is left out.
        """
        reserved = {*taken, *(variable.name for variable in self.storage_credentials())}
        origin = {key: secret for secret, keys in self.env_secrets.items() for key in keys}
        return tuple(
            SecretVariable(key, secret, key)
            for key, secret in origin.items()
            if _VARIABLE.fullmatch(key) and key not in reserved
        )
