"""Prepare's SQL on DuckDB: one process, out of core."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.data.bundle import Written, write_shards
from windlass.data.engine import Reject
from windlass.data.errors import BadFileError, DataError
from windlass.data.sources import s3_filesystem
from windlass.data.tables import RawTable, TableFile, open_bytes, records
from windlass.data.totals import Found, Totals
from windlass.errors import MissingExtraError
from windlass.progress import Tracker
from windlass.schema import format_size

if TYPE_CHECKING:
    import pyarrow as pa

RESERVED_BYTES = 512 * 10**6
"""What the process takes beyond DuckDB's own limit: pyarrow, the interpreter, buffers of the CSV reader."""
_LEAST_BYTES = 256 * 10**6
_POLL_S = 0.5
_BATCH_ROWS = 50_000
_SHOWN_REJECTS = 10
_IS_ROW = "json_valid(line) AND substr(trim(line), 1, 1) = '{'"
_LINE_DELIMITER = chr(1)
_SETTINGS = (
    "SET enable_progress_bar = true",
    "SET enable_progress_bar_print = false",
    # DuckDB 2.0 concludes from a Parquet file's bounds, which leave NaN out, that every number lies within them.
    "SET disabled_optimizers = 'statistics_propagation'",
)
_REASONS = {
    "MISSING COLUMNS": "too few values",
    "TOO MANY COLUMNS": "too many values",
    "INVALID ENCODING": "not UTF-8; save the file as UTF-8",
    "UNQUOTED VALUE": "a quoted value that does not end where its column ends",
    "INVALID STATE": "quotes that do not match",
    "LINE SIZE OVER MAXIMUM": "a line of more than 2 MB",
}


