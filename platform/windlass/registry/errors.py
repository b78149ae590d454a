"""What can go wrong between us and MLflow."""

from __future__ import annotations

from windlass.errors import InvalidInputError, WindlassError
from windlass.registry.redaction import redact


class RegistryError(WindlassError):
    """The registry cannot do what was asked."""


class RegistryUnreachableError(RegistryError):
    """The tracking server does not answer, or its database does not."""

    def __init__(self, tracking_uri: str, cause: str) -> None:
        uri = redact(tracking_uri)
        if uri.startswith("http"):
            action = f"check that it runs (`curl {uri}/health`) and that MLFLOW_TRACKING_URI names it"
        else:
            action = "check that the file and its folder can be written and that its disk is not full"
        super().__init__(
            f"MLflow at {uri} does not answer: {_first_line(cause)}; {action}, then run the same command again"
        )
        self.tracking_uri, self.cause = uri, _first_line(cause)


class RegistryRefusedError(RegistryError):
    """The tracking server answered, and refused."""

    def __init__(self, tracking_uri: str, cause: str) -> None:
        uri = redact(tracking_uri)
        super().__init__(
            f"MLflow at {uri} refused: {_first_line(cause)}; check its credentials and `mlflow --version` there"
        )
        self.tracking_uri, self.cause = uri, _first_line(cause)


class InvalidModelNameError(InvalidInputError):
    """A name that no model of ours can have."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{_shortened(name)} is not a model name; "
            "use letters, digits, dots, dashes and underscores, at most 128, the first one a letter or digit"
        )
        self.name = name


class InvalidVersionError(InvalidInputError):
    """What stands behind the slash or the @ is no version and no alias."""

    def __init__(self, spec: str) -> None:
        super().__init__(f"{_shortened(spec)} names no version; write digits, digits/2 or digits@champion")
        self.spec = spec


class ModelNotFoundError(RegistryError):
    """The registry has no model of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no model {name!r}; `windlass models` lists what is registered")
        self.name = name


class VersionNotFoundError(RegistryError):
    """The registry has no such version of the model."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"model {name!r} has no version {version}; see `windlass models show {name}`")
        self.name, self.version = name, version


class AliasNotFoundError(RegistryError):
    """The model has no such alias."""

    def __init__(self, name: str, alias: str, known: list[str]) -> None:
        has = f"it has {', '.join(known)}" if known else "it has none"
        super().__init__(f"model {name!r} has no alias {alias!r}, {has}; see `windlass models show {name}`")
        self.name, self.alias, self.known = name, alias, known


class UnsafeVersionError(RegistryError):
    """A version that we did not write, or that is no longer what we wrote; nothing of it was loaded."""

    def __init__(self, name: str, version: int, cause: str) -> None:
        super().__init__(
            f"version {version} of model {name!r} is refused: {_first_line(cause)}; "
            f"only versions that `windlass run` registered are served, see `windlass models show {name}`"
        )
        self.name, self.version, self.cause = name, version, _first_line(cause)


class NoFamilyError(RegistryError):
    """The version was registered before families were kept."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"version {version} of model {name!r} was registered without the other candidates of its run; "
            "run its recipe again to register one with them"
        )
        self.name, self.version = name, version


class FamilyGoneError(RegistryError):
    """The candidates' files are no longer in the MLflow run."""

    def __init__(self, name: str, version: int, run_id: str, file: str) -> None:
        super().__init__(
            f"the family of version {version} of model {name!r} is gone: MLflow run {run_id} has no {file}; somebody "
            "removed its artifacts: run the recipe again to make the candidates anew"
        )
        self.name, self.version, self.run_id, self.file = name, version, run_id, file


class CandidateNotFoundError(RegistryError):
    """The family has no such candidate."""

    def __init__(self, name: str, version: int, candidate: str, known: list[str]) -> None:
        super().__init__(
            f"the family of version {version} of model {name!r} has no candidate {_shortened(candidate)}, it has "
            f"{', '.join(known)}; see `windlass models family {name}/{version}`"
        )
        self.name, self.version, self.candidate, self.known = name, version, candidate, known


class NothingToGoBackToError(RegistryError):
    """No version is known that the alias named before and that is still there."""

    def __init__(self, name: str, alias: str, skipped: list[str]) -> None:
        gone = f" that is still there ({', '.join(skipped)})" if skipped else ""
        super().__init__(
            f"alias {alias!r} of model {name!r} has named no other version{gone}, as far as Windlass moved it; "
            f"`windlass rollback {name} --alias {alias} --to N` takes any, see `windlass models show {name}`"
        )
        self.name, self.alias, self.skipped = name, alias, skipped


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _first_line(cause: str) -> str:
    """What a database or an HTTP library says first; the rest is statements and internals."""
    line = redact(cause).strip().split("\n", 1)[0]
    return line if len(line) <= 400 else f"{line[:397]}..."
