"""Hostile requests to a real gateway: refused with the reason, in bounded time and memory, and it serves on."""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from windlass_gateway.body import is_deeper_than
from windlass_gateway.config import GatewayConfig

pytestmark = pytest.mark.attack

_path = Path(__file__).parents[1] / "windlass_gateway" / "conftest.py"
_spec = importlib.util.spec_from_file_location("gateway_support", _path)
assert _spec is not None
assert _spec.loader is not None
support: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(support)

config, cache_writer, start_worker, digits = (
    support.config,
    support.cache_writer,
    support.start_worker,
    support.digits,
)

DEADLINE_S = 1.5
LIMIT_BYTES = 1_000_000
GOOD = b'{"rows": [[1, 0, 0]]}'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("gateway")
    writer = support.CacheWriter(directory / "cache")
    writer.route("digits", {"champion": 2}, writer.publish("digits", 2))
    settings = GatewayConfig(
        tracking_uri="http://127.0.0.1:1",
        cache=directory / "cache",
        port=support.find_free_port(),
        receive_deadline_s=DEADLINE_S,
        max_body_bytes=LIMIT_BYTES,
        max_rows=100,
        allowed_hosts=("models.example",),
    )
    gateway = support.Gateway(settings, directory / "log")
    gateway.wait_ready()
    yield gateway
    reply = gateway.client.post("/v1/models/digits/predict", content=GOOD)
    assert reply.json()["predictions"] == [2.0], "it must serve on after every attack"
    assert len(gateway.pids("worker")) == 1, "no worker may have died"
    gateway.stop()


