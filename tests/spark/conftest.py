from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from windlass.data.bundle import Bundle
from windlass.data.config import DataConfig
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source

Prepare = Callable[..., Bundle]

# They cannot be imported without Spark; the environment of `make test-spark` has it.
collect_ignore_glob = [] if find_spec("pyspark") else ["test_*.py"]


@pytest.fixture
def prepare_table(tmp_path: Path) -> Prepare:
    """Prepare a table with an engine and open its bundle; settings are those of the recipe's `data`."""
    made = 0

    def run(engine: str, source: Any, kind: str = "class", carry: tuple[str, ...] = (), **settings: Any) -> Bundle:
        nonlocal made
        made += 1
        output = tmp_path / f"bundle-{made}"
        output.mkdir()
        config = DataConfig.model_validate({"source": source, "target": "y", "engine": engine, **settings})
        prepare(
            config,
            modality="table",
            target_kind=kind,  # type: ignore[arg-type]
            source=resolve_source(config.source, tmp_path),
            output=output,
            memory_limit_bytes=2 * 10**9,
            threads=2,
            carry=carry,
        )
        left = [entry.name for entry in output.iterdir() if entry.suffix not in (".parquet", ".json")]
        assert left == [], "what tasks wrote is taken or removed"
        return Bundle.open(output)

    return run


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files of kilobytes as files of gigabytes are cut."""
    monkeypatch.setattr("windlass.data.spark.parts.MOST_PART_BYTES", 20_000)
    monkeypatch.setattr("windlass.data.spark.parts.LEAST_PART_BYTES", 20_000)
