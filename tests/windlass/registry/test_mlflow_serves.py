"""`mlflow models serve`, the real server, gives the answers that our engine gives."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.registry import Registry
from windlass.variants import open_variant
from windlass.variants.engines import load_engine
from windlass.variants.rows import rows_to_tensors

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

NUMBERS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.25, 8.0]]
WIDE = [[number / 256 for number in range(256)], [1.0] * 256]
MIXED = [{"age": 30, "color": "red"}, {"age": 41.5, "color": "never seen"}]
IMAGES = [[[[1], [2]], [[3], [4]]], [[[255], [0]], [[9], [128]]]]


@contextmanager
def served(tracking_uri: str, directory: Path, support: Any) -> Iterator[str]:
    port = support.free_port()
    arguments = ["mlflow", "models", "serve", "-m", "models:/digits@champion", "--env-manager", "local"]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {"MLFLOW_TRACKING_URI": tracking_uri}
    process = support.Process(arguments, directory / "serve.log", environment=environment)
    try:
        process.start(f"http://127.0.0.1:{port}/ping")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        process.kill()


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer: dict[str, Any] = json.loads(reply.read())["predictions"]
    return answer


def ours(tracking_uri: str, directory: Path, rows: list[Any]) -> dict[str, Any]:
    copy = Registry(tracking_uri).download("digits", 1, directory / "copy")
    variant = open_variant(copy)
    return dict(load_engine(copy, variant, 1).predict(rows_to_tensors(variant.signature, rows)))


def frames(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    columns = list(rows[0])
    split = {"columns": columns, "data": [[row[column] for column in columns] for row in rows]}
    return [{"dataframe_records": rows}, {"dataframe_split": split}]


BODIES: dict[str, tuple[list[Any], list[dict[str, Any]]]] = {
    "numbers": (
        NUMBERS,
        [
            *frames([dict(zip("abcd", row, strict=True)) for row in NUMBERS]),
            {"instances": NUMBERS},
            {"inputs": NUMBERS},
        ],
    ),
    "mixed": (MIXED, [*frames(MIXED), {"inputs": {name: [row[name] for row in MIXED] for name in ("age", "color")}}]),
    "images": (IMAGES, [{"instances": IMAGES}, {"inputs": IMAGES}]),
    "int4": (WIDE, [*frames([{f"f{n}": value for n, value in enumerate(row)} for row in WIDE]), {"inputs": WIDE}]),
}


@pytest.mark.parametrize("kind", list(BODIES))
def test_every_form_of_request_gets_our_engines_answer(kind: str, sqlite: str, tmp_path: Path, support: Any) -> None:
    rows, bodies = BODIES[kind]
    support.register_variant(sqlite, support.make_variant(tmp_path / "variant", kind))
    expected = ours(sqlite, tmp_path, rows)
    with served(sqlite, tmp_path, support) as url:
        for body in bodies:
            answer = ask(url, body)
            for name, values in expected.items():
                np.testing.assert_allclose(np.asarray(answer[name]), values, rtol=1e-6, err_msg=str(list(body)))
