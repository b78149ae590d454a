# ruff: noqa: S311 - random tables, no secrets
from __future__ import annotations

import gzip
import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faulty_proxy import Proxy, free_port
from windlass.data.description import SPLITS
from windlass.data.errors import (
    BadFileError,
    BadRowError,
    NoFeaturesError,
    SourceNotFoundError,
    TargetError,
    UnknownSourceKindError,
    UnknownVariableError,
    WrongModalityError,
)
from windlass.data.inference import infer
from windlass.data.sources import open_source, resolve_source

AWAY_S = 5.0
"""Longer than three attempts wait, which is what pyarrow does by itself."""
SOON_S = 20.0


def some_table(count: int = 300) -> pa.Table:
    draw = random.Random(4)
    return pa.table(
        {
            "size": [None if i % 9 == 0 else round(draw.gauss(0, 3), 5) for i in range(count)],
            "big": [draw.randrange(10**12) + 0.5 for _ in range(count)],
            "kind": [None if i % 10 == 0 else draw.choice(["a", "b, c", 'd "e"']) for i in range(count)],
            "flag": [draw.random() < 0.5 for _ in range(count)],
            "y": [draw.randrange(3) for _ in range(count)],
        }
    )


def csv_text(table: pa.Table) -> str:
    def cell(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return str(value).lower()
        return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else repr(value)

    rows = [",".join(cell(value) for value in row.values()) for row in table.to_pylist()]
    return "\n".join([",".join(table.column_names), *rows]) + "\n"


def members(bundle: Any) -> dict[str, list[dict[str, Any]]]:
    return {split: bundle.table(split).to_pylist() for split in SPLITS}


def test_csv_gzip_parquet_and_json_lines_give_one_bundle(tmp_path: Path, write: Any, prepare_table: Any) -> None:
    table = some_table()
    write("a.csv", csv_text(table))
    write("b.csv.gz", gzip.compress(csv_text(table).encode()))
    pq.write_table(table, tmp_path / "c.parquet")
    write("d.jsonl", "".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    bundles = [prepare_table(str(tmp_path / name)) for name in ("a.csv", "b.csv.gz", "c.parquet", "d.jsonl")]
    for other in bundles[1:]:
        assert members(other) == members(bundles[0])
        assert other.description.fingerprint == bundles[0].description.fingerprint
    assert bundles[0].description.class_names == ("0", "1", "2")


def test_the_digest_is_of_the_content_not_of_the_place(write: Any, tmp_path: Path) -> None:
    write("one/a.csv", "a,y\n1,2\n")
    write("two/b.csv", "a,y\n1,2\n")
    write("two/c.csv", "a,y\n1,3\n")
    one, same, other = (resolve_source(name, tmp_path) for name in ("one/a.csv", "two/b.csv", "two/c.csv"))
    assert one.digest == same.digest != other.digest


def test_variables_are_expanded_and_missing_ones_named(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("data/a.csv", "a,y\n1,2\n")
    monkeypatch.setenv("MY_DATA", str(tmp_path / "data"))
    assert resolve_source("${MY_DATA}/*.csv", Path("/")).files[0].name == "a.csv"
    with pytest.raises(UnknownVariableError, match="environment variable NO_SUCH is not set"):
        resolve_source("${NO_SUCH}/a.csv", tmp_path)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"'no\.csv': nothing found at .*no\.csv"):
        resolve_source("no.csv", tmp_path)
    with pytest.raises(SourceNotFoundError):
        resolve_source("parts/*.csv", tmp_path)


def test_unknown_and_mixed_kinds_are_refused(write: Any, tmp_path: Path) -> None:
    write("a.xlsx", "x")
    with pytest.raises(UnknownSourceKindError, match=r"the kind of 'a\.xlsx' is not known"):
        resolve_source("a.xlsx", tmp_path)
    write("mixed/a.csv", "x")
    write("mixed/a.parquet", "x")
    with pytest.raises(UnknownSourceKindError, match="files of several kinds: csv, parquet"):
        resolve_source("mixed", tmp_path)
    with pytest.raises(UnknownSourceKindError, match="choose digits, breast_cancer"):
        resolve_source("sklearn:iris-2", tmp_path)


def test_images_for_a_task_of_tables_are_refused(prepare_table: Any) -> None:
    with pytest.raises(WrongModalityError, match="use task: image-classification"):
        prepare_table("sklearn:digits", target=None)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(TEXTS, min_size=1, max_size=6),
    numbers=st.lists(st.floats(-3e38, 3e38), max_size=6),
)
def test_any_text_and_any_number_comes_through_csv_unchanged(
    tmp_path: Path, prepare_table: Any, values: list[str], numbers: list[float]
) -> None:
    draw = random.Random(0)
    table = pa.table(
        {
            "x": [*numbers, *(draw.random() for _ in range(60 - len(numbers)))],
            "k": [*values, *("fg"[i % 2] for i in range(60 - len(values)))],
            "y": [draw.choice(["no", "yes"]) for _ in range(60)],
        }
    )
    (tmp_path / "a.csv").write_text(csv_text(table), encoding="utf-8", newline="")
    bundle = prepare_table(str(tmp_path / "a.csv"), columns={"x": "number", "k": "category"}, leakage="allow")
    read = [(row["x"], row["k"]) for split in SPLITS for row in bundle.table(split).to_pylist()]
    assert sorted(read) == sorted((row["x"], row["k"]) for row in table.to_pylist())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # a process of its own: a thread would wait for the interpreter's lock that the reader holds
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    import boto3

    client = boto3.session.Session().client("s3")
    try:
        _wait_for(port)
        client.create_bucket(Bucket="data")
        yield client
    finally:
        client.close()
        server.terminate()
        server.wait(30)


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the S3 server did not start within 60 s")


def test_a_table_on_s3_is_the_table_on_disk(bucket: Any, tmp_path: Path, write: Any, prepare_table: Any) -> None:
    table = some_table()
    local = prepare_table(str(write("a.csv", csv_text(table))))
    bucket.put_object(Bucket="data", Key="in/a.csv", Body=csv_text(table).encode())
    pq.write_table(table, tmp_path / "a.parquet")
    bucket.put_object(Bucket="data", Key="parquet/a.parquet", Body=(tmp_path / "a.parquet").read_bytes())
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    bucket.put_object(Bucket="data", Key="lines/a.jsonl", Body=lines.encode())
    for uri in ("s3://data/in/", "s3://data/parquet", "s3://data/lines/a.jsonl"):
        assert members(prepare_table(uri)) == members(local), uri


@pytest.fixture
def proxy(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Stands before the bucket's server, open."""
    before = Proxy(urlsplit(os.environ["AWS_ENDPOINT_URL"]).port or 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", before.endpoint)
    before.open()
    yield before
    before.close()


def test_what_is_read_of_s3_waits_for_a_store_that_goes_away_meanwhile(bucket: Any, proxy: Proxy) -> None:
    data = random.Random(0).randbytes(1 << 20)
    bucket.put_object(Bucket="data", Key="a.csv", Body=data)
    with open_source("s3://data/a.csv") as stream:
        found = stream.read(1000)
        proxy.close()
        back = threading.Timer(AWAY_S, proxy.open)
        back.start()
        found += stream.read()
        back.join()
    assert found == data


def test_a_mistyped_address_of_s3_is_told_soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    started_s = time.monotonic()
    with pytest.raises(BadFileError, match="the object store does not answer as it should"):
        resolve_source("s3://data/a.csv", tmp_path)
    assert time.monotonic() - started_s < SOON_S


def test_what_init_infers_is_a_recipe_that_prepares_as_it_stands(
    tmp_path: Path, write: Any, prepare_table: Any
) -> None:
    draw = random.Random(0)
    rows = []
    for i in range(300):
        label = draw.choice(["no", "yes"])
        note = f"what was said in call number {i}"
        rows.append(f"{i},{draw.gauss(40, 9):.2f},{draw.choice('abc')},{note},k,{label.upper()},{label if i else ''}\n")
    path = write("mine.csv", "id,age,city,note,const,copy,y\n" + "".join(rows))
    found = infer(path, "y")
    assert found.task == "tabular-classification"
    assert found.rows == 300
    assert found.classes == ("no", "yes")
    assert found.columns == {"age": "number", "city": "category"}
    assert {name: reason.split()[0] for name, reason in found.left_out.items()} == {
        "id": "id-like:",
        "note": "free",
        "const": "constant:",
        "copy": "alone",
    }
    import yaml

    recipe = yaml.safe_load(found.recipe_text("mine", "mine.csv"))
    assert recipe["name"] == "mine"
    data = recipe["data"] | {"source": str(path)}
    assert prepare_table(**data).description.dropped_rows == {"target 'y' is missing": 1}


def test_init_takes_many_numbers_for_a_regression(write: Any) -> None:
    draw = random.Random(0)
    path = write("a.csv", "a,price\n" + "".join(f"{draw.random()},{draw.random()}\n" for _ in range(60)))
    found = infer(path, "price")
    assert found.task == "tabular-regression"
    assert found.classes is None


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("a,b,y\n1,2,x\n3,4,x\n", TargetError, "every row is of class 'x'; at least two classes are needed"),
        ("a,y\n1,x\n1,z\n1,x\n", NoFeaturesError, "no column is left to learn from .a: constant"),
        ("a,y\n1,\n2,\n", TargetError, "is missing in all of the first 2 rows"),
        ("a,y\n", BadFileError, "has a header and no rows"),
    ],
)
def test_init_refuses_a_table_that_nothing_can_be_learned_from(
    tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(error, match=says):
        infer(path, "y")


@pytest.mark.parametrize(
    ("name", "spoiled", "says"),
    [
        ("a.csv", "30\n", "a.csv, row 51, column 'age': too few values (4 are expected): '30'"),
        ("a.csv", "30,a,1,no,5\n", "too many values (4 are expected): '30,a,1,no,5'"),
        ("a.csv", b"30,m\xfcnchen,1,no\n", "a.csv, row 51, column 'city': not UTF-8; save the file as UTF-8"),
        ("a.csv", "unknown,a,1,no\n", "a.csv, row 51, column 'age': 'unknown' is not a number"),
        ("a.csv", "30,a,1,\n", "a.csv, row 51, column 'y': the target is missing"),
    ],
)
def test_init_tells_of_a_row_that_does_not_parse_in_the_words_of_run_and_writes_a_recipe_that_leaves_it_out(
    write: Any, prepare_table: Any, name: str, spoiled: str | bytes, says: str
) -> None:
    draw = random.Random(0)
    rows = [
        f"{draw.gauss(40, 9):.2f},{draw.choice('abc')},{draw.random()},{draw.choice(['no', 'yes'])}\n"
        for _ in range(99)
    ]
    content = [b"age,city,size,y\n", *(row.encode() for row in rows)]
    content.insert(50, spoiled if isinstance(spoiled, bytes) else spoiled.encode())
    path = write(name, b"".join(content))
    with pytest.raises(BadRowError) as refused:
        prepare_table(str(path))
    found = infer(path, "y")
    assert found.bad_rows == str(refused.value)
    assert says in found.bad_rows
    import yaml

    data = yaml.safe_load(found.recipe_text("mine", name))["data"] | {"source": str(path)}
    assert data["bad_rows"] == "drop"
    assert sum(prepare_table(**data).description.rows.values()) == 99


def test_init_of_a_file_without_one_row_that_parses_names_the_first(write: Any) -> None:
    with pytest.raises(BadRowError, match=r"a\.csv, row 2, column 'a': too few values \(2 are expected\): '1'"):
        infer(write("a.csv", "a,y\n1\n2\n"), "y")


def test_a_nan_that_the_statistics_of_a_parquet_file_leave_out_is_a_missing_number(
    tmp_path: Path, prepare_table: Any
) -> None:
    draw = random.Random(7)
    numbers = [math.nan if i % 5 == 0 else draw.gauss(0, 1) for i in range(300)]
    pq.write_table(pa.table({"x": numbers, "y": [draw.randrange(2) for _ in numbers]}), tmp_path / "a.parquet")
    bundle = prepare_table(str(tmp_path / "a.parquet"))
    assert sum(bundle.table(split)["x"].null_count for split in SPLITS) == 60
