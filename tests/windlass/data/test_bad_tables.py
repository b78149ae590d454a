# ruff: noqa: S311 - random tables, no secrets
from __future__ import annotations

import random
from typing import Any

import pytest

from windlass.data.errors import BadFileError, BadRowError, LeakageError, MissingColumnError, TargetError
from windlass.errors import InvalidInputError

pytestmark = pytest.mark.attack

HEADER = "age,city,y\n"


def lines(count: int = 100) -> list[str]:
    draw = random.Random(0)
    return [f"{draw.gauss(40, 9):.3f},{draw.choice('abc')},{draw.choice(['no', 'yes'])}\n" for _ in range(count)]


def table(count: int = 100, **changed: str) -> str:
    rows = lines(count)
    for row, line in changed.items():
        rows[int(row.removeprefix("row_")) - 2] = line
    return HEADER + "".join(rows)


def refused(
    prepare_table: Any, source: Any, error: type[InvalidInputError] = InvalidInputError, **settings: Any
) -> str:
    with pytest.raises(error) as caught:
        prepare_table(str(source), **settings)
    return str(caught.value)


def test_a_missing_column_is_named_with_close_ones(write: Any, prepare_table: Any) -> None:
    path = write("people.csv", table())
    text = refused(prepare_table, path, MissingColumnError, target="Y")
    assert "data.target: people.csv has no column 'Y'" in text
    assert "did you mean 'y'?" in text
    assert "its columns: age, city, y" in text
    text = refused(prepare_table, path, MissingColumnError, drop=["cty"])
    assert "data.drop: people.csv has no column 'cty'; did you mean 'city'?" in text
    text = refused(prepare_table, path, MissingColumnError, split={"group": "towns"})
    assert "data.split.group" in text


def test_mixed_types_name_file_row_column_and_value(write: Any, prepare_table: Any) -> None:
    path = write("mixed.csv", table(row_57="unknown,a,no\n", row_80="?!,b,no\n"))
    text = refused(prepare_table, path, BadRowError)
    assert "mixed.csv, row 57, column 'age': 'unknown' is not a number" in text
    assert "2 such rows in all" in text
    assert "data.columns.age: category" in text
    assert "data.bad_rows: drop" in text
    kept = prepare_table(str(path), bad_rows="drop").description
    assert kept.dropped_rows == {"column 'age' is not a number": 2}
    assert sum(kept.rows.values()) == 98


def test_rows_are_counted_by_line_where_quoted_values_span_several(write: Any, prepare_table: Any) -> None:
    path = write("mixed.csv", table(row_3='41.5,"a\nb",no\n', row_57="unknown,a,no\n"))
    assert "mixed.csv, row 58, column 'age'" in refused(prepare_table, path)


@pytest.mark.parametrize("label", ["", "NaN", "nan", "NA", "null"])
def test_a_missing_label_is_named(write: Any, prepare_table: Any, label: str) -> None:
    path = write("a.csv", table(row_12=f"30,a,{label}\n"))
    assert "a.csv, row 12, column 'y': the target is missing" in refused(prepare_table, path, BadRowError)
    assert prepare_table(str(path), bad_rows="drop").description.dropped_rows == {"target 'y' is missing": 1}


def test_a_regression_target_that_is_text_is_named(write: Any, prepare_table: Any) -> None:
    text = refused(prepare_table, write("a.csv", table()), BadRowError, kind="number")
    assert "a.csv, row 2, column 'y'" in text
    assert "is not a number" in text


def test_an_empty_file_is_refused(write: Any, prepare_table: Any) -> None:
    assert "a.csv: the file is empty" in refused(prepare_table, write("a.csv", ""), BadFileError)


def test_a_header_without_rows_is_refused(write: Any, prepare_table: Any) -> None:
    assert "a.csv: has a header and no rows" in refused(prepare_table, write("a.csv", HEADER), BadFileError)


def test_one_class_only_is_refused(write: Any, prepare_table: Any) -> None:
    content = table().replace(",yes", ",no")
    text = refused(prepare_table, write("a.csv", content), TargetError)
    assert "target 'y': every row is of class 'no'; at least two classes are needed" in text


def test_numbers_as_classes_are_refused_with_the_task_to_use(write: Any, prepare_table: Any) -> None:
    text = refused(prepare_table, write("a.csv", table()), TargetError, target="age")
    assert "use task: tabular-regression" in text


def test_bytes_that_are_not_utf8_name_their_row(write: Any, prepare_table: Any) -> None:
    early = write("early.csv", table(row_9="30,m\xfcnchen,no\n").encode("latin-1"))
    assert "early.csv, row 9, column 'city': not UTF-8" in refused(prepare_table, early, BadRowError)
    assert prepare_table(str(early), bad_rows="drop").description.dropped_rows == {"does not parse": 1}
    header = write("header.csv", table().replace("city", "\xfcber", 1).encode("latin-1"))
    assert "header.csv: row 1, column 2: not UTF-8" in refused(prepare_table, header, BadFileError)
    late = write("late.csv", table(60_000, row_55555="30,m\xfcnchen,no\n").encode("latin-1"))
    text = refused(prepare_table, late, BadRowError)
    assert "late.csv, row 55555, column 'city': not UTF-8; save the file as UTF-8" in text


def test_utf16_is_refused(write: Any, prepare_table: Any) -> None:
    assert "is UTF-16, not UTF-8" in refused(prepare_table, write("a.csv", table().encode("utf-16")), BadFileError)


