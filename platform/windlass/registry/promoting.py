"""What happens to a family after its registration: a loser is promoted, an alias goes back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from windlass.registry.aliases import history_of, move_alias
from windlass.registry.errors import (
    AliasNotFoundError,
    CandidateNotFoundError,
    NothingToGoBackToError,
    UnsafeVersionError,
    VersionNotFoundError,
)
from windlass.registry.family import VARIANT_TAG, Family, KeptCandidate, version_tags
from windlass.registry.reader import DEFAULT_ALIAS, ModelVersion, Registry, VersionInfo
from windlass.registry.registering import MANIFEST_TAG, PARENT_TAG, RUN_KEY_TAG, create_version
from windlass.registry.tracking import connect, refusals
from windlass.schema import Section, digest_of

_INHERITED_TAGS = ("windlass.recipe", "windlass.dataset")


class Promotion(Section):
    """A candidate that has a version, and the alias that names it now."""

    model: str
    candidate: str
    version: int
    created: bool
    """Not when the candidate had a version already."""
    parent: int
    """The version whose family it comes from."""
    alias: str | None
    previous: int | None
    """What the alias named until now."""
    fits: bool | None
    reason: str
    """The verdict on it, when its run chose."""


class Skipped(Section):
    """A version that the alias named and that it cannot go back to."""

    version: int
    why: str


class Rollback(Section):
    """An alias that went back."""

    model: str
    alias: str
    previous: int | None
    """None if there was no such alias any more."""
    version: int
    skipped: tuple[Skipped, ...]


def registered_as(candidate: KeptCandidate, versions: Sequence[VersionInfo]) -> list[VersionInfo]:
    """The versions that are this candidate, those of its own family first; of the same model by another run, too."""
    same = [version for version in versions if version.ours and version.tags.get(VARIANT_TAG) == candidate.variant]
    return sorted(same, key=lambda version: (version.tags.get(MANIFEST_TAG) != candidate.manifest, version.version))


def promote(
    tracking_uri: str, name: str, candidate: str, *, version: int | None = None, alias: str | None = DEFAULT_ALIAS
) -> Promotion:
    """Make a version of a candidate that its run did not choose, and let an alias name it.

    The files are those that lie in the MLflow run; they are verified, and give their golden answers, before anything is
    written. A candidate that has a version already gets no second one.

    Args:
        version: the one whose family is meant; default: the champion, or else the newest.
        alias: None leaves all aliases where they are.

    Raises:
        ModelNotFoundError, VersionNotFoundError, CandidateNotFoundError: there is no such thing.
        NoFamilyError, FamilyGoneError: the run kept no files, or they were removed.
        UnsafeVersionError: the version is not one of ours, or a file is not what was registered.
        GoldenMismatchError: the candidate does not answer as it did when it was made; no alias was moved.
    """
    registry = Registry(tracking_uri)
    parent = registry.resolve(name if version is None else f"{name}/{version}")
    family = registry.family(name, parent.version)
    kept = family.candidate(candidate)
    if kept is None:
        known = [each.name for each in family.candidates]
        raise CandidateNotFoundError(name, parent.version, candidate, known)
    existing = next(iter(registered_as(kept, registry.versions(name))), None)
    _check_answers(registry, parent, kept, existing)
    number = existing.version if existing else _create(registry, parent, family, kept)
    previous = None
    if alias is not None:
        with refusals(tracking_uri):
            previous = move_alias(connect(tracking_uri), tracking_uri, name, alias, number, by="promote")
    return Promotion(
        model=name,
        candidate=candidate,
        version=number,
        created=existing is None,
        parent=parent.version,
        alias=alias,
        previous=previous,
        fits=kept.fits,
        reason=kept.reason,
    )


def _check_answers(
    registry: Registry, parent: ModelVersion, candidate: KeptCandidate, existing: VersionInfo | None
) -> None:
    from windlass.variants import GOLDEN_NAME, GoldenExamples, golden, open_variant
    from windlass.variants.engines import load_engine

    with tempfile.TemporaryDirectory(prefix="windlass-promote-") as temporary:
        target = Path(temporary) / "version"
        if existing is not None:
            directory = registry.download(existing.name, existing.version, target)
        else:
            directory = registry.download_candidate(parent.name, parent.version, candidate, target)
        engine = load_engine(directory, open_variant(directory), threads=1)
        golden.check(engine, GoldenExamples.read(directory / GOLDEN_NAME))


def _create(registry: Registry, parent: ModelVersion, family: Family, candidate: KeptCandidate) -> int:
    """The version of the candidate: the one that another process has made meanwhile, or a new one."""
    name, uri = parent.name, registry.tracking_uri
    info = registry.version(name, parent.version)
    run_key = digest_of({"promote": candidate.manifest, "family": family.digest, "model": name})
    tags = {
        **{tag: info.tags[tag] for tag in _INHERITED_TAGS if tag in info.tags},
        **version_tags(family, candidate),
        PARENT_TAG: f"{name}/{parent.version}",
        MANIFEST_TAG: candidate.manifest,
        RUN_KEY_TAG: run_key,
    }
    source = registry.candidate_source(name, parent.version, candidate)
    with refusals(uri):
        return int(create_version(connect(uri), uri, name, run_key, source, info.run_id, tags).version)


def rollback(tracking_uri: str, name: str, *, alias: str = DEFAULT_ALIAS, to: int | None = None) -> Rollback:
    """Let an alias name the version again that it named before.

    A second rollback undoes the first one, as with `kubectl rollout undo`: it goes back to what the alias named before,
    which is where it came from. `to` goes further. Versions that were deleted since are passed over.

    Raises:
        ModelNotFoundError, VersionNotFoundError: there is no such model, or no version `to`.
        AliasNotFoundError: the model has never had such an alias, as far as is known.
        UnsafeVersionError: `to` is not one of ours.
        NothingToGoBackToError: it has named no other version, or none that is still there.
    """
    registry = Registry(tracking_uri)
    aliases = registry.aliases(name)
    current, moves = aliases.get(alias), history_of(registry.model_tags(name), alias)
    if current is None and not moves:
        raise AliasNotFoundError(name, alias, sorted(aliases))
    versions = {version.version: version for version in registry.versions(name)}
    skipped: list[Skipped] = []
    if to is not None:
        target: int | None = _chosen(name, to, versions)
    else:
        target = _earlier([move.version for move in reversed(moves)], current, versions, skipped)
    if target is None:
        raise NothingToGoBackToError(name, alias, [f"version {each.version} {each.why}" for each in skipped])
    with refusals(tracking_uri):
        previous = move_alias(connect(tracking_uri), tracking_uri, name, alias, target, by="rollback")
    return Rollback(model=name, alias=alias, previous=previous, version=target, skipped=tuple(skipped))


def _chosen(name: str, version: int, versions: dict[int, VersionInfo]) -> int:
    if version not in versions:
        raise VersionNotFoundError(name, version)
    if not versions[version].ours:
        raise UnsafeVersionError(name, version, "it was not registered by windlass")
    return version


def _earlier(
    named: list[int], current: int | None, versions: dict[int, VersionInfo], skipped: list[Skipped]
) -> int | None:
    """The newest of the versions that the alias named that is another than now and can be gone back to."""
    for version in dict.fromkeys(named):
        if version == current:
            continue
        if version not in versions:
            skipped.append(Skipped(version=version, why="was deleted"))
        elif not versions[version].ours:
            skipped.append(Skipped(version=version, why="was not registered by windlass"))
        else:
            return version
    return None
