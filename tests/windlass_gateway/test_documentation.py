"""The page about serving names what the gateway knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass_gateway.config import GatewayConfig
from windlass_gateway.problems import BY_ERROR, INTERNAL, every_problem, problem_of

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", GatewayConfig.model_fields)
def test_every_setting_is_documented_with_its_default(setting: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{setting}` |")]
    assert GatewayConfig.model_fields[setting].description, "the setting says what it is in code too"
    assert len(row.split("|")) == 5


def test_every_problem_is_documented_with_its_status() -> None:
    for problem in every_problem():
        assert f"| `{problem.name}` | {problem.status} |" in PAGE


def test_the_table_maps_each_of_the_gateways_request_errors() -> None:
    assert all(problem.name != INTERNAL.name for problem in BY_ERROR.values())
    assert len({problem.name for problem in every_problem()}) == len(every_problem())
    assert {problem_of(kind.__new__(kind)) for kind in BY_ERROR} == set(BY_ERROR.values())
