"""The process that alone talks to MLflow: `python -m windlass_gateway.reconciler CONFIG --life FD`.

It looks at the registry every `poll_interval_s`, fetches what an alias points to, what a worker asked for, and
publishes both to the cache. An alias is published only when its version lies verified in the cache, so whatever
happens to the registry the workers go on with what they have.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

import structlog

from windlass.errors import CorruptedError, WindlassError
from windlass.registry import (
    InvalidModelNameError,
    ModelNotFoundError,
    Registry,
    RegistryUnreachableError,
    UnsafeVersionError,
)
from windlass.registry.registering import MANIFEST_TAG
from windlass_gateway import logs
from windlass_gateway.cache import Cache, RoutedModel, RoutedVersion, Routes, check_name, verify
from windlass_gateway.config import GatewayConfig
from windlass_gateway.errors import CacheInUseError, InvalidNameError
from windlass_gateway.life import Life
from windlass_gateway.metrics import ReconcilerMetrics

_TICK_S = 0.2
_LONGEST_PAUSE_S = 30.0
_REFUSED_PAUSE_S = 60.0

_log = structlog.get_logger()


class Reconciler:
    """Brings the cache to what the registry says. One at a time for each cache."""

    def __init__(self, config: GatewayConfig, cache: Cache, metrics: ReconcilerMetrics) -> None:
        self._config, self._cache, self._metrics = config, cache, metrics
        self._registry = Registry(config.tracking_uri)
        self._routes = Routes()

    def start(self) -> None:
        """Take over the cache: finish nothing that was half done, believe nothing that is damaged."""
        self._cache.empty_tmp()
        try:
            self._routes = self._cache.read_routes().model_copy(update={"absent": None})
        except CorruptedError as error:
            _log.error("routes unreadable, starting anew", reason=str(error))
        for name, model in self._routes.models.items():
            for entry in model.versions:
                if entry.digest is not None and not self._is_intact(name, entry):
                    self._drop(name, entry.version)
        self._cache.write_routes(self._routes)

    def refresh(self) -> None:
        """One look at the registry.

        Raises:
            RegistryError: the registry does not answer, or not as it should; the cache is as it was.
        """
        names = self._config.models or tuple(model.name for model in self._registry.models())
        models: dict[str, RoutedModel] = {}
        problems: list[str] = []
        absent: list[str] = []
        for name in names:
            try:
                models[check_name(name)] = self._reconcile(name, problems)
            except (InvalidNameError, InvalidModelNameError, ModelNotFoundError) as error:
                problems.append(str(error))
                absent.append(name)
        self._metrics.registry_up.set(1)
        changes = {"models": models, "problems": tuple(problems), "absent": tuple(absent)}
        self._publish(self._routes.model_copy(update=changes))
        self._evict()

    def registry_failed(self, error: WindlassError) -> None:
        """Publish that the registry does not answer; what the cache holds goes on serving."""
        self._metrics.registry_up.set(0)
        _log.error("registry unreadable", reason=str(error))
        problem = "the registry cannot be read; what is in the cache goes on serving"
        self._publish(self._routes.model_copy(update={"problems": (problem,)}))

    def fetch_wanted(self) -> None:
        """Fetch what workers have asked for, as far as the registry has it."""
        for name, version in self._cache.wanted():
            entry = self._entry(name, version)
            if entry is not None and self._has_to_be_fetched(name, entry):
                self._update(name, self._fetch(name, version))
                self._evict()
            self._cache.unwant(name, version)

    def _reconcile(self, name: str, problems: list[str]) -> RoutedModel:
        targets = self._registry.aliases(name)
        before = self._routes.models.get(name)
        entries = {}
        for info in self._registry.versions(name):
            version = info.version
            known = None if before is None else before.find(version)
            if known is None or known.digest not in (None, info.tags.get(MANIFEST_TAG)):
                known = RoutedVersion(version=version)
            if version in targets.values() and known.digest is None and _is_due(known):
                known = self._fetch(name, version)
            entries[version] = known
        aliases = {}
        for alias, version in targets.items():
            if version in entries and entries[version].digest is not None:
                aliases[check_name(alias)] = version
                continue
            problems.append(f"{name}@{alias} should serve version {version}, which could not be fetched")
            last = None if before is None else before.aliases.get(alias)
            if last in entries and entries[last].digest is not None:
                aliases[alias] = last
        return RoutedModel(aliases=aliases, versions=tuple(entries.values()))

    def _fetch(self, name: str, version: int) -> RoutedVersion:
        directory = self._cache.new_directory()
        try:
            manifest = self._cache.publish(self._registry.download(name, version, directory / "version"), name, version)
        except RegistryUnreachableError:
            raise
        except (CorruptedError, UnsafeVersionError) as error:
            self._metrics.downloads.labels(name, "refused").inc()
            _log.error("version refused", model=name, version=version, reason=str(error))
            problem = "it is damaged in the registry, or not one that Windlass registered"
            return RoutedVersion(version=version, problem=problem, fetched_at=time.time())
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self._metrics.downloads.labels(name, "fetched").inc()
        _log.info("fetched", model=name, version=version, size_bytes=manifest.size_bytes)
        return RoutedVersion(
            version=version, digest=manifest.digest, size_bytes=manifest.size_bytes, fetched_at=time.time()
        )

    def _has_to_be_fetched(self, name: str, entry: RoutedVersion) -> bool:
        return _is_due(entry) if entry.digest is None else not self._is_intact(name, entry)

    def _is_intact(self, name: str, entry: RoutedVersion) -> bool:
        try:
            return verify(self._cache.version_directory(name, entry.version)).digest == entry.digest
        except CorruptedError as error:
            _log.error("cache damaged", model=name, version=entry.version, reason=str(error))
            return False

    def _evict(self) -> None:
        """Make room: first what the registry no longer has, then versions without alias, longest unused first.

        The one used last stays whatever its size: somebody is waiting for it.
        """
        kept: set[tuple[str, int | None]] = set()
        for name, model in self._routes.models.items():
            for alias, version in model.aliases.items():
                kept |= {(name, version), (name, self._cache.good(name, alias))}
        spare = []
        for name, version in self._cache.stored():
            entry = self._entry(name, version)
            if entry is None or entry.digest is None:
                self._cache.remove(name, version)
            elif (name, version) not in kept:
                last_used = max(self._cache.used_at(name, version), entry.fetched_at or 0.0)
                spare.append((last_used, entry.size_bytes or 0, name, version))
        room = self._config.max_unaliased_bytes
        for position, (_, size_bytes, name, version) in enumerate(sorted(spare, reverse=True)):
            room -= size_bytes
            if room < 0 and position > 0:
                _log.info("evicted", model=name, version=version)
                self._drop(name, version)

    def _drop(self, name: str, version: int) -> None:
        """Out of the routes first, so that no worker is sent to what is not there."""
        self._update(name, RoutedVersion(version=version))
        self._cache.remove(name, version)

    def _entry(self, name: str, version: int) -> RoutedVersion | None:
        model = self._routes.models.get(name)
        return None if model is None else model.find(version)

    def _update(self, name: str, entry: RoutedVersion) -> None:
        model = self._routes.models[name]
        versions = tuple(entry if known.version == entry.version else known for known in model.versions)
        aliases = {
            alias: version
            for alias, version in model.aliases.items()
            if version != entry.version or entry.digest is not None
        }
        changed = model.model_copy(update={"versions": versions, "aliases": aliases})
        self._publish(self._routes.model_copy(update={"models": self._routes.models | {name: changed}}))

    def _publish(self, routes: Routes) -> None:
        if routes != self._routes or not self._cache.routes_path.exists():
            self._routes = routes
            self._cache.write_routes(routes)


def run(config: GatewayConfig, life: Life) -> None:
    """Reconcile until the supervisor is gone.

    Raises:
        CacheInUseError: another reconciler owns the cache.
    """
    cache = Cache(config)
    with cache.lock("reconciler"):
        reconciler = Reconciler(config, cache, ReconcilerMetrics())
        reconciler.start()
        failures, next_look_s = 0, 0.0
        while not life.is_over(_TICK_S):
            is_due = time.monotonic() >= next_look_s
            if failures and not is_due:
                continue
            try:
                if is_due:
                    reconciler.refresh()
                    failures, next_look_s = 0, time.monotonic() + config.poll_interval_s
                reconciler.fetch_wanted()
            except WindlassError as error:
                reconciler.registry_failed(error)
                failures += 1
                next_look_s = time.monotonic() + _pause_s(config.poll_interval_s, failures)


def _is_due(entry: RoutedVersion) -> bool:
    """Whether to fetch a version that is not there: one that was refused is tried again only now and then."""
    return entry.problem is None or time.time() - (entry.fetched_at or 0.0) > _REFUSED_PAUSE_S


def _pause_s(interval_s: float, failures: int) -> float:
    longest_s = max(_LONGEST_PAUSE_S, interval_s)
    return min(longest_s, interval_s * 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--life", type=int, required=True)
    arguments = parser.parse_args()
    logs.configure("reconciler")
    config = GatewayConfig.model_validate_json(arguments.config.read_bytes())
    try:
        run(config, Life(arguments.life))
    except CacheInUseError as error:
        _log.error("cannot start", reason=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
