"""Prepare a table: staged once by the engine, checked, divided, written, its transforms fitted on train."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from windlass.data import program
from windlass.data.bundle import Written
from windlass.data.checks import (
    MAX_CLASSES,
    check_splits,
    class_names,
    duplicates_across_splits,
    refuse_bad_rows,
    useless_columns,
)
from windlass.data.columns import plan_columns
from windlass.data.config import DataConfig
from windlass.data.description import (
    DATASET_NAME,
    Column,
    DatasetDescription,
    TargetTransform,
    Transform,
)
from windlass.data.duckdb_engine import open_duckdb
from windlass.data.engine import Engine, Reader
from windlass.data.errors import BadFileError, LeakageError, NoFeaturesError, UselessSensitiveColumnError
from windlass.data.fit import fit_target, fit_transforms
from windlass.data.leakage import SAMPLE_ROWS, suspected_leakage
from windlass.data.program import Plan, PlannedColumn
from windlass.data.sources import ResolvedSource
from windlass.data.splits import first_bins, split_expression, staging
from windlass.data.tables import GUESS_ROWS, RawColumn, RawTable, Stored, TableFile, read_layout
from windlass.data.totals import Found
from windlass.progress import Tracker, message, track
from windlass.schema import digest_of

if TYPE_CHECKING:
    import pyarrow as pa

    from windlass.data.spark.engine import SparkEngine
    from windlass.data.spark.kubernetes import SparkCluster

STAGED = "staged"
_SOURCE = "source"
_TRAIN = "train"
_FEW_ROWS = 1000


def prepare_table(
    config: DataConfig,
    *,
    target_kind: Literal["class", "number"],
    source: ResolvedSource,
    output: Path,
    memory_limit_bytes: int,
    threads: int,
    carry: Sequence[str] = (),
    cluster: SparkCluster | None = None,
) -> DatasetDescription:
    """Write the bundle of a table. The room for the staged table is taken beside `output`.

    Args:
        carry: columns to be written even where the recipe leaves them out of the features.
        cluster: where Spark makes its executors; None: Spark's tasks run on this machine.

    Raises:
        DataError: the table is not as it has to be; the message names the file, row or column.
    """
    table = read_layout(source)
    with (
        track("prepare", total=100, unit="%") as tracker,
        _open_engine(config, output.parent, memory_limit_bytes, threads, tracker, cluster) as engine,
    ):
        engine.open(_SOURCE, table)
        sample = engine.sample(_SOURCE, GUESS_ROWS)
        plan = plan_columns(config, table, sample, target_kind, carry)
        staged = _stage(config, plan, engine)
        rows, dropped_rows = refuse_bad_rows(config, table, plan, engine.rejects(_SOURCE), staged.bad)
        if rows == 0:
            raise BadFileError(table.place, "has no rows that can be used; correct those that are left out")
        description = _Preparation(config, table, plan, engine, output, staged, dropped_rows, carry).run()
        tracker.update(100)
    description.write(output / DATASET_NAME)
    return description


def _open_engine(
    config: DataConfig,
    beside: Path,
    memory_limit_bytes: int,
    threads: int,
    tracker: Tracker,
    cluster: SparkCluster | None,
) -> AbstractContextManager[Engine]:
    """The engine that the recipe names, with room of its own in the directory `beside`, gone afterwards."""
    if config.engine == "duckdb":
        return open_duckdb(beside, memory_limit_bytes=memory_limit_bytes, threads=threads, tracker=tracker)
    return _open_spark(beside, memory_limit_bytes, threads, cluster)


@contextmanager
def _open_spark(
    beside: Path, memory_limit_bytes: int, threads: int, cluster: SparkCluster | None
) -> Iterator[SparkEngine]:
    from windlass.data.spark.place import cluster_engine, local_engine

    with tempfile.TemporaryDirectory(prefix="prepare-", dir=beside, ignore_cleanup_errors=True) as directory:
        engine = (
            local_engine(Path(directory), threads=threads, memory_limit_bytes=memory_limit_bytes)
            if cluster is None
            else cluster_engine(cluster, Path(directory), memory_limit_bytes=memory_limit_bytes)
        )
        with engine as opened:
            yield opened


@dataclass(frozen=True)
class _Staged:
    """What was counted while a table was staged."""

    bad: dict[int, int]
    """Rows by what is wrong with them, 0 for nothing."""
    classes: dict[str, int] | None
    """Good rows by class, of numbers all as one; None: there are too many classes."""
    limbs: tuple[int, ...]
    """Of all digests, summed."""
    bins: list[Found]
    """`first_bins`."""


def _stage(config: DataConfig, plan: Plan, engine: Engine) -> _Staged:
    wanted = [program.totals(plan, MAX_CLASSES), *first_bins(plan)]
    found, *bins = engine.stage(STAGED, staging(config.split, plan, _SOURCE), _SOURCE, wanted)
    if found is None:
        (bad,) = engine.totals(STAGED, [program.bad_totals(plan)])
        assert bad is not None
        return _Staged(dict(bad), None, (), bins)
    counts: Counter[int] = Counter()
    for code, _, count, *_ in found:
        counts[code] += count
    limbs = tuple(map(sum, zip(*(limbs for _, _, _, *limbs in found), strict=True)))
    return _Staged(dict(counts), {str(name): count for code, name, count, *_ in found if code == 0}, limbs, bins)


class _Preparation:
    """What follows the staging of one table."""

    def __init__(
        self,
        config: DataConfig,
        table: RawTable,
        plan: Plan,
        engine: Engine,
        output: Path,
        staged: _Staged,
        dropped_rows: dict[str, int],
        carry: Sequence[str],
    ) -> None:
        self.config, self.table, self.plan, self.engine, self.output = config, table, plan, engine, output
        self.staged = staged
        self.dropped_rows, self.carry, self.warnings = dropped_rows, carry, list[str]()

    def run(self) -> DatasetDescription:
        names = None
        if self.plan.target_kind == "class":
            names = class_names(self.plan, self.staged.classes, self.staged.bad[0])
        useless = useless_columns(self.engine, self.plan, STAGED, self._sample())
        dropped = dict(self.plan.dropped) | useless
        features = [column for column in self.plan.features if column.name not in useless]
        if not features:
            raise NoFeaturesError(dropped)
        carried = {column.name for column in self.plan.carried}
        for name in self.carry:
            if name in dropped and name not in carried:
                raise UselessSensitiveColumnError(name, dropped[name])
        for column, reason in dropped.items():
            if column not in self.config.drop:
                message(f"column {column!r} is left out: {reason}")
        assert self.staged.classes is not None  # else the target was refused
        counted = (self.staged.classes, self.staged.bins)
        split = split_expression(self.config.split, self.plan, self.engine, STAGED, *counted)
        divided = f"(SELECT *, {split} AS split FROM {STAGED} WHERE bad = 0) AS divided"
        divided = self._without_duplicates(divided)
        written = self._write(features, divided, names)
        check_splits(self.config, self.plan.target.name, written.rows, written.class_counts, names)
        transforms, target_transform = self._fit(features, written)
        return DatasetDescription(
            modality="table",
            target_kind=self.plan.target_kind,
            target=self.plan.target.name,
            columns=(
                *(Column(name=column.name, type=column.type, role="feature") for column in features),
                *(Column(name=column.name, type=column.type, role="carried") for column in self.plan.carried),
                Column(name=self.plan.target.name, type=self.plan.target.type, role="target"),
            ),
            class_names=names,
            rows=written.rows,
            class_counts=written.class_counts,
            shards=written.shards,
            transforms=transforms,
            target_transform=target_transform,
            fingerprint=self._fingerprint(),
            dropped_rows=self.dropped_rows,
            dropped_columns=dropped,
            warnings=tuple(self.warnings),
        )

    def _sample(self) -> list[tuple[Any, ...]]:
        """The features of a few good rows."""
        if not self.plan.features:
            return []
        names = ", ".join(column.sql for column in self.plan.features)
        query = f"SELECT {names} FROM ({staging(self.config.split, self.plan, _SOURCE)}) AS staged WHERE bad = 0"
        return self.engine.sample(_SOURCE, _FEW_ROWS, query)

    def _without_duplicates(self, divided: str) -> str:
        if self.plan.auxiliary is None or self.plan.auxiliary.way != "column" or self.config.duplicates == "allow":
            return divided
        kept, count = duplicates_across_splits(self.config, self.table, self.plan, self.engine, divided)
        if count:
            self.dropped_rows["equal to a row of another split"] = count
        return kept

    def _check_leakage(self, features: list[PlannedColumn], train: Reader) -> None:
        # the order is that of the digests, which no order of the file can bias; a row counts once, or its copies tell
        drawn = dict.fromkeys(row for row in train.sample(_TRAIN, SAMPLE_ROWS))
        *values, target = zip(*drawn, strict=True)
        by_name = {column.name: found for column, found in zip(features, values, strict=False)}
        scores = suspected_leakage(by_name, target, self.plan.target_kind)
        if not scores:
            return
        error = LeakageError(scores, self.plan.target.name)
        if self.config.leakage == "refuse":
            raise error
        warning = f"{', '.join(map(repr, scores))} alone predicts {self.plan.target.name!r} almost perfectly"
        self.warnings.append(warning)
        message(f"warning: {warning}; allowed by data.leakage")

    def _write(self, features: list[PlannedColumn], divided: str, names: tuple[str, ...] | None) -> Written:
        columns = [*features, *self.plan.carried]
        target = "target" if names is None else class_index(names)
        selected = ", ".join([*(column.sql for column in columns), f"{target} AS target", "split"])
        # One order for every engine, thread and place of the source: it decides which rows share a training batch.
        order = ["digest", *(column.sql for column in self.plan.carried)]
        schema = bundle_schema(columns, self.plan.target.name, classes=names is not None)
        num_classes = None if names is None else len(names)
        return self.engine.write(selected, divided, order, output=self.output, schema=schema, num_classes=num_classes)

    def _fit(
        self, features: list[PlannedColumn], written: Written
    ) -> tuple[tuple[Transform, ...], TargetTransform | None]:
        """Fit on the shards of train: what is learned from is what lies there."""
        columns = [*features, *self.plan.carried, self.plan.target]
        names = tuple(column.name for column in columns)
        stored: list[Stored] = ["number" if column.type == "number" else "text" for column in columns[:-1]] + ["number"]
        files = tuple(TableFile(name, str(self.output / name), names) for name in written.shards["train"])
        raw = tuple(RawColumn(name, kind) for name, kind in zip(names, stored, strict=True))
        fitted = [replace(column, index=index) for index, column in enumerate(columns)]
        with self.engine.shards(_TRAIN, RawTable("parquet", raw, files)) as train:
            self._check_leakage(features, train)
            transforms = fit_transforms(train, fitted[: len(features)], _TRAIN, written.rows["train"])
            regression = self.plan.target_kind == "number"
            return transforms, fit_target(train, fitted[-1], _TRAIN) if regression else None

    def _fingerprint(self) -> str:
        columns = [[column.name, column.type] for column in self.plan.read]
        rows, limbs = sum(self.staged.bad.values()), [int(limb) for limb in self.staged.limbs]
        return digest_of({"columns": columns, "rows": rows, "limbs": limbs})


def bundle_schema(features: Sequence[PlannedColumn], target: str, *, classes: bool) -> pa.Schema:
    """How a table's shards store features and target."""
    import pyarrow as pa

    types = {"number": pa.float64(), "category": pa.string()}
    fields = [(column.name, types[column.type]) for column in features]
    return pa.schema([*fields, (target, pa.int64() if classes else pa.float64())])


def class_index(names: tuple[str, ...]) -> str:
    """SQL of the index of a staged row's target among the classes."""
    cases = " ".join(f"WHEN target = {program.quote(name)} THEN {index}" for index, name in enumerate(names))
    return f"CAST(CASE {cases} END AS BIGINT)"
