from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windlass.data.bundle import Bundle
from windlass.data.config import DataConfig
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source

Prepare = Callable[..., Bundle]


@pytest.fixture
def prepare_table(tmp_path: Path) -> Prepare:
    """Prepare a table below `tmp_path` and open its bundle; settings are those of the recipe's `data`."""
    made = 0

    def run(
        source: Any, kind: str = "class", memory_limit_bytes: int = 10**9, carry: tuple[str, ...] = (), **settings: Any
    ) -> Bundle:
        nonlocal made
        made += 1
        output = tmp_path / f"bundle-{made}"
        output.mkdir()
        config = DataConfig.model_validate({"source": source, "target": "y", **settings})
        prepare(
            config,
            modality="table",
            target_kind=kind,  # type: ignore[arg-type]
            source=resolve_source(config.source, tmp_path),
            output=output,
            memory_limit_bytes=memory_limit_bytes,
            threads=2,
            carry=carry,
        )
        return Bundle.open(output)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file below `tmp_path`."""

    def run(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return run