def exchange(gateway: Any, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send the parts, then read until the server closes or says nothing more for a while."""
    with socket.create_connection(("127.0.0.1", gateway.config.port), timeout=4) as connection:
        answer = b""
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause_s)
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def head(*lines: str) -> bytes:
    first = ("POST /v1/models/digits/predict HTTP/1.1", "Host: localhost")
    return "\r\n".join([*first, *lines, "", ""]).encode()


def test_31_an_oversized_content_length_is_413_before_the_body_comes(gateway: Any) -> None:
    with socket.create_connection(("127.0.0.1", gateway.config.port), timeout=5) as connection:
        started_s = time.monotonic()
        connection.sendall(head("Content-Length: 10000000000"))
        answer = connection.recv(65536)
        assert time.monotonic() - started_s < 1
        while b"}" not in answer:
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body-too-large" in answer


def test_31_an_oversized_chunked_body_is_413_in_bounded_memory(gateway: Any) -> None:
    (pid,) = gateway.pids("worker")
    before_bytes = psutil.Process(pid).memory_info().rss
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = exchange(gateway, head("Transfer-Encoding: chunked"), *[chunk] * 1500)
    assert answer.startswith(b"HTTP/1.1 413")
    assert psutil.Process(pid).memory_info().rss - before_bytes < 30e6


@pytest.mark.parametrize(
    "body",
    [
        b'{"rows": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"rows": ' + b"[" * 400_000,
        b'{"rows": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"rows": [[NaN, 0, 0]]}',
        b'{"rows": [[Infinity, 0, 0]]}',
        b'{"rows": [[-Infinity, 0, 0]]}',
        b'{"rows": [["\xff", 0, 0]]}',
        b"",
        b"rows=1",
        b'{"rows": "' + b'\\"' * 400_000,
    ],
    ids=["lists", "open lists", "objects", "NaN", "Infinity", "-Infinity", "no UTF-8", "empty", "form", "open string"],
)
def test_32_what_is_not_json_or_too_deep_is_400_at_once(gateway: Any, body: bytes) -> None:
    started_s = time.monotonic()
    reply = gateway.client.post("/v1/models/digits/predict", content=body)
    assert reply.status_code == 400
    assert reply.json()["type"].endswith("malformed-json")
    assert time.monotonic() - started_s < 1


def test_32_brackets_in_strings_do_not_count_as_depth() -> None:
    assert not is_deeper_than(rb'{"rows": [["[[[[\"[[[[", {"a": "\\"}]]}', 4)
    assert is_deeper_than(b'{"rows": [[[[1]]]]}', 4)
    assert not is_deeper_than(b'{"rows": [[[1]]]}', 4)


def test_33_a_body_that_drips_is_cut_off_at_the_deadline(gateway: Any) -> None:
    started_s = time.monotonic()
    answer = exchange(gateway, head("Content-Length: 21"), *[b"{"] * 20, pause_s=0.2)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started_s < DEADLINE_S + 4


def test_33_headers_that_drip_or_never_come_are_cut_off_at_the_deadline(gateway: Any) -> None:
    for parts in ([b"P", *[b"O"] * 15], []):
        started_s = time.monotonic()
        answer = exchange(gateway, *parts, pause_s=0.2)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))
        assert time.monotonic() - started_s < DEADLINE_S + 3


def test_33_a_connection_that_is_served_may_stay_longer_than_the_deadline(gateway: Any) -> None:
    with httpx.Client(base_url=gateway.url) as client:
        client.post("/v1/models/digits/predict", content=GOOD)
        time.sleep(DEADLINE_S + 0.5)
        (connection,) = client._transport._pool.connections  # type: ignore[attr-defined]
        assert connection.is_idle()
        assert not connection.has_expired()
        assert client.post("/v1/models/digits/predict", content=GOOD).status_code == 200


def test_34_content_length_with_transfer_encoding_is_400(gateway: Any) -> None:
    both = head("Content-Length: 5", "Transfer-Encoding: chunked")
    answer = exchange(gateway, both + b"0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"application/problem+json" in answer


def test_headers_without_end_are_431_in_bounded_memory(gateway: Any) -> None:
    (pid,) = gateway.pids("worker")
    before_bytes = psutil.Process(pid).memory_info().rss
    answer = exchange(gateway, head()[:-2] + b"X: ", *[b"a" * 0x10000] * 800)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    assert psutil.Process(pid).memory_info().rss - before_bytes < 30e6


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["1", 0, 0]], "row 0, column 'a'"),
        ([[1, 0, 0], [1, True, 0]], "row 1, column 'b'"),
        ([[1, 0]], "row 0: 2 values; the model takes 3"),
        ([[1, 0, 0], [[1], 0, 0]], "row 1, column 'a'"),
        ([{"a": 1, "b": 0}], "column 'c'"),
        ([[1e300, 0, 0]], "too large"),
        ([[10**400, 0, 0]], ""),
        ([1, 2], "row 0"),
        ([], "rows is empty"),
        ({"shape": [65536, 65536], "data": []}, "list of rows"),
    ],
)
def test_35_rows_that_do_not_fit_are_refused_with_row_and_column(digits: Any, rows: Any, words: str) -> None:
    reply = digits.client.post("/v1/models/digits/predict", json={"rows": rows})
    assert reply.status_code == (400 if rows == [[10**400, 0, 0]] else 422), reply.text
    assert words in reply.json()["detail"]
    assert reply.headers["content-type"] == "application/problem+json"


def test_35_more_rows_than_allowed_are_413(gateway: Any) -> None:
    reply = gateway.client.post("/v1/models/digits/predict", json={"rows": [[1, 0, 0]] * 101})
    assert reply.status_code == 413
    assert "101 rows" in reply.json()["detail"]


def test_a_compressed_body_is_415_and_not_unpacked(gateway: Any) -> None:
    reply = gateway.client.post("/v1/models/digits/predict", content=b"x", headers={"content-encoding": "gzip"})
    assert reply.status_code == 415


def test_38_a_model_that_fails_is_500_without_paths_or_stack(gateway: Any) -> None:
    reply = gateway.client.post("/v1/models/digits/predict", json={"rows": [[1, 7, 0]]})
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    for word in ("/", "Gather", "Traceback", "onnx"):
        assert word not in reply.json()["detail"]
    assert gateway.client.post("/v1/models/digits/predict", content=GOOD).status_code == 200


def test_38_a_fault_of_the_gateway_itself_is_500_without_paths_or_stack(digits: Any) -> None:
    def fail() -> None:
        raise RuntimeError("secret in /etc/secret")

    digits.app.add_api_route("/fail", fail)
    reply = digits.client.get("/fail")
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert digits.predict("digits", [1, 0, 0]).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1].x", "", "a@localhost"]
)
def test_39_a_forged_host_is_403_and_health_still_answers(gateway: Any, host: str) -> None:
    reply = gateway.client.get("/v1/models", headers={"host": host})
    assert reply.status_code == 403
    assert reply.json()["type"].endswith("foreign-host")
    assert gateway.client.get("/livez", headers={"host": host}).status_code == 200
    assert gateway.client.get("/readyz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "models.example", "MODELS.example:8080"])
def test_39_addresses_localhost_and_allowed_names_are_answered(gateway: Any, host: str) -> None:
    assert gateway.client.get("/v1/models", headers={"host": host}).status_code == 200


def test_methods_and_paths_that_do_not_exist_are_problem_documents(digits: Any) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/v1/models", 405), ("POST", "/livez", 405)):
        reply = digits.client.request(method, path)
        assert (reply.status_code, reply.json()["status"]) == (status, status)
        assert reply.headers["content-type"] == "application/problem+json"
