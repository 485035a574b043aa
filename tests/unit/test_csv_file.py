"""Strict CSV: each cell where it belongs, or a problem with its line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.csv_file import CsvRecord, header_problems, likely_delimiter, lines_of, records, too_many_cells
from config.text_file import FileProblem


def read(text: str) -> list[object]:
    lines, named = lines_of(text)
    found = records(lines, named or likely_delimiter(lines[0][1]))
    return [str(one.line) + ": " + str(one.problem) if isinstance(one, FileProblem) else one.cells for one in found]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        ('a;b\n1;"2;3"\n', [["a", "b"], ["1", "2;3"]]),
        ("a\tb\n1\t\n", [["a", "b"], ["1", ""]]),
        ("sep=;\na;b,c\n", [["a", "b,c"]]),
        ('"sep=,"\na;b,c\n', [["a;b", "c"]]),
        ('a,"say ""no"""\n\n , \n', [["a", 'say "no"'], [" ", " "]]),
        ('5" tube,b\n', [['5" tube', "b"]]),
    ],
)
def test_cells_are_read(text: str, cells: list[list[str]]) -> None:
    assert read(text) == cells


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('a,b\n1,"door open\n2,3\n', "2: a quote opens here that the line doesn't close"),
        ('a,b\n1,"door\nopen",\n2,3\n', "2: a quote opens here and closes 1 line below"),
        ('a,b\n1,"x"y\n', "2: behind the quoted cell stands 'y'"),
        ('a,b\n1, "x,y"\n', "2: a blank stands before the quote of the cell"),
        ("a,b\n1," + "x" * 200_000 + "\n", "2: has 200002 characters"),
        ('a,b\n1,"' + "x" * 200_000 + "\n", "2: has 200003 characters"),
    ],
)
def test_a_wrong_quote_is_told_with_the_line_where_it_opens(text: str, told: str) -> None:
    found = [one for one in read(text) if isinstance(one, str)]
    assert found[0].startswith(told)


def test_columns_need_names_of_their_own() -> None:
    problems = header_problems(CsvRecord(1, ["type", "name", " name", "", "kind"]))
    assert [str(one.problem) for one in problems] == [
        "two columns are called 'name' (columns 2 and 3); each needs its own name",
        "column 4 has no name; name it, or delete the column",
    ]


def test_what_stands_beyond_the_last_column_is_told() -> None:
    assert too_many_cells(CsvRecord(2, ["1", "2", " "]), 2, ",") is None
    problem = too_many_cells(CsvRecord(2, ["1", "2", "3"]), 2, "\t")
    assert problem is not None
    assert problem.text() == "line 2: has 3 cells under 2 columns; a tab too much?"
    assert problem.text("zh-CN") == "第 2 行：有 3 个单元格，但只有 2 列，是不是多了一个制表符？"


CELLS = st.text(st.characters(blacklist_characters="\n\r\x00", blacklist_categories=("Cs",)), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=5), st.sampled_from(",;\t"))
def test_what_a_program_writes_is_read_as_it_was(rows: list[list[str]], delimiter: str) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    lines = list(enumerate(out.getvalue().split("\n"), 1))
    assert [one.cells for one in records(lines, delimiter) if isinstance(one, CsvRecord)] == rows


@given(st.text(st.sampled_from(list('",;ab\n \t')), max_size=60))
def test_every_line_is_read_or_told(text: str) -> None:
    lines, _ = lines_of(text)
    found = list(records(lines, ","))
    assert [one.line for one in found] == [number for number, line in lines if line.strip()]
