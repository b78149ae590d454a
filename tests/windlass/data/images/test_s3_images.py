"""Images on an object store are the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest

from windlass.data.description import DatasetDescription

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:moto"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning"),
]

Prepare = Callable[..., tuple[DatasetDescription, Path]]
Write = Callable[..., Path]


@pytest.fixture
def upload(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], str]]:
    """Copy a folder below a prefix of a new object store; gives its URI."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="images")

    def copy(folder: Path, prefix: str) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "images", f"{prefix}/{path.relative_to(folder).as_posix()}")
        return f"s3://images/{prefix}"

    yield copy
    server.stop()


def test_a_folder_and_a_zipped_idx_pair_give_the_same_bundle_from_s3_as_from_disk(
    prepared: Prepare, write_folder: Write, write_idx: Write, upload: Callable[[Path, str], str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8)
    folder = write_folder({"cat": images[:10], "dog": images[10:]})
    pair = write_idx(images, np.arange(20) % 2, zipped=True)
    for local, prefix in ((folder, "photos"), (pair, "pair")):
        from_disk, from_s3 = prepared(local)[0], prepared(upload(local, prefix))[0]
        assert from_s3 == from_disk
