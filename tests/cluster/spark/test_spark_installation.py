"""What an installation with Spark lets its accounts do, and what the doctor says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_installation import Installation
from doctor_places import ask_doctor

pytestmark = pytest.mark.cluster


@pytest.mark.attack
@pytest.mark.parametrize("account", ["pipeline", "spark-driver", "spark-executor"])
def test_an_account_may_do_what_its_golden_list_says_and_nothing_else(installation: Installation, account: str) -> None:
    golden = Path(__file__).with_name(f"{account}-rights.txt").read_text(encoding="utf-8").splitlines()
    assert installation.rights(f"{installation.release}-{account}") == golden


def test_the_doctor_finds_no_problem_and_starts_the_image_of_spark(installation: Installation) -> None:
    answer = ask_doctor(installation.namespace)
    assert (answer.problems, answer.exit_code) == ([], 0), answer.messages
    assert answer.named("rights of spark")["status"] == "ok"
    assert answer.named("spark pod")["found"].startswith(f"{installation.settings.spark.image} was started as")
    assert answer.named("spark image")["status"] == "ok"
