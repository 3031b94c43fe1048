"""Tables of text: what is read with commas and with tabs, and how what is wrong is said."""

import pytest

from xbl_kit.data import DataError
from xbl_kit.data.readers.text_table import read_text_table


def _read(folder, content, needed=(), **options):
    file = folder / "a.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_text_table(file, needed, **options)


def _lines(rows):
    return [int(where.rpartition(" ")[2]) for where in rows.index]


def test_cells_are_text_and_rows_know_their_lines(tmp_path):
    rows = _read(tmp_path, 'a,b\r\n1,\r\n\r\n"x\ny","1,5"\r\n 007 ,nan\r\n')
    assert rows.to_numpy().tolist() == [["1", ""], ["x\ny", "1,5"], ["007", "nan"]]
    assert list(rows) == ["a", "b"] and _lines(rows) == [2, 4, 6]
    assert rows.index[1] == f"{tmp_path / 'a.txt'}, line 4"


def test_tabs_divide_cells_and_spaces_around_them_do_not_count(tmp_path):
    text = "a \t b\n 1,5\t x y\n\t\n\n3\t4 \n"
    rows = _read(tmp_path, text, ["b"], separator="\t")
    assert rows.to_numpy().tolist() == [["1,5", "x y"], ["3", "4"]], "lines of no cell are blank"
    assert list(rows) == ["a", "b"] and _lines(rows) == [2, 5]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig"])
def test_columns_without_a_name_and_a_byte_order_mark_are_passed_over(tmp_path, coding):
    rows = _read(tmp_path, ",é,\n1,2,3\n".encode(coding), ["é"])
    assert list(rows) == ["é"] and rows["é"].tolist() == ["2"]


def test_a_name_may_hold_the_mark_that_divides_cells(tmp_path):
    assert _read(tmp_path, '"a,b"\n1\n', ["a,b"])["a,b"].tolist() == ["1"]


def test_a_table_of_names_alone_has_no_rows(tmp_path):
    assert _read(tmp_path, "a,b").shape == (0, 2)


BOTH, CSV, TSV = (",", "\t"), (",",), ("\t",)


@pytest.mark.parametrize(
    ("content", "words", "separators"),
    [
        ("", "a.txt: empty file, expected a first line with column names", BOTH),
        ("\n \n\n", "a.txt: empty file", BOTH),
        ("a;b\n", "a.txt: columns are separated by semicolons, expected commas", CSV),
        ("a\tb\n", "columns are separated by tabs, expected commas", CSV),
        ("a|b\n", "columns are separated by bars, expected tabs", TSV),
        ("a,b\n", "columns are separated by commas, expected tabs", TSV),
        ("a{}b{}a\n", "column 'a' is there 2 times", BOTH),
        ("a{}a \n", "column 'a' is there 2 times", TSV),
        ("A{}b\n", r"no column 'a' in its first line, found A, b; rename 'A' to 'a'", BOTH),
        ("{}{}\n", "no column 'a' in its first line, found ", CSV),
        ("a{}b\n1{}2{}3\n", "a.txt, line 2: 3 cells, expected 2 as in line 1", BOTH),
        ("a{}b\n\n\n1\n2\n", r"line 4: 1 cells, expected 2 as in line 1 \(and 1 more", BOTH),
        ('a{}b\n1{}2\n"3{}4\n', r"line 3: not readable as csv \(unexpected end of data", BOTH),
        ('a{}b\n"1"x{}2\n', "line 2: not readable as csv", BOTH),
        (b"a\n\n\xe9\n", "line 3: byte 0xe9 is not UTF-8, perhaps Latin-1; save it as UTF-8", BOTH),
        ("\ufeffa\n1\n".encode() + b"\xe9", "line 3: byte 0xe9 is not UTF-8", BOTH),
        (b"a\n\xff\xfe\n", "line 2: byte 0xff is not UTF-8, perhaps Latin-1", BOTH),
        (b"a\n1\0\n", "line 2: holds a NUL byte, expected text in UTF-8; perhaps saved", BOTH),
        ("a,b\n".encode("utf-16-be"), "line 1: holds a NUL byte", BOTH),
        ("a,b\n".encode("utf-16"), "line 1: saved as UTF-16, expected UTF-8", BOTH),
        (b"PK\3\4\x14\0\6\0", "line 1: a workbook of Excel; save it as CSV", BOTH),
        (b"\xd0\xcf\x11\xe0\xa1", "line 1: a workbook of Excel; save it", BOTH),
    ],
)
def test_a_fault_is_one_line(tmp_path, content, words, separators):
    for separator in separators:
        text = content if isinstance(content, bytes) else content.replace("{}", separator)
        with pytest.raises(DataError, match=words) as error:
            _read(tmp_path, text, ["a"], separator=separator)
        assert "\n" not in str(error.value)


def test_files_that_are_not_there(tmp_path):
    for name, words in (
        ("absent/a.csv", "absent: no such folder"),
        ("a.csv", "a.csv: not found"),
        ("", "not found"),
    ):
        with pytest.raises(DataError, match=words):
            read_text_table(tmp_path / name, ())