def test_a_byte_order_mark_is_no_part_of_the_first_columns_name(write: Any, prepare_table: Any) -> None:
    bundle = prepare_table(str(write("a.csv", b"\xef\xbb\xbf" + table().encode())))
    assert [column.name for column in bundle.description.features] == ["age", "city"]
    assert sum(bundle.description.rows.values()) == 100


@pytest.mark.parametrize(
    ("line", "reason"),
    [("30,a\n", r"too few values \(3 are expected\): '30,a'"), ("30,a,no,4\n", r"too many values \(3 are expected\)")],
)
def test_a_ragged_row_is_named(write: Any, prepare_table: Any, line: str, reason: str) -> None:
    path = write("ragged.csv", table(row_3='41.5,"a\nb",no\n', row_31=line))
    with pytest.raises(BadRowError, match=rf"ragged\.csv, row 32.*: {reason}"):
        prepare_table(str(path))
    kept = prepare_table(str(path), bad_rows="drop").description
    assert kept.dropped_rows == {"does not parse": 1}
    assert sum(kept.rows.values()) == 99


def test_a_column_that_stands_twice_is_refused(write: Any, prepare_table: Any) -> None:
    text = refused(prepare_table, write("a.csv", table().replace("city", "age", 1)), BadFileError)
    assert "a.csv: row 1: column 'age' stands twice, as column 1 and 2" in text


def test_a_file_without_a_header_is_refused(write: Any, prepare_table: Any) -> None:
    text = refused(prepare_table, write("a.csv", "1,2,0\n3,4,1\n"), BadFileError)
    assert "row 1: the header is all numbers" in text


def test_files_with_other_columns_are_refused(write: Any, prepare_table: Any, tmp_path: Any) -> None:
    write("parts/1.csv", table())
    write("parts/2.csv", table().replace("city", "town", 1))
    text = refused(prepare_table, tmp_path / "parts", BadFileError)
    assert "2.csv: lacks column 'city', which 1.csv has" in text


def test_files_with_the_same_columns_in_another_order_are_one_table(
    write: Any, prepare_table: Any, tmp_path: Any
) -> None:
    write("parts/1.csv", table())
    write("parts/2.csv", "y,age,city\n" + "".join(f"no,{i}.5,z\n" for i in range(20)))
    bundle = prepare_table(str(tmp_path / "parts"))
    assert sum(bundle.description.rows.values()) == 120
    assert "z" in bundle.table("train").column("city").to_pylist()


def test_a_copy_of_the_target_is_suspected_leakage(write: Any, prepare_table: Any) -> None:
    rows = "".join(f"{line.rstrip()},{'A' if 'yes' in line else 'B'}\n" for line in lines(200))
    path = write("a.csv", "age,city,y,grade\n" + rows)
    text = refused(prepare_table, path, LeakageError)
    assert "suspected leakage: 'grade'" in text
    assert "data.drop: [grade]" in text
    allowed = prepare_table(str(path), leakage="allow").description
    assert "'grade' alone predicts 'y' almost perfectly" in allowed.warnings[0]


def test_a_regression_target_in_another_unit_is_suspected_leakage(write: Any, prepare_table: Any) -> None:
    draw = random.Random(1)
    prices = [draw.lognormvariate(5, 2) for _ in range(300)]
    rows = "".join(f"{price * 1.1 + 3},{draw.random()},{price}\n" for price in prices)
    text = refused(prepare_table, write("a.csv", "cents,size,y\n" + rows), LeakageError, kind="number")
    assert "'cents'" in text
    assert "'size'" not in text


def test_columns_that_say_nothing_are_left_out_with_the_reason(write: Any, prepare_table: Any) -> None:
    rows = "".join(f"{i + 100},k,,word number {i} of many,{line}" for i, line in enumerate(lines(200)))
    bundle = prepare_table(str(write("a.csv", "user_id,const,empty,note," + HEADER + rows)))
    dropped = bundle.description.dropped_columns
    assert "id-like" in dropped["user_id"]
    assert "constant" in dropped["const"]
    assert "missing" in dropped["empty"]
    assert dropped["note"] == "free text"
    assert [column.name for column in bundle.description.features] == ["age", "city"]


def test_broken_json_lines_are_named(write: Any, prepare_table: Any) -> None:
    draw = random.Random(0)
    rows = [f'{{"age": {draw.gauss(40, 9)}, "y": "{draw.choice(["no", "yes"])}"}}\n' for _ in range(100)]
    rows[41] = '{"age": 3,\n'
    path = write("a.jsonl", "".join(rows))
    assert "a.jsonl, row 42: not a JSON object" in refused(prepare_table, path, BadRowError)
    assert prepare_table(str(path), bad_rows="drop").description.dropped_rows == {"does not parse": 1}


def test_a_parquet_file_that_is_none_is_refused(write: Any, prepare_table: Any) -> None:
    assert "a.parquet: is not Parquet" in refused(prepare_table, write("a.parquet", "hello"), BadFileError)


def test_quotes_and_statements_in_names_and_values_stay_text(write: Any, prepare_table: Any) -> None:
    rows = "".join(f'{line.rstrip()[:-3].rstrip(",")},o\'brien"" \n' for line in lines(3))
    del rows
    content = 'age,"c\'ity""; DROP TABLE staged; --",y\n' + "".join(
        line.replace(",no", ',"no\'; DROP TABLE staged"') for line in lines(200)
    )
    description = prepare_table(str(write("a.csv", content))).description
    assert description.class_names == ("no'; DROP TABLE staged", "yes")
    assert description.features[1].name == "c'ity\"; DROP TABLE staged; --"
