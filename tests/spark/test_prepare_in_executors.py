"""A table on S3 prepared by executors that share no disk with the driver; a process stands for each pod."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from pods_as_processes import PodsAsProcesses
from spark_executors import driver_in_this_process, object_store, settings_of
from windlass.cluster._checks_rights import DRIVER_RIGHTS
from windlass.data.bundle import Bundle
from windlass.data.config import DataConfig
from windlass.data.description import SPLITS
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source
from windlass.data.spark.kubernetes import ExecutorPods, SparkCluster

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("small_parts")]

ROWS = 6000
PODS = ExecutorPods(count=2, memory_bytes=15 * 10**8, cpu=0.5)


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store(tmp_path / "store", monkeypatch) as url:
        yield url


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodsAsProcesses]:
    with driver_in_this_process(tmp_path / "cluster", monkeypatch) as cluster:
        yield cluster


def upload_table(endpoint: str) -> Any:
    """Three files of numbers, texts with quotes and commas, and a class, in a bucket of their own."""
    bucket = boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket="data")
    chosen = random.Random(0)  # noqa: S311 - a random table, no secret
    for file in range(3):
        rows = [
            f'{chosen.gauss(0, 1)!r},"say ""{chosen.randrange(9)}"", twice",{chosen.choice("ab")}'
            for _ in range(ROWS // 3)
        ]
        bucket.put_object(Key=f"table/{file}.csv", Body="\n".join(["x,text,y", *rows, ""]).encode())
    return bucket


def prepare_with(engine: str, output: Path, cluster: SparkCluster | None = None) -> Bundle:
    output.mkdir()
    data = DataConfig.model_validate({"source": "s3://data/table/", "target": "y", "engine": engine})
    prepare(
        data,
        modality="table",
        target_kind="class",
        source=resolve_source(data.source, output),
        output=output,
        memory_limit_bytes=2 * 10**9,
        threads=2,
        cluster=cluster,
    )
    return Bundle.open(output)


def same(one: Bundle, other: Bundle) -> None:
    assert one.description.fingerprint == other.description.fingerprint
    assert one.description.rows == other.description.rows
    for split in SPLITS:
        assert one.table(split).equals(other.table(split)), split
    transforms = [json.loads(bundle.description.model_dump_json())["transforms"] for bundle in (one, other)]
    assert [t["kind"] for t in transforms[0]] == [t["kind"] for t in transforms[1]]


def test_executors_without_the_drivers_disk_prepare_what_duckdb_prepares_and_leave_nothing(
    endpoint: str, cluster: PodsAsProcesses, tmp_path: Path
) -> None:
    bucket = upload_table(endpoint)
    on_spark = SparkCluster(settings_of("s3://data/root", endpoint), PODS, "s3://data/root/work/prepare/key")
    spark = prepare_with("spark", tmp_path / "spark", on_spark)
    same(prepare_with("duckdb", tmp_path / "duckdb"), spark)
    assert len(cluster.processes) == 2
    assert [found.key for found in bucket.objects.filter(Prefix="root/work/")] == []


def test_an_executor_that_is_killed_while_shards_are_written_is_replaced_and_the_result_is_the_same(
    endpoint: str, cluster: PodsAsProcesses, tmp_path: Path
) -> None:
    bucket = upload_table(endpoint)
    on_spark = SparkCluster(settings_of("s3://data/root", endpoint), PODS, "s3://data/root/work/prepare/key")
    with killing_one_when(lambda: any(bucket.objects.filter(Prefix="root/work/")), cluster):
        spark = prepare_with("spark", tmp_path / "spark", on_spark)
    same(prepare_with("duckdb", tmp_path / "duckdb"), spark)
    assert len(cluster.processes) > 2
    (right,) = DRIVER_RIGHTS
    assert cluster.verbs() == set(right.verbs), "the driver's account has the rights that Spark uses, and no other"
    assert [found.key for found in bucket.objects.filter(Prefix="root/work/")] == []


@contextmanager
def killing_one_when(holds: Callable[[], bool], cluster: PodsAsProcesses) -> Iterator[None]:
    """The first executor, by another thread, as soon as that is so."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            if holds():
                cluster.processes[0].kill()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
