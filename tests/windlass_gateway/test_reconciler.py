"""The reconciler against a real registry on SQLite."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import WindlassError
from windlass.registry.registering import MANIFEST_TAG
from windlass.registry.tracking import connect
from windlass_gateway.cache import Cache
from windlass_gateway.config import GatewayConfig
from windlass_gateway.metrics import ReconcilerMetrics
from windlass_gateway.reconciler import Reconciler

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def reconciler_of(tmp_path: Path) -> Callable[..., Reconciler]:
    def make(tracking_uri: str, **settings: Any) -> Reconciler:
        config = GatewayConfig(tracking_uri=tracking_uri, cache=tmp_path / "cache", **settings)
        config.cache.mkdir(exist_ok=True)
        reconciler = Reconciler(config, Cache(config), ReconcilerMetrics())
        reconciler.start()
        return reconciler

    return make


def cache_of(registry: Any, tmp_path: Path, **settings: Any) -> Cache:
    return Cache(GatewayConfig(tracking_uri=registry.tracking_uri, cache=tmp_path / "cache", **settings))


def test_aliased_versions_come_eagerly_others_when_wanted_and_the_least_recently_used_go(
    registry: Any, reconciler_of: Any, tmp_path: Path
) -> None:
    for _ in range(4):
        registry.register("digits")
    registry.point("digits", "champion", 4)
    reconciler = reconciler_of(registry.tracking_uri)
    cache = cache_of(registry, tmp_path)
    reconciler.refresh()
    model = cache.read_routes().models["digits"]
    assert model.aliases == {"champion": 4}
    assert [entry.version for entry in model.versions if entry.digest] == [4]
    size_bytes = next(entry.size_bytes for entry in model.versions if entry.size_bytes)

    small = reconciler_of(registry.tracking_uri, max_unaliased_bytes=int(2.5 * size_bytes))
    for version in (1, 2):
        cache.want("digits", version)
    small.fetch_wanted()
    assert sorted(cache.stored()) == [("digits", 1), ("digits", 2), ("digits", 4)]
    assert cache.wanted() == []
    cache.touch("digits", 1)
    os.utime(tmp_path / "cache/used/digits/1", (2e9, 2e9))
    cache.want("digits", 3)
    small.fetch_wanted()
    assert sorted(cache.stored()) == [("digits", 1), ("digits", 3), ("digits", 4)]
    assert [entry.version for entry in cache.read_routes().models["digits"].versions if entry.digest] == [1, 3, 4]


def test_an_alias_is_published_only_with_a_version_that_verifies(
    registry: Any, reconciler_of: Any, tmp_path: Path
) -> None:
    registry.register("digits")
    registry.register("digits")
    registry.point("digits", "champion", 1)
    reconciler = reconciler_of(registry.tracking_uri)
    reconciler.refresh()
    damaged = next(path for path in registry.artifacts.rglob("model.onnx") if registry.version_of(path) == 2)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    registry.point("digits", "champion", 2)
    reconciler.refresh()
    routes = cache_of(registry, tmp_path).read_routes()
    assert routes.models["digits"].aliases == {"champion": 1}
    assert "version 2" in routes.problems[0]
    assert not (tmp_path / "cache/versions/digits/2").exists()


def test_a_damaged_cache_is_repaired_from_the_registry(registry: Any, reconciler_of: Any, tmp_path: Path) -> None:
    registry.register("digits")
    registry.point("digits", "champion", 1)
    reconciler_of(registry.tracking_uri).refresh()
    model = tmp_path / "cache/versions/digits/1/model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + b"\x00")
    reconciler = reconciler_of(registry.tracking_uri)
    assert not model.exists()
    reconciler.refresh()
    assert model.read_bytes() == content


def test_a_registry_that_is_not_there_leaves_the_cache_as_it_is(
    registry: Any, reconciler_of: Any, tmp_path: Path
) -> None:
    registry.register("digits")
    registry.point("digits", "champion", 1)
    reconciler_of(registry.tracking_uri).refresh()
    # its tables are gone: every question fails
    database = Path(registry.tracking_uri.removeprefix("sqlite:///"))
    database.write_bytes(b"no database")
    reconciler = reconciler_of(registry.tracking_uri)
    with pytest.raises(WindlassError, match="does not answer") as caught:
        reconciler.refresh()
    reconciler.registry_failed(caught.value)
    routes = cache_of(registry, tmp_path).read_routes()
    assert routes.models["digits"].aliases == {"champion": 1}
    assert "cannot be read" in routes.problems[0]


def test_the_cache_of_another_registry_is_not_served(registry: Any, reconciler_of: Any, tmp_path: Path) -> None:
    registry.register("digits")
    registry.point("digits", "champion", 1)
    reconciler_of(registry.tracking_uri).refresh()
    reconciler_of("http://127.0.0.1:1")
    assert cache_of(registry, tmp_path).read_routes().models == {}


def test_a_cached_version_that_the_registry_knows_with_another_digest_is_not_believed(
    registry: Any, reconciler_of: Any, tmp_path: Path
) -> None:
    registry.register("digits")
    registry.point("digits", "champion", 1)
    reconciler = reconciler_of(registry.tracking_uri)
    reconciler.refresh()
    connect(registry.tracking_uri).set_model_version_tag("digits", "1", MANIFEST_TAG, "0" * 64)
    reconciler.refresh()
    model = cache_of(registry, tmp_path).read_routes().models["digits"]
    assert model.aliases == {}
    assert model.versions[0].problem is not None


def test_only_the_models_that_were_asked_for_are_fetched(registry: Any, reconciler_of: Any, tmp_path: Path) -> None:
    for name in ("digits", "wine"):
        registry.register(name)
        registry.point(name, "champion", 1)
    reconciler_of(registry.tracking_uri, models=("wine", "absent")).refresh()
    routes = cache_of(registry, tmp_path).read_routes()
    assert list(routes.models) == ["wine"]
    assert "'absent'" in routes.problems[0]
