"""What the installation and the recipe say together of a job's pods."""

from __future__ import annotations

import pytest

from installations import SPARK, installation_settings
from windlass.cluster.jobs import DistributedJob, PullPolicy
from windlass.cluster.placement import Placement, pod_fields
from windlass.cluster.settings import SparkSettings

NEVER = SPARK.model_copy(update={"image_pull_policy": "Never"})
SETTINGS = installation_settings(spark=NEVER, env_secrets={"tokens": ("TOKEN", "MINE")})


def job(asked: PullPolicy | None = None, image: SparkSettings | None = None) -> DistributedJob:
    fields = pod_fields(
        SETTINGS,
        Placement(image_pull_policy=asked),
        service_account="account",
        variables={"MINE": "1"},
        image=image,
    )
    return DistributedJob(name="one", command=("true",), **fields)


@pytest.mark.parametrize(
    ("image", "asked", "pulled"),
    [
        (None, None, (SETTINGS.image, "IfNotPresent")),
        (NEVER, None, (SPARK.image, "Never")),
        (NEVER, "Always", (SPARK.image, "Always")),
    ],
)
def test_an_image_is_pulled_as_the_recipe_says_and_else_as_the_installation_does(
    image: SparkSettings | None, asked: PullPolicy | None, pulled: tuple[str, PullPolicy]
) -> None:
    described = job(asked, image)
    assert (described.image, described.image_pull_policy) == pulled


def test_a_jobs_own_variables_stay_and_secrets_come_beside_them() -> None:
    described = job()
    assert (described.env["MINE"], described.env["AWS_ENDPOINT_URL"]) == ("1", "http://s3:7070")
    names = [variable.name for variable in described.secrets]
    assert names == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "TOKEN"]
