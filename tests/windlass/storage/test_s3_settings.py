"""How a store is reached, and what the user reads when it is not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from windlass.storage import (
    BucketNotFoundError,
    InvalidEndpointError,
    InvalidSettingError,
    S3Settings,
    StorageAccessError,
    StorageRequestError,
    StorageUnreachableError,
    Workspace,
)
from windlass.storage._s3_settings import connect


def test_the_endpoint_of_the_environment_is_used(
    s3_server: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    assert Workspace(f"s3://{bucket}", tmp_path).write_document("a.json", b"{}")
    assert s3_server.client().get_object(Bucket=bucket, Key="a.json")["Body"].read() == b"{}"


def test_off_aws_the_bucket_is_in_the_path_and_checksums_are_sent_only_where_required() -> None:
    client: Any = connect(S3Settings(endpoint_url="http://s3.storage.svc.cluster.local:7070"))
    assert client.meta.config.request_checksum_calculation == "when_required"
    assert client.meta.config.response_checksum_validation == "when_required"
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert url.startswith("http://s3.storage.svc.cluster.local:7070/bucket/key")


def test_on_aws_checksums_stay_on_and_the_bucket_is_in_the_host() -> None:
    client: Any = connect(S3Settings(region="eu-central-1"))
    assert client.meta.config.request_checksum_calculation == "when_supported"
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert url.startswith("https://bucket.s3.")


@pytest.mark.parametrize(
    ("addressing", "begin"), [("virtual", "http://bucket.s3.test/key"), ("path", "http://s3.test/bucket/key")]
)
def test_the_style_of_addresses_can_be_chosen(addressing: str, begin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_S3_ADDRESSING", addressing)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.test")
    client = connect(S3Settings.from_environment())
    assert client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"}).startswith(begin)


def test_session_tokens_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary")
    client = connect(S3Settings(endpoint_url="http://s3.test"))
    assert "temporary" in client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})


def test_the_patience_is_read_as_people_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_S3_RETRY_FOR", "5m")
    assert S3Settings.from_environment().retry_for_s == 300


def test_a_setting_that_is_not_understood_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_S3_RETRY_FOR", "soon")
    with pytest.raises(
        InvalidSettingError, match=r"^WINDLASS_S3_RETRY_FOR='soon' is not understood \(.*not a duration"
    ):
        S3Settings.from_environment()
    with pytest.raises(ValidationError, match="greater than or equal to 5242880"):
        S3Settings(part_size_bytes=1000)


def test_an_endpoint_that_is_no_url_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(
        InvalidEndpointError, match=r"^'minio:9000' is no address .*; set AWS_ENDPOINT_URL to one such as"
    ):
        Workspace("s3://bucket", tmp_path).read_document("a.json")


def test_a_bucket_that_does_not_exist_is_named_at_once(s3_server: Any, tmp_path: Path) -> None:
    workspace = Workspace("s3://no-such-bucket", tmp_path, s3=S3Settings(endpoint_url=s3_server.endpoint))
    expected = f"^there is no bucket 'no-such-bucket' at {s3_server.endpoint}; create it, or give another s3://BUCKET"
    with pytest.raises(BucketNotFoundError, match=expected):
        workspace.write_document("a.json", b"{}")
    with pytest.raises(BucketNotFoundError):
        workspace.list_documents("runs/")


def test_wrong_credentials_are_refused_at_once_and_say_what_to_check(
    s3_server: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not s3_server.keeps_data:
        pytest.skip("moto accepts any credentials")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    workspace = Workspace(f"s3://{bucket}", tmp_path, s3=S3Settings(endpoint_url=s3_server.endpoint))
    expected = r"does not allow uploading a\.json \(SignatureDoesNotMatch\); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS"
    with pytest.raises(StorageAccessError, match=expected):
        workspace.write_document("a.json", b"{}")


def test_missing_credentials_are_named(
    s3_server: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    workspace = Workspace(f"s3://{bucket}", tmp_path, s3=S3Settings(endpoint_url=s3_server.endpoint))
    with pytest.raises(
        StorageAccessError, match=r"does not allow uploading a\.json \(Unable to locate credentials\); check"
    ):
        workspace.write_document("a.json", b"{}")


class _Refuses(http.server.BaseHTTPRequestHandler):
    """A server that answers every request with the same error, after as many failures of its own as are left."""

    failures: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        status = self.failures.pop() if self.failures else 400
        body = b"<Error><Code>InvalidRequest</Code><Message>not today</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def refusing_endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_refusal_that_will_not_pass_is_reported_at_once_after_failures_that_may(
    refusing_endpoint: str, tmp_path: Path
) -> None:
    _Refuses.failures[:] = [503, 500, 429]
    workspace = Workspace("s3://bucket", tmp_path, s3=S3Settings(endpoint_url=refusing_endpoint))
    with pytest.raises(StorageRequestError, match=r"refused reading a\.json: .*InvalidRequest.*not today; see the log"):
        workspace.read_document("a.json")
    assert _Refuses.failures == []


def test_an_endpoint_where_nothing_listens_is_reported_after_the_patience(tmp_path: Path) -> None:
    settings = S3Settings(endpoint_url="http://127.0.0.1:9", retry_for_s=0.5)
    with pytest.raises(
        StorageUnreachableError, match=r"^http://127\.0\.0\.1:9 did not answer within \d s while reading"
    ):
        Workspace("s3://bucket", tmp_path, s3=settings).read_document("a.json")
