"""Where the benches leave what they measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path("bench-results")


def write_results(bench: str, found: Any) -> None:
    """Write `bench-results/<bench>.json`, below the current directory."""
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / f"{bench}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
