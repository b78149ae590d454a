"""The user's files, published where every process of a run can read them."""

from __future__ import annotations

from pathlib import Path

from windlass.data.sources import ResolvedSource, SourceFile
from windlass.recipe.resolve import ResolvedRecipe
from windlass.storage import Workspace


def publish_inputs(resolved: ResolvedRecipe, workspace: Workspace) -> ResolvedRecipe:
    """The same recipe, its module below the root's `inputs/`, and its data too where the root is an object store.

    On a local root data are read where they lie: a copy would double the disk that they take. The digests are the
    same in both cases, and so are the steps' keys.

    Raises:
        InputChangedError: a file was written to meanwhile.
        StorageError: of `windlass.storage`; nothing was started.
    """
    changes: dict[str, object] = {}
    if (module := resolved.module) is not None:
        reference = workspace.put_input(Path(module.path))
        changes["module"] = module.model_copy(update={"reference": reference})
    if workspace.uri.startswith("s3://"):
        changes["source"] = _publish_source(resolved.source, workspace)
    return resolved.model_copy(update=changes)


def _publish_source(source: ResolvedSource, workspace: Workspace) -> ResolvedSource:
    local: dict[str, list[SourceFile]] = {}
    for file in source.files:
        if not file.uri.startswith("s3://"):
            local.setdefault(file.uri.removesuffix(file.name), []).append(file)
    moved: dict[str, str] = {}
    for directory, files in local.items():
        reference = workspace.put_input(Path(directory), [file.name for file in files])
        located = workspace.locate(reference)
        moved |= {file.uri: located[file.name] for file in files}
    readable = tuple(file.model_copy(update={"uri": moved.get(file.uri, file.uri)}) for file in source.files)
    return source.model_copy(update={"files": readable})
