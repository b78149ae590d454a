"""Rows of another source in the form of a dataset that was prepared before: to measure a version on new data.

Nothing is fitted and nothing is divided: columns, types, classes and transforms are those of the dataset, and every row
is in the test split.
"""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from windlass.data import program
from windlass.data.bundle import BundleWriter, Written
from windlass.data.checks import refuse_bad_rows
from windlass.data.config import DataConfig
from windlass.data.description import DATASET_NAME, Column, DatasetDescription, SplitName
from windlass.data.duckdb_engine import DuckDBEngine, open_duckdb
from windlass.data.errors import BadFileError, MissingColumnError, TargetError, WrongModalityError
from windlass.data.program import Plan, PlannedColumn
from windlass.data.sources import SKLEARN_IMAGES, ResolvedSource
from windlass.data.table import STAGED, bundle_schema, class_index
from windlass.data.tables import RawTable, read_layout
from windlass.progress import track

SPLIT: SplitName = "test"
_SOURCE = "source"
_CHUNK_BYTES = 8 << 20
_SHOWN = 5
_ACTION = "correct the file, or have such rows dropped (--bad-rows drop)"


def prepare_other_rows(
    description: DatasetDescription,
    *,
    source: ResolvedSource,
    bad_rows: str,
    output: Path,
    memory_limit_bytes: int,
    threads: int,
) -> DatasetDescription:
    """Write a bundle of `source` into the existing directory `output`, all rows in its test split.

    Args:
        description: of the dataset whose form the rows get.
        bad_rows: refuse or drop rows that do not parse.
        memory_limit_bytes: of this process as a whole.

    Raises:
        DataError: a column of the dataset is missing, a class was never seen, or a row does not parse.
    """
    config = DataConfig(source="", target=description.target, bad_rows="drop" if bad_rows == "drop" else "refuse")
    images = source.kind in ("idx", "folder") or source.dataset in SKLEARN_IMAGES
    if images != (description.modality == "images"):
        raise WrongModalityError("images" if images else "a table", description.modality)
    if images:
        made = _write_images(description, source, output, memory_limit_bytes, threads)
    else:
        with (
            track("reading", total=100, unit="%") as tracker,
            open_duckdb(
                output.parent, memory_limit_bytes=memory_limit_bytes, threads=threads, tracker=tracker
            ) as engine,
        ):
            made = _write_table(description, config, read_layout(source), engine, output)
            tracker.update(100)
    made = made.model_copy(update={"fingerprint": source.digest})
    made.write(output / DATASET_NAME)
    return made


def _write_table(
    description: DatasetDescription, config: DataConfig, table: RawTable, engine: DuckDBEngine, output: Path
) -> DatasetDescription:
    plan = _plan(description, table)
    engine.open(_SOURCE, table)
    (found,) = engine.stage(STAGED, program.staging(plan, _SOURCE), _SOURCE, [program.bad_totals(plan)])
    assert found is not None
    _, dropped = refuse_bad_rows(config, table, plan, engine.rejects(_SOURCE), dict(found), action=_ACTION)
    names = description.class_names
    if names is not None:
        _refuse_unknown_classes(engine, plan, names)
    schema = bundle_schema(plan.features, plan.target.name, classes=names is not None)
    target = "target" if names is None else class_index(names)
    selected = ", ".join([*(column.sql for column in plan.features), f"{target} AS target", f"'{SPLIT}' AS split"])
    written = engine.write(
        selected,
        f"(SELECT * FROM {STAGED} WHERE bad = 0) AS good",
        ["digest"],
        output=output,
        schema=schema,
        num_classes=None if names is None else len(names),
    )
    if not written.rows[SPLIT]:
        raise BadFileError(table.place, "has no rows that can be used; correct those that are left out")
    return _described(description, written, dropped)