class OutOfMemoryError(DataError):
    """The memory that prepare may use is too little for this table."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"{format_size(limit_bytes)} are too little to prepare this table; raise resources.memory")
        self.limit_bytes = limit_bytes


class DuckDBEngine:
    """See `windlass.data.engine.Engine`. Its database lies in `directory`, which needs room for the table."""

    def __init__(
        self, directory: Path, *, memory_limit_bytes: int, threads: int, tracker: Tracker | None = None
    ) -> None:
        try:
            import duckdb
        except ImportError:
            raise MissingExtraError("preparing a table", "train") from None
        self._limit_bytes, self._tracker = memory_limit_bytes, tracker
        self._tables: dict[str, RawTable] = {}
        self._skipped: list[str] = []
        self._connection = duckdb.connect(
            str(directory / "prepare.duckdb"),
            config={
                "memory_limit": f"{max(_LEAST_BYTES, memory_limit_bytes - RESERVED_BYTES) // 10**6}MB",
                "temp_directory": str(directory / "spill"),
                "threads": threads,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        for statement in _SETTINGS:
            self._connection.execute(statement)

    def open(self, name: str, table: RawTable) -> None:
        """See `Engine.open`."""
        self._tables[name] = table
        groups = [tuple(group) for _, group in groupby(table.files, key=lambda file: (file.names, file.delimiter))]
        selects = [self._select(f"{name}_{i}", table, files) for i, files in enumerate(groups or [()])]
        self.rows(f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {' UNION ALL '.join(selects)}")

    def sample(self, name: str, count: int, query: str | None = None) -> list[tuple[Any, ...]]:
        """See `Engine.sample`."""
        return self.rows(f"SELECT * FROM {f'({query}) AS sampled' if query else name} LIMIT {count}")

    def stage(self, name: str, query: str, source: str, totals: Sequence[Totals]) -> list[Found]:
        """See `Engine.stage`."""
        assert source in self._tables
        self._skipped.clear()
        for rejects in ("reject_errors", "reject_scans"):
            self.rows(f"DROP TABLE IF EXISTS {rejects}")
        self.keep(name, query)
        return self.totals(name, totals)

    def totals(self, relation: str, totals: Sequence[Totals]) -> list[Found]:
        """See `Engine.totals`."""
        return [_most(self.rows(each.query(relation)), each) for each in totals]

    def totals_of(self, batches: Sequence[pa.RecordBatch], totals: Sequence[Totals]) -> list[Found]:
        """Totals of rows that a stream has given, while it goes on."""
        import pyarrow as pa

        beside = self._connection.cursor()
        beside.register("passed", pa.Table.from_batches(batches))
        found = [_most(beside.execute(each.query("passed")).fetchall(), each) for each in totals]
        beside.close()
        return found

    def rejects(self, name: str) -> tuple[int, list[Reject]]:
        """See `Engine.rejects`."""
        table = self._tables[name]
        if table.kind not in ("csv", "jsonl"):
            return 0, []
        if table.files[0].uri.startswith("s3://"):
            found = [Reject(table.place, None, None, f"not a row: {text[:80]!r}") for text in self._skipped]
            return len(found), found[:_SHOWN_REJECTS]
        count, found = self._rejected_lines(table)
        return count, found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """See `Engine.rows`."""
        with self._errors():
            result: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
            return result

    def keep(self, name: str, query: str) -> None:
        """See `Engine.keep`."""
        with self._progress():
            self.rows(f"CREATE TABLE {name} AS {query}")

    def load(self, name: str, rows: pa.RecordBatchReader) -> None:
        """Keep the rows of a stream under `name`."""
        self._connection.register("loaded", rows)
        self.keep(name, "SELECT * FROM loaded")
        self._connection.unregister("loaded")

    def write(
        self,
        columns: str,
        relation: str,
        order: Sequence[str],
        *,
        output: Path,
        schema: pa.Schema,
        num_classes: int | None,
    ) -> Written:
        """See `Engine.write`."""
        query = f"SELECT {columns} FROM {relation} ORDER BY {', '.join(order)}"
        return write_shards(self.stream(query, _BATCH_ROWS), output, schema, num_classes)

    @contextmanager
    def shards(self, name: str, table: RawTable) -> Iterator[DuckDBEngine]:
        """See `Engine.shards`."""
        self.open(name, table)
        yield self

    def stream(self, query: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """A result of any length, in the order of its source."""
        with self._errors():
            yield from self._connection.sql(query).to_arrow_reader(batch_rows)

    def schema(self, query: str) -> pa.Schema:
        """What a result is made of."""
        with self._errors():
            return self._connection.sql(query).limit(0).to_arrow_reader(1).schema

    def close(self) -> None:
        self._connection.close()

    def _select(self, name: str, table: RawTable, files: tuple[TableFile, ...]) -> str:
        if table.kind == "memory":
            self._connection.register(name, table.memory)
            return _typed(table, name, table.names)
        if files[0].uri.startswith("s3://"):
            self._connection.register(name, self._dataset(table, files))
            relation = name
        else:
            relation = _scan(table, files)
        if table.kind == "jsonl":
            return _from_json(table, relation)
        return _typed(table, relation, files[0].names if table.kind == "parquet" else None, files[0].names)

    def _dataset(self, table: RawTable, files: Sequence[TableFile]) -> Any:
        """A rescannable `pyarrow.dataset`: DuckDB's own S3 reader would download itself at run time."""
        import pyarrow as pa
        import pyarrow.dataset as ds
        from pyarrow import csv

        paths = [file.uri.removeprefix("s3://") for file in files]
        if table.kind == "parquet":
            return ds.dataset(paths, format="parquet", filesystem=s3_filesystem())
        names = ["line"] if table.kind == "jsonl" else [f"f{i}" for i in range(len(files[0].names))]

        def skip(row: Any) -> str:
            self._skipped.append(str(row.text))
            return "skip"

        format_ = ds.CsvFileFormat(
            parse_options=csv.ParseOptions(
                delimiter=_LINE_DELIMITER if table.kind == "jsonl" else files[0].delimiter,
                quote_char=False if table.kind == "jsonl" else '"',
                newlines_in_values=table.kind == "csv",
                invalid_row_handler=skip,
            ),
            read_options=csv.ReadOptions(column_names=names, skip_rows=int(table.kind == "csv")),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
        schema = pa.schema([(name, pa.string()) for name in names])
        return ds.dataset(paths, format=format_, filesystem=s3_filesystem(), schema=schema)

    def _rejected_lines(self, table: RawTable) -> tuple[int, list[Reject]]:
        files = {file.uri: file for file in table.files}
        count = self.rows("SELECT count(DISTINCT (scan_id, file_id, line_byte_position)) FROM reject_errors")[0][0]
        found = self.rows(
            "SELECT s.file_path, e.line_byte_position, min(e.column_idx), min(e.error_type::VARCHAR), min(e.csv_line) "
            "FROM reject_errors e JOIN reject_scans s ON s.scan_id = e.scan_id AND s.file_id = e.file_id "
            f"GROUP BY ALL ORDER BY s.file_path, e.line_byte_position LIMIT {_SHOWN_REJECTS}"
        )
        rejects = [_reject(files[path], table, *rest) for path, *rest in found]
        if table.kind == "jsonl":
            lines = _scan(table, table.files)
            ((bad,),) = self.rows(f"SELECT count(*) FROM {lines} WHERE NOT ({_IS_ROW}) AND trim(line) <> ''")
            count += bad
            if bad and not rejects:
                rejects = [_first_bad_line(table)]
        return count, rejects

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise OutOfMemoryError(self._limit_bytes) from error
        except (duckdb.InvalidInputException, duckdb.IOException) as error:
            place = next((table.place for table in self._tables.values()), "the data")
            raise BadFileError(place, f"cannot be read: {str(error).splitlines()[0]}") from error

    @contextmanager
    def _progress(self) -> Iterator[None]:
        if self._tracker is None:
            yield
            return
        tracker, finished = self._tracker, threading.Event()

        def poll() -> None:
            while not finished.wait(_POLL_S):
                tracker.update(max(0.0, self._connection.query_progress()))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


@contextmanager
def open_duckdb(
    beside: str | Path | None, *, memory_limit_bytes: int, threads: int, tracker: Tracker | None = None
) -> Iterator[DuckDBEngine]:
    """An engine with room of its own in the directory `beside`, gone afterwards; None: where the system has its own."""
    with tempfile.TemporaryDirectory(prefix="prepare-", dir=beside, ignore_cleanup_errors=True) as directory:
        engine = DuckDBEngine(Path(directory), memory_limit_bytes=memory_limit_bytes, threads=threads, tracker=tracker)
        with closing(engine):
            yield engine


def _most(found: list[tuple[Any, ...]], totals: Totals) -> Found:
    return found if len(found) <= totals.most else None


def text_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _scan(table: RawTable, files: Sequence[TableFile]) -> str:
    paths = "[" + ", ".join(text_literal(file.uri) for file in files) + "]"
    if table.kind == "parquet":
        return f"read_parquet({paths})"
    common = f"{paths}, auto_detect=false, store_rejects=true, escape='', strict_mode=true"
    if table.kind == "jsonl":
        return f"read_csv({common}, columns={{'line': 'VARCHAR'}}, header=false, delim='{_LINE_DELIMITER}', quote='')"
    columns = ", ".join(f"'f{i}': 'VARCHAR'" for i in range(len(files[0].names)))
    common = common.replace("escape=''", "escape='\"'")
    return (
        f"read_csv({common}, columns={{{columns}}}, header=true, delim={text_literal(files[0].delimiter)}, quote='\"')"
    )


def _typed(table: RawTable, relation: str, names: Sequence[str] | None, positions: Sequence[str] = ()) -> str:
    """Select c0, c1, … by the file's own names, or by position where the reader names its columns f0, f1, …"""
    columns = []
    for i, column in enumerate(table.columns):
        name = _quoted(column.name) if names is not None else f"f{positions.index(column.name)}"
        match column.stored:
            case "number":
                expression = f"CAST({name} AS DOUBLE)"
            case "boolean":
                expression = f"CASE WHEN {name} THEN 'true' WHEN NOT {name} THEN 'false' END"
            case _:
                expression = f"CAST({name} AS VARCHAR)"
        columns.append(f"{expression} AS c{i}")
    return f"SELECT {', '.join(columns)} FROM {relation}"


def _from_json(table: RawTable, relation: str) -> str:
    paths = ", ".join(text_literal(f'$."{column.name}"') for column in table.columns)
    columns = ", ".join(f"found[{i + 1}] AS c{i}" for i in range(len(table.columns)))
    extracted = f"SELECT json_extract_string(line, [{paths}]) AS found FROM {relation} WHERE {_IS_ROW}"
    return f"SELECT {columns} FROM ({extracted})"


def _reject(file: TableFile, table: RawTable, position: int, column: int | None, kind: str, text: str | None) -> Reject:
    reason = _REASONS.get(kind, kind.lower())
    expected = f" ({len(file.names)} are expected)" if kind in ("MISSING COLUMNS", "TOO MANY COLUMNS") else ""
    shown = f": {text[:80]!r}" if text else ""
    names = file.names if table.kind == "csv" else ()
    named = names[min(column, len(names)) - 1] if names and column else None
    return Reject(file.name, line_at(file, position), named, f"{reason}{expected}{shown}")


def line_at(file: TableFile, position: int) -> int:
    """The line on which a byte lies, both from 1: DuckDB counts rows, and a quoted value may span lines."""
    line, left = 1, position - 1
    with open_bytes(file.uri) as stream:
        while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
            line += chunk.count(b"\n")
            left -= len(chunk)
    return line


def _first_bad_line(table: RawTable) -> Reject:
    for file in table.files:
        for line, row in records(table, file):
            if not row:
                return Reject(file.name, line, None, "not a JSON object")
    return Reject(table.place, None, None, "not a JSON object")
