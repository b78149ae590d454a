"""What a file's first rows tell: a task, the columns' types, what to leave out; and the recipe that follows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from windlass.data.checks import refuse_bad_rows
from windlass.data.columns import guess_type, is_missing_text, number_of, why_useless
from windlass.data.config import ColumnType, DataConfig
from windlass.data.engine import Engine
from windlass.data.errors import (
    BadFileError,
    BadRowError,
    MissingColumnError,
    NoFeaturesError,
    TargetError,
    WrongModalityError,
)
from windlass.data.program import Plan, PlannedColumn, bad_totals, staging
from windlass.data.sources import resolve_source
from windlass.data.tables import GUESS_ROWS, RawColumn, RawTable, read_layout
from windlass.progress import track
from windlass.schema import Section

MEMORY_LIMIT_BYTES = 10**9
TargetKind = Literal["class", "number"]
_SOURCE = "source"
_CHECKED = "checked"
_MAX_NUMBER_CLASSES = 20
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ -][A-Za-z0-9_]+)*")
_PLAIN_PATH = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_YAML_WORDS = {"true", "false", "null", "yes", "no", "on", "off"}


class Inference(Section):
    """What `windlass init` found in a file."""

    task: Literal["tabular-classification", "tabular-regression"]
    target: str
    columns: dict[str, ColumnType]
    """The feature columns, in the order of the file."""
    left_out: dict[str, str]
    """Column to reason."""
    rows: int
    classes: tuple[str, ...] | None
    """Those among the first rows; None for a regression."""
    bad_rows: str | None = None
    """What `windlass run` would refuse the file for: a row that does not parse, in the words of `BadRowError`."""

    def recipe_text(self, name: str, source: str) -> str:
        """A commented recipe in YAML that runs as it stands.

        Args:
            name: of the recipe; made of lower-case letters, digits and dashes.
            source: what its `data.source` says.
        """
        lines = [
            f"# {self.rows:,} rows; {self._target_text()}",
            f"name: {_yaml(name)}",
            f"task: {self.task}",
            "data:",
            f"  source: {_yaml(source)}",
            f"  target: {_yaml(self.target)}",
            "  columns:  # as inferred; change a type, or leave a line out to have it inferred again",
            *(f"    {_yaml(column)}: {kind}" for column, kind in self.columns.items()),
        ]
        if self.left_out:
            lines.append("  drop:  # left out, and why")
            lines += [f"    - {_yaml(column)}  # {_one_line(reason)}" for column, reason in self.left_out.items()]
        if self.bad_rows is not None:
            lines.append("  bad_rows: drop  # rows that do not parse are left out; refuse would stop at the first")
        lines += self._training_lines()
        return "\n".join(lines) + "\n"

    def _target_text(self) -> str:
        if self.classes is None:
            return f"{_one_line(self.target)} is a number"
        shown = ", ".join(map(_one_line, self.classes[:10])) + (", …" if len(self.classes) > 10 else "")
        return f"{_one_line(self.target)} is one of {len(self.classes)} classes: {shown}"

    def _training_lines(self) -> list[str]:
        small = self.rows < 5_000
        epochs, batch = (40, 64) if small else (20, 256) if self.rows < 100_000 else (5, 1024)
        metric = "accuracy" if self.classes is not None else "R²"
        return [
            "model: {architecture: mlp}  # or linear, or my_model.py:Net",
            f"train: {{epochs: {epochs}, global_batch_size: {batch}, learning_rate: 3e-3}}",
            "compress: {candidates: auto}",
            "budget:  # the smallest candidate that keeps all of this is registered",
            f"  max_quality_drop: 0.02  # in {metric}, against the uncompressed model",
            "  max_size: 5MB",
            "  max_latency_p95_ms: 20",
            "register: {alias: champion}",
        ]


def infer(path: Path, target: str) -> Inference:
    """Tell from a table's first rows what can be learned from it, and read all of it for rows that do not parse.

    Raises:
        DataError: there is no such file or column, the file cannot be read as a table, or nothing can be learned from
            it: no row that parses, one class only, or no column left.
    """
    from windlass.data.duckdb_engine import open_duckdb

    source = resolve_source(str(path), Path.cwd())
    if source.kind in ("idx", "folder"):
        raise WrongModalityError("images", "table")
    table = read_layout(source)
    if target not in table.names:
        raise MissingColumnError("--target", target, table.place, table.names)
    threads = os.cpu_count() or 1
    with (
        track("reading", total=100, unit="%") as tracker,
        open_duckdb(None, memory_limit_bytes=MEMORY_LIMIT_BYTES, threads=threads, tracker=tracker) as engine,
    ):
        engine.open(_SOURCE, table)
        sample = engine.sample(_SOURCE, GUESS_ROWS)
        if not sample:
            _refuse_bad_rows(table, target, "class", {}, engine)
            raise BadFileError(
                table.place, "has a header and no rows; there is nothing to learn from until it has some"
            )
        ((rows,),) = engine.rows(f"SELECT count(*) FROM {_SOURCE}")  # noqa: S608 - no text of a user
        found = _infer(table, target, dict(zip(table.names, zip(*sample, strict=True), strict=True)), rows)
        kind: TargetKind = "class" if found.classes is not None else "number"
        try:
            _refuse_bad_rows(table, target, kind, found.columns, engine)
        except BadRowError as error:
            return found.model_copy(update={"bad_rows": str(error)})
        return found


def _refuse_bad_rows(
    table: RawTable, target: str, kind: TargetKind, columns: Mapping[str, ColumnType], engine: Engine
) -> None:
    """Do with each row what `windlass run` will do: only so is a recipe known to run as it stands."""

    def planned(name: str, type_: ColumnType) -> PlannedColumn:
        index = table.names.index(name)
        return PlannedColumn(name, index, type_, table.columns[index].stored)

    features = tuple(planned(name, type_) for name, type_ in columns.items())
    plan = Plan(features, planned(target, "number" if kind == "number" else "category"), kind, None, {})
    # the digest is of all columns that are read; without it those of text would not be looked at
    checked = f"SELECT bad FROM ({staging(plan, _SOURCE)}) AS staged WHERE digest IS NOT NULL"  # noqa: S608
    (found,) = engine.stage(_CHECKED, checked, _SOURCE, [bad_totals(plan)])
    assert found is not None
    config = DataConfig(source=table.place, target=target)
    refuse_bad_rows(config, table, plan, engine.rejects(_SOURCE), dict(found))


def _infer(table: RawTable, target: str, values: Mapping[str, Sequence[Any]], rows: int) -> Inference:
    labels = values[target]
    present = [label for label in labels if not is_missing_text(label)]
    if not present:
        raise TargetError(target, f"is missing in all of the first {len(labels):,} rows; name another column")
    kind = _target_kind(table.columns[table.names.index(target)], present)
    classes = tuple(sorted(set(map(_class_text, present)))) if kind == "class" else None
    if classes is not None and len(classes) < 2:
        raise TargetError(target, f"every row is of class {classes[0]!r}; at least two classes are needed")
    columns: dict[str, ColumnType] = {}
    left_out = dict.fromkeys(table.nested, "holds lists or objects")
    for column in table.columns:
        if column.name == target:
            continue
        type_ = guess_type(column, values[column.name])
        reason = why_useless(column, type_, values[column.name]) or _why_constant(values[column.name], rows)
        if reason:
            left_out[column.name] = reason
        else:
            columns[column.name] = type_
    for name, score in _leaks(columns, values, target, kind).items():
        left_out[name] = f"alone gives away the target (score {score:.4f} of 1)"
        del columns[name]
    if not columns:
        raise NoFeaturesError(left_out)
    return Inference(
        task="tabular-classification" if kind == "class" else "tabular-regression",
        target=target,
        columns=columns,
        left_out=left_out,
        rows=rows,
        classes=classes,
    )


def _target_kind(column: RawColumn, present: Sequence[Any]) -> TargetKind:
    if guess_type(column, present) == "category":
        return "class"
    numbers = {number_of(value) for value in present}
    whole = all(number is None or number % 1 == 0 for number in numbers)
    return "class" if whole and len(numbers) <= min(_MAX_NUMBER_CLASSES, len(present) / 2) else "number"


def _class_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value % 1 == 0 else str(value).strip()


def _why_constant(values: Sequence[Any], rows: int) -> str | None:
    if len(values) < rows:
        return None
    present = [value for value in values if not is_missing_text(value)]
    if not present:
        return "all values are missing"
    if len(present) == rows and len(set(present)) == 1:
        return f"constant: every value is {present[0]!r}"
    return None


def _leaks(
    columns: Mapping[str, ColumnType],
    values: Mapping[str, Sequence[Any]],
    target: str,
    kind: TargetKind,
) -> dict[str, float]:
    import numpy as np

    from windlass.data.leakage import suspected_leakage

    labels = values[target]
    # a row counts once, or its copies tell the target
    first = {content: row for row, content in enumerate(zip(*values.values(), strict=True))}
    rows = [row for row in sorted(first.values()) if not is_missing_text(labels[row])]
    # files are often sorted by the target; any fixed order that mixes them will do
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    learned = [number_of(labels[row]) if kind == "number" else _class_text(labels[row]) for row in rows]
    if any(value is None for value in learned):
        return {}
    read = {
        name: [number_of(values[name][row]) if type_ == "number" else values[name][row] for row in rows]
        for name, type_ in columns.items()
    }
    return suspected_leakage(read, learned, kind)


def _yaml(text: str) -> str:
    plain = any(pattern.fullmatch(text) for pattern in (_PLAIN, _PLAIN_PATH)) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:120]
