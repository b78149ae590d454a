from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

pytestmark = pytest.mark.spark

# A process of its own, for Python workers get the environment with which Java was started.
PROGRAM = """
import dataclasses, json, sys
from pathlib import Path
from windlass.data.bundle import Bundle
from windlass.data.config import DataConfig
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source
from windlass.data.spark import parts, session

parts.MOST_PART_BYTES = parts.LEAST_PART_BYTES = 20_000
local_settings = session.local_settings
session.local_settings = lambda *args, **kwargs: dataclasses.replace(
    local_settings(*args, **kwargs), scratch="s3://data/scratch"
)
found = {}
for engine, source in (("duckdb", sys.argv[1]), ("spark", "s3://data/in/")):
    output = Path(sys.argv[2], engine)
    output.mkdir()
    made = prepare(
        DataConfig(source=source, target="y", engine=engine), modality="table", target_kind="class",
        source=resolve_source(source, output), output=output, memory_limit_bytes=2 * 10**9, threads=2,
    )
    rows = {split: Bundle.open(output).table(split).to_pylist() for split in ("train", "validation", "test")}
    found[engine] = [made.model_dump(mode="json", exclude={"shards"}), rows]
print(json.dumps(found))
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    settings = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3")
    try:
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        client.create_bucket(Bucket="data")
        yield client
    finally:
        client.close()
        server.terminate()
        server.wait(30)


def test_parts_and_shards_in_an_object_store_give_the_table_on_disk(store: object, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("size,kind,y\n" + "".join(f"{i % 901}.{i},{'abc'[i % 3]},{i % 2}\n" for i in range(5000)))
    store.upload_file(str(path), "data", "in/a.csv")  # type: ignore[attr-defined]
    command = [sys.executable, "-c", PROGRAM, str(path), str(tmp_path)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    assert found["duckdb"] == found["spark"]
    left = store.list_objects_v2(Bucket="data", Prefix="scratch/part-")  # type: ignore[attr-defined]
    assert left["KeyCount"] == 0, "what tasks wrote is taken and removed"
