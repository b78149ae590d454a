"""The versions that a worker holds: follows the cache, checks each version before it serves it, swaps at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import structlog

from windlass.errors import CorruptedError, WindlassError
from windlass.variants import GOLDEN_NAME, GoldenExamples, Variant, golden, open_variant
from windlass.variants.engines import Engine, load_engine
from windlass_gateway.cache import Cache, RoutedModel, RoutedVersion, Routes, check_name, verify
from windlass_gateway.config import GatewayConfig
from windlass_gateway.errors import (
    NoDefaultVersionError,
    NotReadyError,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
    VersionNotReadyError,
    VersionRefusedError,
)
from windlass_gateway.metrics import WorkerMetrics

_WATCH_INTERVAL_S = 0.25
_RETRY_AFTER_S = 1
_CATCH_UP_S = 5.0
_TOUCH_INTERVAL_S = 10.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Loaded:
    """A version that has passed its check. Requests keep their reference: a swap never takes it from them."""

    name: str
    version: int
    digest: str
    size_bytes: int
    variant: Variant
    engine: Engine


class ModelTable:
    """Routes names, aliases and versions to loaded versions. Lives on one event loop; loads in a thread."""

    def __init__(self, config: GatewayConfig, metrics: WorkerMetrics) -> None:
        self._config, self._metrics = config, metrics
        self._cache = Cache(config)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._refreshing = asyncio.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._loaded: dict[tuple[str, int], Loaded] = {}
        self._served: dict[tuple[str, str], Loaded] = {}
        self._refused: dict[tuple[str, int], tuple[RoutedVersion, str]] = {}
        """What failed its check, and why; it is tried again when it has been fetched again."""
        self._touched: dict[tuple[str, int], float] = {}
        self.routes = Routes()

    async def watch(self) -> None:
        """Follow the cache until cancelled."""
        while True:
            try:
                await self.refresh()
            except OSError as error:
                _log.error("cache unreadable", reason=str(error))
            await asyncio.sleep(_WATCH_INTERVAL_S)

    async def refresh(self) -> None:
        """Take over what the reconciler has published since the last time; a second caller waits for the first."""
        async with self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        stamp = self._cache.routes_stamp()
        if stamp is None or stamp == self._stamp:
            return
        try:
            self.routes = self._cache.read_routes()
        except CorruptedError as error:
            _log.error("routes unreadable", reason=str(error))
            self._stamp = stamp
            return
        for name, model in self.routes.models.items():
            for alias, version in model.aliases.items():
                await self._serve(name, alias, version)
        self._forget()
        self._stamp = stamp

    async def _serve(self, name: str, alias: str, version: int) -> None:
        before = self._served.get((name, alias))
        loaded = await self._load_or_none(name, version)
        if loaded is None and before is None:
            good = self._cache.good(name, alias)
            loaded = None if good is None else await self._load_or_none(name, good)
        if loaded is None or loaded is before:
            return
        self._served[name, alias] = loaded
        self._cache.remember_good(name, alias, loaded.version)
        _log.info("serving", model=name, alias=alias, version=loaded.version)

    def _forget(self) -> None:
        """Drop what the reconciler no longer publishes and no alias needs."""
        aliases = {(name, alias) for name, model in self.routes.models.items() for alias in model.aliases}
        self._served = {key: loaded for key, loaded in self._served.items() if key in aliases}
        serving = {(loaded.name, loaded.version) for loaded in self._served.values()}
        for key, loaded in list(self._loaded.items()):
            entry = self._entry_or_none(*key)
            if key not in serving and (entry is None or entry.digest != loaded.digest):
                del self._loaded[key]
                self._metrics.loaded.labels(key[0], str(key[1])).set(0)

    async def by_name(self, name: str, alias: str | None = None) -> Loaded:
        """The version that the name means: by the alias, else by `champion`, else by the model's only alias.

        Raises:
            InvalidNameError, UnknownModelError, UnknownAliasError, NoDefaultVersionError, VersionNotReadyError,
            VersionRefusedError.
        """
        try:
            return self._by_name(name, alias)
        except (UnknownModelError, UnknownAliasError, NoDefaultVersionError, VersionNotReadyError):
            await self._catch_up()
            return self._by_name(name, alias)

    def _by_name(self, name: str, alias: str | None) -> Loaded:
        model = self._model(name)
        alias = alias or model.default_alias
        if alias is None:
            raise NoDefaultVersionError(name, tuple(model.aliases))
        if alias not in model.aliases:
            raise UnknownAliasError(name, alias)
        loaded = self._served.get((name, alias))
        if loaded is not None:
            return loaded
        version = model.aliases[alias]
        if (name, version) in self._refused:
            raise VersionRefusedError(name, version, self._refused[name, version][1])
        raise VersionNotReadyError(name, version, _RETRY_AFTER_S)

    async def _catch_up(self) -> None:
        """Another worker may know already what this one is about to deny: look before saying no."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_S):
                await self.refresh()

    async def by_version(self, name: str, version: int) -> Loaded:
        """A version by its number; one that is not in the cache is asked for.

        Raises:
            InvalidNameError, UnknownModelError, UnknownVersionError, VersionNotReadyError, VersionRefusedError.
        """
        try:
            entry = self._entry(name, version)
        except (UnknownModelError, UnknownVersionError):
            await self._catch_up()
            entry = self._entry(name, version)
        if entry.digest is None:
            self._cache.want(name, version)
            if entry.problem is not None:
                raise VersionRefusedError(name, version, entry.problem)
            raise VersionNotReadyError(name, version, _RETRY_AFTER_S)
        self._touch(name, version)
        return await self._load(name, entry)

    def _model(self, name: str) -> RoutedModel:
        model = self.routes.models.get(check_name(name))
        if model is None:
            raise UnknownModelError(name)
        return model

    def _entry(self, name: str, version: int) -> RoutedVersion:
        entry = self._model(name).find(version)
        if entry is None:
            raise UnknownVersionError(name, version)
        return entry

    def state(self, name: str, entry: RoutedVersion) -> str:
        """`loaded`, `refused`, `cached`, or `registered` only."""
        if (name, entry.version) in self._loaded:
            return "loaded"
        if (name, entry.version) in self._refused:
            return "refused"
        return "registered" if entry.digest is None else "cached"

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a model with the version that answers for each now."""
        return {alias: loaded.version for (model, alias), loaded in sorted(self._served.items()) if model == name}

    def problems(self) -> list[str]:
        """What keeps this worker behind the registry, the last good versions serving meanwhile."""
        refused = [
            f"{name}@{alias} should serve version {version}, which is refused: {self._refused[name, version][1]}"
            for name, model in self.routes.models.items()
            for alias, version in model.aliases.items()
            if (name, version) in self._refused
        ]
        return [*self.routes.problems, *refused]

    def check_ready(self) -> None:
        """Pass when every alias of every model that is to be served has a version that answers.

        Raises:
            NotReadyError: with what is missing.
        """
        missing = [f"model {name!r} is not in the registry" for name in self._config.models if not self._knows(name)]
        missing += [
            f"{name}@{alias} has no version that answers yet"
            for name, model in self.routes.models.items()
            for alias in model.aliases
            if (name, alias) not in self._served
        ]
        if self._stamp is None:
            missing.append("the reconciler has not published anything yet")
        if missing:
            raise NotReadyError([*missing, *self.problems()])

    def close(self) -> None:
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _knows(self, name: str) -> bool:
        return name in self.routes.models

    def _entry_or_none(self, name: str, version: int) -> RoutedVersion | None:
        model = self.routes.models.get(name)
        return None if model is None else model.find(version)

    async def _load_or_none(self, name: str, version: int) -> Loaded | None:
        entry = self._entry_or_none(name, version)
        if entry is None or entry.digest is None:
            return None
        try:
            return await self._load(name, entry)
        except VersionRefusedError:
            return None

    async def _load(self, name: str, entry: RoutedVersion) -> Loaded:
        """A version that lies in the cache, loaded and checked."""
        key = (name, entry.version)
        loaded = self._loaded.get(key)
        if loaded is not None and loaded.digest == entry.digest:
            return loaded
        refused = self._refused.get(key)
        if refused is not None and refused[0] == entry:
            raise VersionRefusedError(name, entry.version, refused[1])
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(self._loader, self._load_now, name, entry)
        except WindlassError as error:
            reason = _public_reason(error)
            self._refused[key] = (entry, reason)
            if isinstance(error, CorruptedError):
                self._cache.want(name, entry.version)
            self._metrics.refused.labels(name, str(entry.version)).inc()
            _log.error("version refused", model=name, version=entry.version, reason=str(error))
            raise VersionRefusedError(name, entry.version, reason) from error
        self._refused.pop(key, None)
        self._loaded[key] = loaded
        self._metrics.loaded.labels(name, str(entry.version)).set(1)
        return loaded

    def _load_now(self, name: str, entry: RoutedVersion) -> Loaded:
        already = self._loaded.get((name, entry.version))
        if already is not None and already.digest == entry.digest:
            return already
        directory = self._cache.version_directory(name, entry.version)
        manifest = verify(directory)
        if manifest.digest != entry.digest:
            raise CorruptedError(f"{directory} holds another version than the one that was published")
        variant = open_variant(directory)
        config = self._config
        engine = load_engine(directory, variant, config.threads, workers=config.workers, device=config.device)
        golden.check(engine, GoldenExamples.read(directory / GOLDEN_NAME))
        return Loaded(name, entry.version, manifest.digest, manifest.size_bytes, variant, engine)

    def _touch(self, name: str, version: int) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._touched.get((name, version), -_TOUCH_INTERVAL_S) >= _TOUCH_INTERVAL_S:
            self._touched[name, version] = now_s
            self._cache.touch(name, version)


def _public_reason(error: WindlassError) -> str:
    """Why a version is refused, without paths of this machine."""
    if isinstance(error, golden.GoldenMismatchError):
        return "it does not give the answers that it was registered with"
    if isinstance(error, CorruptedError):
        return "its files are damaged or not those that were registered"
    return "it does not load; the gateway's log says why"
