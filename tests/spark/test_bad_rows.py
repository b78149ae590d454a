from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from windlass.data.errors import BadRowError, TargetError
from windlass.data.sources import resolve_source
from windlass.data.spark.engine import SparkEngine, SparkTaskError
from windlass.data.spark.session import local_settings, spark_context
from windlass.data.tables import read_layout
from windlass.data.totals import Totals

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("small_parts")]

HEADER = "size,kind,y\n"


def lines(count: int) -> list[str]:
    return [f"{i % 90}.{i},{'abc'[i % 3]},{'no' if i % 7 else 'yes'}\n" for i in range(count)]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("1,2\n", "too few values (3 are expected)"),
        ("1,a,no,more\n", "too many values (3 are expected)"),
        ("1,\xff,no\n", "not UTF-8"),
        ('1,"a"b,no\n', "a quoted value that does not end"),
    ],
)
def test_a_bad_line_in_a_late_part_is_told_with_file_and_line_as_duckdb_does(
    tmp_path: Path, prepare_table: Any, bad: str, says: str
) -> None:
    rows = lines(6000)
    rows[4321] = bad
    (tmp_path / "a.csv").write_bytes((HEADER + "".join(rows)).encode("latin-1"))
    said = []
    for engine in ("duckdb", "spark"):
        with pytest.raises(BadRowError) as refused:
            prepare_table(engine, str(tmp_path / "a.csv"))
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert "a.csv, row 4323" in said[1]
    assert says in said[1]


def test_bad_lines_are_counted_over_all_parts_and_left_out_where_the_recipe_says_so(
    tmp_path: Path, prepare_table: Any
) -> None:
    rows = lines(6000)
    for i in (10, 3000, 5999):
        rows[i] = "1\n"
    (tmp_path / "a.csv").write_text(HEADER + "".join(rows))
    with pytest.raises(BadRowError, match=r"a\.csv, row 12.*3 such rows in all"):
        prepare_table("spark", str(tmp_path / "a.csv"))
    description = prepare_table("spark", str(tmp_path / "a.csv"), bad_rows="drop").description
    assert description.dropped_rows == {"does not parse": 3}
    assert sum(description.rows.values()) == 5997


def test_too_many_classes_in_all_parts_together_are_refused_after_bad_rows_and_in_the_words_of_duckdb(
    tmp_path: Path, prepare_table: Any
) -> None:
    rows = [f"{i % 90}.{i},{'abc'[i % 3]},class-{i % 1500}\n" for i in range(6000)]
    path = tmp_path / "a.csv"
    said = []
    for engine in ("duckdb", "spark"):
        path.write_text(HEADER + "".join(rows))
        with pytest.raises(TargetError, match="has more than 1,000 classes in 6,000 rows") as refused:
            prepare_table(engine, str(path))
        path.write_text(HEADER + "".join([*rows[:5000], "many,a,class-1\n", *rows[5000:]]))
        with pytest.raises(BadRowError, match=r"a\.csv, row 5002, column 'size': 'many' is not a number"):
            prepare_table(engine, str(path), columns={"size": "number"})
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_a_json_line_that_is_no_object_is_named(tmp_path: Path, prepare_table: Any) -> None:
    rows = [f'{{"size": {i % 90}, "y": {i % 2}}}\n' for i in range(3000)]
    rows[2500] = "[1, 2]\n"
    (tmp_path / "a.jsonl").write_text("".join(rows))
    with pytest.raises(BadRowError, match=r"a\.jsonl, row 2501: not a JSON object"):
        prepare_table("spark", str(tmp_path / "a.jsonl"))


def test_a_task_that_fails_is_told_with_its_own_words(tmp_path: Path, prepare_table: Any) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(HEADER + "".join(lines(6000)))
    settings = local_settings(tmp_path, threads=2, memory_limit_bytes=2 * 10**9)
    with spark_context(settings) as context:
        engine = SparkEngine(context, settings)
        engine.open("source", read_layout(resolve_source(str(folder), tmp_path)))
        (folder / "b.csv").unlink()
        with pytest.raises(SparkTaskError, match=r"a task failed: .*FileNotFoundError.*b\.csv.*run the same command"):
            engine.stage("staged", "SELECT c0, md5(c0) AS digest FROM source", "source", [Totals(("c0",))])