def _plan(description: DatasetDescription, table: RawTable) -> Plan:
    """The dataset's own columns, found in the table by name."""
    positions = {column.name: index for index, column in enumerate(table.columns)}
    planned = []
    for column in _read_columns(description):
        if column.name not in positions:
            raise MissingColumnError("a column that the model reads is missing", column.name, table.place, table.names)
        index = positions[column.name]
        planned.append(PlannedColumn(column.name, index, column.type, table.columns[index].stored))
    by_name = {column.name: column for column in planned}
    features = tuple(by_name[column.name] for column in description.features)
    return Plan(features, by_name[description.target], description.target_kind, None, {})


def _read_columns(description: DatasetDescription) -> tuple[Column, ...]:
    """Without those that only lay beside the features."""
    return tuple(column for column in description.columns if column.role != "carried")


def _refuse_unknown_classes(engine: DuckDBEngine, plan: Plan, names: Sequence[str]) -> None:
    known = ", ".join(map(program.quote, names))
    found = engine.rows(
        f"SELECT target, count(*) FROM {STAGED} WHERE bad = 0 AND target NOT IN ({known}) "
        f"GROUP BY target ORDER BY count(*) DESC, target LIMIT {_SHOWN}"
    )
    if found:
        raise _unknown_classes(plan.target.name, {str(name): count for name, count in found}, names)


def _unknown_classes(target: str, found: dict[str, int], names: Sequence[str]) -> TargetError:
    shown = ", ".join(f"{name!r} ({count:,} rows)" for name, count in found.items())
    known = ", ".join(map(repr, names[:_SHOWN])) + (" …" if len(names) > _SHOWN else "")
    return TargetError(target, f"has classes that the model does not know: {shown}; it knows {known}")


def _write_images(
    description: DatasetDescription, source: ResolvedSource, output: Path, memory_limit_bytes: int, threads: int
) -> DatasetDescription:
    from windlass.data.images import image_batch, image_schema, open_reader

    assert description.image_shape is not None
    assert description.class_names is not None
    config = DataConfig(source="", image_size=description.image_shape[:2])
    reader = open_reader(config, source, memory_limit_bytes, threads)
    if reader.shape != description.image_shape:
        found, wanted = (f"{shape[2]} channels" for shape in (reader.shape, description.image_shape))
        raise BadFileError(source.files[0].name, f"images of {found}; the model was trained on {wanted}")
    index_of = {name: index for index, name in enumerate(description.class_names)}
    unknown = [name for name in reader.class_names if name not in index_of]
    if unknown:
        raise _unknown_classes(
            description.target, _count_labels(reader, unknown, _chunk_images(reader)), list(index_of)
        )
    to_known = np.array([index_of[name] for name in reader.class_names])
    counts = np.zeros(len(index_of), np.int64)
    schema = image_schema(reader.shape)
    with track("images", reader.num_images, "images") as bar, BundleWriter(output, schema) as writer:
        for images_NHWC, labels_N in reader.chunks(_chunk_images(reader)):
            known_N = to_known[labels_N]
            writer.write(SPLIT, image_batch(schema, images_NHWC, known_N))
            counts += np.bincount(known_N, minlength=len(index_of))
            bar.advance(len(labels_N))
    by_split = {split: tuple(counts.tolist()) if split == SPLIT else (0,) * len(counts) for split in writer.rows}
    return _described(description, Written(writer.shards, writer.rows, by_split), dict(reader.dropped))


def _chunk_images(reader: Any) -> int:
    return max(1, _CHUNK_BYTES // int(np.prod(reader.shape)))


def _count_labels(reader: Any, names: Sequence[str], chunk_images: int) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for _, labels_N in reader.chunks(chunk_images):
        counts.update(reader.class_names[label] for label in labels_N.tolist())
    return {name: counts[name] for name in names}


def _described(description: DatasetDescription, written: Written, dropped: dict[str, int]) -> DatasetDescription:
    return description.model_copy(
        update={
            "columns": _read_columns(description),
            "rows": written.rows,
            "shards": written.shards,
            "class_counts": written.class_counts,
            "dropped_rows": dropped,
            "warnings": (),
        }
    )
