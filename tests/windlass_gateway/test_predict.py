"""Routes, versions and answers of a worker."""

from __future__ import annotations

from typing import Any

import pytest


def test_plain_name_answers_with_the_champion(digits: Any) -> None:
    reply = digits.predict("digits", [5, 0, 0], [1.5, 0, 0])
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"model": "digits", "version": 2, "predictions": [10.0, 3.0]}
    assert reply.headers["windlass-version"] == "2"


def test_a_version_is_asked_for_by_number_or_by_alias(digits: Any) -> None:
    assert digits.predict("digits/versions/1", [5, 0, 0]).json()["predictions"] == [5.0]
    assert digits.predict("digits@champion", [5, 0, 0]).json()["version"] == 2


def test_rows_by_column_name_come_in_any_order(digits: Any) -> None:
    assert digits.predict("digits", {"c": 0, "b": 0, "a": 4}).json()["predictions"] == [8.0]


def test_unknown_version_is_404_and_names_it(digits: Any) -> None:
    reply = digits.predict("digits/versions/7", [1, 0, 0])
    assert reply.status_code == 404
    assert "no version 7; GET /v1/models/digits lists those that it has" in reply.json()["detail"]
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["type"] == "urn:windlass:problem:unknown-version"


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("nothing", 404, "no model 'nothing' is served here; GET /v1/models lists those that are"),
        ("digits@prod", 404, "no alias 'prod'; GET /v1/models/digits lists those that it has"),
        ("digits/versions/none", 422, "version"),
        ("digits/versions/0", 422, "version"),
        (";$(id)", 400, "is not a name"),
        ("x" * 300, 400, "is not a name"),
        ("a%0Ab", 400, "is not a name"),
        ("..%5cetc", 400, "is not a name"),
    ],
)
def test_what_names_no_version_is_refused_with_the_reason(digits: Any, target: str, status: int, words: str) -> None:
    reply = digits.predict(target, [1, 0, 0])
    assert reply.status_code == status
    assert words in reply.json()["detail"]


def test_a_version_that_is_not_in_the_cache_is_asked_for_and_answers_later(digits: Any, cache_writer: Any) -> None:
    reply = digits.predict("digits/versions/3", [1, 0, 0])
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["detail"] == "version 3 of model 'digits' is being fetched; ask again in 1 s"
    assert cache_writer.cache.wanted() == [("digits", 3)]
    routed = cache_writer.cache.read_routes().models["digits"]
    cache_writer.route("digits", routed.aliases, *routed.versions[:2], cache_writer.publish("digits", 3))
    digits.follow()
    assert digits.predict("digits/versions/3", [1, 0, 0]).json()["predictions"] == [3.0]


def test_without_champion_the_only_alias_is_the_default_and_two_leave_it_open(digits: Any, cache_writer: Any) -> None:
    versions = cache_writer.cache.read_routes().models["digits"].versions
    cache_writer.route("digits", {"prod": 1}, *versions)
    digits.follow()
    assert digits.predict("digits", [1, 0, 0]).json()["version"] == 1
    cache_writer.route("digits", {"prod": 1, "next": 2}, *versions)
    digits.follow()
    reply = digits.predict("digits", [1, 0, 0])
    assert reply.status_code == 404
    assert (
        "the aliases prod, next and none of them is 'champion'; ask for one by digits@ALIAS" in reply.json()["detail"]
    )
    cache_writer.route("digits", {}, *versions)
    digits.follow()
    detail = digits.predict("digits", [1, 0, 0]).json()["detail"]
    assert detail == "model 'digits' has no alias; ask for one by digits@ALIAS or digits/versions/N"


def test_the_alias_moves_and_the_version_before_stays_reachable(digits: Any, cache_writer: Any) -> None:
    versions = cache_writer.cache.read_routes().models["digits"].versions
    cache_writer.route("digits", {"champion": 1}, *versions)
    digits.follow()
    assert digits.predict("digits", [3, 0, 0]).json() == {"model": "digits", "version": 1, "predictions": [3.0]}
    assert digits.predict("digits/versions/2", [3, 0, 0]).json()["predictions"] == [6.0]


def test_a_version_that_misses_its_golden_examples_never_serves(
    digits: Any, cache_writer: Any, config: Any, start_worker: Any
) -> None:
    versions = cache_writer.cache.read_routes().models["digits"].versions
    bad = cache_writer.publish("digits", 4, golden_factor=4.5)
    cache_writer.route("digits", {"champion": 4}, *versions, bad)
    digits.follow()
    assert digits.predict("digits", [3, 0, 0]).json()["version"] == 2
    reply = digits.predict("digits/versions/4", [3, 0, 0])
    assert reply.status_code == 503
    assert "answers that it was registered with" in reply.json()["detail"]
    ready = digits.client.get("/readyz")
    assert ready.status_code == 200
    assert "champion should serve version 4" in ready.json()["problems"][0]
    assert 'windlass_refused_versions_total{model="digits",version="4"} 1.0' in digits.client.get("/metrics").text
    after_restart = start_worker(config)
    assert after_restart.predict("digits", [3, 0, 0]).json()["version"] == 2


def test_a_damaged_version_is_refused_without_a_path_and_asked_for_again(digits: Any, cache_writer: Any) -> None:
    versions = cache_writer.cache.read_routes().models["digits"].versions
    damaged = cache_writer.publish("digits", 5)
    model = cache_writer.cache.version_directory("digits", 5) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    cache_writer.route("digits", {"champion": 2}, *versions, damaged)
    digits.follow()
    reply = digits.predict("digits/versions/5", [3, 0, 0])
    assert reply.status_code == 503
    assert "damaged" in reply.json()["detail"]
    assert str(cache_writer.cache.directory) not in reply.text
    assert ("digits", 5) in cache_writer.cache.wanted()
    again = cache_writer.publish("digits", 5)
    cache_writer.route("digits", {"champion": 2}, *versions, again)
    digits.follow()
    assert digits.predict("digits/versions/5", [3, 0, 0]).json()["predictions"] == [15.0]


def test_models_and_versions_describe_themselves(digits: Any) -> None:
    (model,) = digits.client.get("/v1/models").json()["models"]
    assert model == digits.client.get("/v1/models/digits").json()
    assert model["aliases"] == {"champion": 2}
    assert model["default_version"] == 2
    assert model["versions"] == [
        {"version": 1, "state": "cached"},
        {"version": 2, "state": "loaded"},
        {"version": 3, "state": "registered"},
    ]
    version = digits.client.get("/v1/models/digits/versions/2").json()
    assert version["aliases"] == ["champion"]
    assert [column["name"] for column in version["signature"]["columns"]] == ["a", "b", "c"]
    assert version["size_bytes"] > 0


def test_nothing_is_ready_before_the_reconciler_has_published(config: Any, start_worker: Any) -> None:
    worker = start_worker(config.model_copy(update={"models": ("digits",)}))
    assert worker.client.get("/livez").json() == {"status": "alive"}
    reply = worker.client.get("/readyz")
    assert reply.status_code == 503
    assert "'digits' is not in the registry" in reply.json()["detail"]


def test_no_page_loads_a_script_from_elsewhere(digits: Any) -> None:
    assert digits.client.get("/docs").status_code == 404
    assert digits.client.get("/redoc").status_code == 404
    paths = digits.client.get("/openapi.json").json()["paths"]
    assert "rows" in str(paths["/v1/models/{name}/predict"]["post"]["requestBody"])


def test_metrics_count_requests_rows_and_loaded_versions(digits: Any) -> None:
    digits.predict("digits", [1, 0, 0], [2, 0, 0])
    text = digits.client.get("/metrics").text
    assert 'windlass_rows_total{model="digits",version="2"} 2.0' in text
    assert 'windlass_loaded_versions{model="digits",version="2"} 1.0' in text
    assert 'route="/v1/models/{name}/predict",status="200"} 1.0' in text


def test_a_compressed_body_is_refused_with_what_to_send(digits: Any) -> None:
    reply = digits.client.post("/v1/models/digits/predict", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert reply.status_code == 415
    assert reply.json()["detail"] == "a body with Content-Encoding 'gzip' is not read; send it uncompressed"
