"""Reading prices and returns: every layout, every choice for gaps, and every way an input can be at fault."""

from __future__ import annotations

import datetime
import gzip
import os
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxalloc.arguments.errors import InputError
from jaxalloc.markets import panel as reading
from jaxalloc.markets.cells import is_date
from jaxalloc.markets.panel import Panel, as_panel
from jaxalloc.markets.vocabulary import parts_of, role_of, says_per_cent

RETURNS = "date,A,B\n2020-01-01,.01,.02\n2020-01-02,-.01,.03\n2020-01-03,.02,.01\n"
PRICES = "date,A,B\n2020-01-01,100,20\n2020-01-02,101,21\n2020-01-03,99,22\n2020-01-06,98,20\n"
# A misses one return of five, B two, C none.
GAPS = (
    "date,A,B,C\n2020-01-01,,.2,.1\n2020-01-02,.4,.3,.2\n2020-01-03,.3,NA,.1\n"
    "2020-01-06,.1,null,.3\n2020-01-07,.2,.1,.4\n"
)
LONG = (
    "date,symbol,value\n2020-01-01,B,.02\n2020-01-02,B,.03\n2020-01-03,B,.01\n"
    "2020-01-01,A,.01\n2020-01-02,A,-.01\n2020-01-03,A,.02\n"
)
DATES = pd.date_range("2020-01-01", periods=3, freq="D")


def read_returns(source: object, kind: str = "returns", missing: str = "error", **choices: object) -> Panel:
    """Read what is said to hold returns; `test_kinds` leaves that to the reader."""
    return reading.read_returns(source, kind, missing, **choices)  # type: ignore[arg-type]


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def frame(a: object = (0.01, -0.01, 0.02), b: object = (0.02, 0.03, 0.01), index: object = DATES) -> pd.DataFrame:
    return pd.DataFrame({"A": a, "B": b}, index=index)  # type: ignore[arg-type]


def refusal(source: object, *parts: str, **choices: object) -> str:
    """The message of the refusal: one line, naming each of `parts`, and the file where there is one."""
    with pytest.raises(InputError) as caught:
        read_returns(source, **choices)  # type: ignore[arg-type]
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    if isinstance(source, Path):
        assert message.startswith(str(source)), message
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"
    return message


def assert_same(left: Panel, right: Panel) -> None:
    assert left.symbols == right.symbols
    assert list(left.dates) == list(right.dates)
    np.testing.assert_array_equal(left.values, right.values)


# ---- the panel ------------------------------------------------------------------------------------------------------


def test_panel_properties(tmp_path: Path) -> None:
    panel = read_returns(write(tmp_path, RETURNS))
    assert panel.symbols == ["A", "B"]
    assert (panel.n_observations, panel.n_assets) == (3, 2)
    assert list(panel.dates) == list(DATES)
    assert panel.values.dtype == np.float64
    np.testing.assert_array_equal(panel.values, [[0.01, 0.02], [-0.01, 0.03], [0.02, 0.01]])
    assert panel.notes == ()
    with pytest.raises(AttributeError):
        panel.notes = ("changed",)  # type: ignore[misc]


def test_as_panel_takes_panels_and_frames_only() -> None:
    panel = read_returns(frame())
    assert as_panel(panel) is panel
    assert_same(as_panel(frame()), panel)
    with pytest.raises(InputError, match="missing returns"):
        as_panel(frame(a=[0.1, np.nan, 0.2]))
    for wrong in (np.zeros((3, 2)), "returns.csv", None):
        with pytest.raises(InputError, match=f"got {type(wrong).__name__}; use read_returns"):
            as_panel(wrong)  # type: ignore[arg-type]


def test_panel_does_not_share_memory_with_the_frame() -> None:
    source = frame()
    panel = read_returns(source)
    source.iloc[0, 0] = 9.0
    assert panel.values[0, 0] == 0.01


def test_importing_does_not_load_pyarrow_parquet() -> None:
    code = "import sys, jaxalloc.markets.panel; sys.exit('pyarrow.parquet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- files and layouts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", RETURNS),
        ("first header cell empty.csv", RETURNS.removeprefix("date")),
        ("a.CSV", RETURNS.replace("\n", "\r\n")),
        ("byte order mark.csv", b"\xef\xbb\xbf" + RETURNS.encode()),
        ("blank lines.csv", "\n" + RETURNS.replace("\n", "\n\n  \n")),
        ("spaces.csv", RETURNS.replace(",", " , ")),
        ("tab.txt", RETURNS.replace(",", "\t")),
        ("semicolon.csv", RETURNS.replace(",", ";")),
        ("a.csv.gz", gzip.compress(RETURNS.encode(), mtime=0)),
        ("no suffix", RETURNS),
        ("quoted.csv", re.sub(r"([^,\n]+)", r'"\1"', RETURNS)),
        ("spaces before quotes.csv", re.sub(r"([^,\n]+)", r' "\1"', RETURNS)),
        ("slashes.csv", RETURNS.replace("2020-01-", "2020/01/")),
        ("compact.csv", RETURNS.replace("2020-01-", "202001")),
        ("names.csv", re.sub(r"2020-01-(\d\d)", r"\1-Jan-2020", RETURNS)),
    ],
)
def test_ways_to_write_a_text_file(tmp_path: Path, name: str, content: str | bytes) -> None:
    panel = read_returns(write(tmp_path, content, name))
    assert_same(panel, read_returns(frame()))
    assert panel.notes == ()
    assert read_returns(str(tmp_path / name)).symbols == ["A", "B"]


@pytest.mark.parametrize("name", ["a.parquet", "a.pq", "by content"])
@pytest.mark.parametrize("dates", ["index", "column", "date objects"])
def test_parquet(tmp_path: Path, name: str, dates: str) -> None:
    table = frame() if dates == "index" else frame(index=None).assign(Date=DATES)
    if dates == "date objects":
        table["Date"] = table["Date"].dt.date
    table.to_parquet(tmp_path / name)
    assert_same(read_returns(tmp_path / name), read_returns(frame()))


def test_parquet_whose_columns_repeat_a_name(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([0.1, 0.2]), pa.array([0.2, 0.3])], names=["A", "A"]), path)
    refusal(path, "head more than one column: 'A'")


def test_long_layout_equals_wide(tmp_path: Path) -> None:
    wide = read_returns(pd.DataFrame(frame()[["B", "A"]]))  # symbols come in the order in which they appear
    for number, content in enumerate(
        [
            LONG,
            LONG.replace("date,symbol,value", "Date,TICKER,Return"),
            "\ufeff" + LONG,
            re.sub("(?m)^(.*),(.*),(.*)$", r"\2,\3,\1", LONG),
            re.sub("(?m)^(.*),(.*),(.*)$", r"\3,\1,\2", LONG.replace("symbol,value", "asset,close")),
        ]
    ):
        panel = read_returns(write(tmp_path, content, f"{number}.csv"))
        assert_same(panel, wide)
        assert panel.notes == ()
    by_position = write(tmp_path, LONG.replace("date,symbol,value", "x,y,z"))
    assert_same(read_returns(by_position, layout="long"), wide)
    assert_same(read_returns(by_position), wide)  # by its dates, which repeat, and its one column of words
    refusal(write(tmp_path, LONG), "appears more than once", layout="wide")


def test_long_frames(tmp_path: Path) -> None:
    wide = read_returns(frame())
    long = frame().rename_axis(index="date", columns="symbol").stack().to_frame("value")
    assert_same(read_returns(long), wide)
    assert_same(read_returns(pd.DataFrame(frame().stack())), wide)  # no names at all
    assert_same(read_returns(long.reset_index()), wide)
    assert_same(read_returns(long.reset_index().set_index("date")), wide)
    unnamed = long.reset_index().set_axis(["x", "y", "z"], axis=1)
    assert_same(read_returns(unnamed, layout="long"), wide)
    assert_same(read_returns(unnamed.assign(x=unnamed["x"].astype(str)), layout="long"), wide)
    long.reset_index().to_parquet(tmp_path / "long.parquet")
    assert_same(read_returns(tmp_path / "long.parquet"), wide)


def test_long_layout_refusals(tmp_path: Path) -> None:
    refusal(write(tmp_path, LONG + "2020-01-02,A,.5\n"), "symbol 'A', row 2020-01-02", "line 8", "1 repeat in all")
    refusal(write(tmp_path, LONG.replace(",-.01", ",abc")), "symbol 'A', row 2020-01-02 (line 6): 'abc' is not")
    refusal(write(tmp_path, LONG.replace("2,A", "2,")), "line 6 has no symbol")
    refusal(write(tmp_path, LONG.replace("2020-01-02,A", "soon,A")), "line 6, column 'date': 'soon' is not a date")
    last = re.sub("(?m)^(.*),(.*),(.*)$", r"\3,\2,\1", LONG).replace("2020-01-02", "soon")
    refusal(write(tmp_path, last), "line 3, column 'date': 'soon' is not a date")
    wider = LONG.replace("\n", ",7\n").replace("value,7", "value,volume")
    assert read_returns(write(tmp_path, wider)).notes == ("Took 'value' of each asset; left out 'volume'.",)
    unknown = wider.replace("value,volume", "x,y")
    refusal(write(tmp_path, unknown), "which of the columns 'x', 'y' holds the values", "columns='x'")
    assert_same(read_returns(write(tmp_path, unknown), columns="x"), read_returns(write(tmp_path, LONG, "long.csv")))
    wordless = "date,a,b,c\n2020-01-01,.1,.2,.1\n2020-01-02,.1,.3,.2\n"
    refusal(write(tmp_path, wordless), "names the asset of each row", layout="long")


def test_long_layout_without_some_symbols_on_some_dates(tmp_path: Path) -> None:
    path = write(tmp_path, LONG.replace("2020-01-02,B,.03\n", ""))
    refusal(path, "missing returns (1, in 1 of 2 symbols): 'B' (1)")
    panel = read_returns(path, missing="mask")
    np.testing.assert_array_equal(np.argwhere(np.isnan(panel.values)), [[1, 0]])


def test_long_layout_out_of_order_is_sorted_and_noted(tmp_path: Path) -> None:
    lines = LONG.splitlines(keepends=True)
    panel = read_returns(write(tmp_path, "".join([lines[0], *reversed(lines[1:])])))
    assert panel.dates.is_monotonic_increasing
    assert panel.notes == ("Sorted 6 rows by date: they were not in ascending order.",)


def is_plain(name: str) -> bool:
    """Whether a name means nothing to the reader: neither a field, a unit of per cent nor a date."""
    return role_of(name) is None and parts_of(name) is None and not says_per_cent(name) and not is_date(name)


# Hypothesis also draws words that stand in the package, such as the names of fields
SYMBOLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8).map(str.strip)
SYMBOLS = SYMBOLS.filter(is_plain)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    symbols=st.lists(SYMBOLS.filter(bool), min_size=1, max_size=5, unique=True),
    n_rows=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
    gaps=st.booleans(),
)
def test_wide_long_and_parquet_give_the_same_bits(
    tmp_path: Path, symbols: list[str], n_rows: int, seed: int, gaps: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = np.clip(rng.normal(0, 0.1, (n_rows, len(symbols))), -1, 1)
    if gaps:  # one symbol is complete: a long file knows no date on which all are missing
        values[rng.random(values.shape) < 0.2] = np.nan
        values[:, 0] = np.arange(n_rows) / 100
        values[[0, -1]] = [[0.01], [-0.01]]
    dates = pd.date_range("2021-03-01", periods=n_rows, name="date")
    table = pd.DataFrame(values, index=dates, columns=pd.Index(symbols))
    table.to_csv(tmp_path / "wide.csv")
    table.to_parquet(tmp_path / "wide.parquet")
    long = pd.DataFrame(
        {"date": np.repeat(dates, len(symbols)), "symbol": symbols * n_rows, "value": values.ravel()}
    ).dropna()
    long.to_csv(tmp_path / "long.csv", index=False)
    expected = read_returns(table, missing="mask")
    assert expected.symbols == symbols
    np.testing.assert_array_equal(expected.values, values)
    assert_same(read_returns(tmp_path / "wide.csv", missing="mask", layout="wide"), expected)
    assert_same(read_returns(tmp_path / "wide.parquet", missing="mask", layout="wide"), expected)
    assert_same(read_returns(tmp_path / "long.csv", missing="mask"), expected)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(alphabet='dateA,;"\n\r\t 20-1.x_', max_size=80).map(str.encode))
def test_any_bytes_give_a_panel_or_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("a.csv", "a.gz", "a.parquet", "a"):
        try:
            panel = read_returns(write(tmp_path, content, name), missing="mask")
        except InputError as error:
            lines = str(error).splitlines()
        else:
            lines = ["read"]
            assert panel.dates.is_unique
            assert panel.dates.is_monotonic_increasing
        assert len(lines) == 1


# ---- files that are no tables ---------------------------------------------------------------------------------------


def test_unreadable_files(tmp_path: Path) -> None:
    refusal(tmp_path / "nope.csv", "nope.csv: there is no such file; check the path")
    refusal(tmp_path, "this is a directory")
    refusal("a\0b.txt", "a\\x00b.txt: the file cannot be read")
    assert "a\\nb.csv: there is no such file" in refusal(str(tmp_path / "a\nb.csv"))
    assert len(refusal("x" * 9000)) < 400
    path = write(tmp_path, RETURNS)
    path.chmod(0)
    if not os.access(path, os.R_OK):  # root reads all
        refusal(path, "Permission denied", "permissions")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", " \n\n", "the file is empty"),
        ("a.csv", '""', "the file is empty"),
        ("a.csv", bytes(range(256)), "not a table in text"),
        ("a.csv", "date,A\n2020-01-01,\0\n", "not a table in text"),
        ("a.xlsx", b"PK\x03\x04\xff\xfe", "the archive cannot be read"),
        ("a.xls", b"\xd0\xcf\x11\xe0" + b"x" * 60, "a workbook of an old kind (.xls); save it as .xlsx"),
        ("a.xls", "<html><table><tr><td>1</td></tr></table>", "a web page"),
        ("a.csv.gz", gzip.compress(RETURNS.encode(), mtime=0)[:-9], "gzip file is damaged"),
        ("a.parquet", RETURNS, "not a readable Parquet file"),
        ("a.parquet", b"", "not a readable Parquet file"),
        ("a", b"PAR1" + b"x" * 60, "not a readable Parquet file"),
        ("a.csv", "date,A,B\n", "there are no rows"),
        ("a.csv", "hello\nworld\n", "there are no asset columns"),
        ("a.csv", "date,A,B\n2020-01-01,1,2\n2020-01-02,1\n", "line 3 has 2 cells where the header has 3"),
        ("a.csv", "date,A,B\n\n2020-01-01,1,2,3\n", "line 3 has 4 cells where the header has 3"),
        ("a.csv", RETURNS + '"2020-01-04,1,2\n', "line 5 cannot be read as CSV"),
        ("a.csv", RETURNS + ",1,1\n", "line 5 has no date"),
        ("a.csv", RETURNS.replace("\n", ",1\n").replace("B,1", "B,"), "asset column 3 has no symbol"),
        ("a.csv", RETURNS.partition("\n")[2], "the first line holds data where the names should be"),
    ],
)
def test_not_a_table(tmp_path: Path, name: str, content: str | bytes, part: str) -> None:
    refusal(write(tmp_path, content, name), part)


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    refusal(write(tmp_path, content[:-20], "cut.parquet"), "not a readable Parquet file")


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (np.zeros((3, 2)), "cannot read returns from ndarray"),
        (None, "cannot read returns from NoneType"),
        ([0.1, 0.2], "cannot read returns from list"),
        (pd.DataFrame(), "no asset columns"),
        (pd.DataFrame(index=DATES), "no asset columns"),
        (frame([], [], pd.DatetimeIndex([])), "there are no rows"),
    ],
)
def test_not_a_usable_frame(source: object, part: str) -> None:
    refusal(source, part)


@pytest.mark.parametrize(
    ("choices", "part"),
    [
        ({"kind": "price"}, "kind is 'price'; it must be one of 'auto', 'returns', 'prices', 'percent', 'factors'"),
        ({"kind": ["prices"]}, "kind is"),
        ({"missing": "drop"}, "missing is 'drop'; it must be one of 'error', 'mask', 'zero', 'carry', 'drop-assets'"),
        ({"missing": None}, "missing is 'None'"),
        ({"layout": "tall"}, "layout is 'tall'; it must be one of 'auto', 'wide', 'long'"),
        *(({"missing_tolerance": wrong}, "missing_tolerance is") for wrong in (-0.1, 1.1, np.nan, "0.1", None, True)),
    ],
)
def test_unknown_choices(choices: dict[str, object], part: str) -> None:
    refusal(frame(), part, **choices)


# ---- symbols --------------------------------------------------------------------------------------------------------


def test_symbols_are_plain_text(tmp_path: Path) -> None:
    odd = [
        "<script>alert(1)</script>",
        "=cmd|' /C calc'!A0",
        "BRK B",
        "NA",
        "nan",
        "null",
        "10001",
        "é€",
        'a"b',
        "date",
    ]
    table = pd.DataFrame([[0.01 * k for k in range(10)], [0.02] * 10], index=DATES[:2], columns=pd.Index(odd))
    table["date"] = [0.1, 0.3]
    table["BRK B"] = [0.1, 0.3]
    table.rename(columns={"NA": "  NA "}).to_csv(tmp_path / "odd.csv")
    assert read_returns(tmp_path / "odd.csv").symbols == odd
    long = write(tmp_path, LONG.replace(",B,", ",NA,").replace(",A,", ",007,"), "long.csv")
    assert read_returns(long).symbols == ["NA", "007"]


def test_repeated_and_empty_symbols(tmp_path: Path) -> None:
    refusal(write(tmp_path, "date,A,B,A\n2020-01-01,1,2,3\n"), "symbols that head more than one column: 'A'; rename")
    refusal(write(tmp_path, "date,A, A \n2020-01-01,1,2\n"), "more than one column: 'A'")
    refusal(write(tmp_path, "date,A,\n2020-01-01,1,2\n"), "asset column 2 has no symbol")
    refusal(frame().set_axis([1, "1"], axis=1), "more than one column: '1'")
    refusal(frame().set_axis([None, "1"], axis=1), "asset column 1 has no symbol")
    refusal(frame().set_axis(["A", np.nan], axis=1), "asset column 2 has no symbol")
    many = pd.DataFrame(np.arange(42.0).reshape(3, 14), index=DATES, columns=pd.Index([*"ABCDEFG", *"ABCDEFG"]))
    refusal(many, "'A', 'B', 'C', 'D', 'E' and 2 more")
    assert read_returns(frame().set_axis([1, 2], axis=1)).symbols == ["1", "2"]


# ---- dates ----------------------------------------------------------------------------------------------------------


def test_unsorted_dates_are_sorted_and_noted(tmp_path: Path) -> None:
    header, *lines = RETURNS.splitlines()
    panel = read_returns(write(tmp_path, "\n".join([header, *reversed(lines)])))
    assert_same(panel, read_returns(frame()))
    assert panel.notes == ("Sorted 3 rows by date: they were not in ascending order.",)
    # Prices are sorted before they are differenced.
    header, *lines = PRICES.splitlines()
    mixed = read_returns(write(tmp_path, "\n".join([header, *lines[::-1]])), kind="prices")
    assert_same(mixed, read_returns(write(tmp_path, PRICES, "sorted.csv"), kind="prices"))


def test_duplicate_dates(tmp_path: Path) -> None:
    path = write(tmp_path, RETURNS + "2020-01-02,0,0\n")
    refusal(path, "the date 2020-01-02 appears more than once (line 3 and line 5; 2 rows", "keep one row")
    refusal(frame(index=[1, 2, 1]), "the observation 1 appears more than once (row number 1 and row number 3")
    refusal(frame(index=DATES[[0, 0, 1]] + pd.Timedelta(hours=10)), "the date 2020-01-01T10:00:00")


@pytest.mark.parametrize(
    ("first", "second", "part"),
    [
        ("2020-01-01", "01/02/2020", "line 3, column 'date': '01/02/2020' is not a date like '2020-01-01'"),
        ("soon", "2020-01-02", "line 2, column 'date': 'soon' is not a date like '2020-01-02'"),
        ("soon", "later", "line 2, column 'date': 'soon' is not a date; write"),
        ("01/30/2020", "30/01/2020", "line 3, column 'date': '30/01/2020' is not a date like '01/30/2020'"),
        ("2020-02-28", "2020-02-30", "line 3, column 'date': '2020-02-30' is not a date like"),
        ("01/12/2020", "02/12/2020", "line 2: the date '01/12/2020' may be 2020-12-01 or 2020-01-12"),
        ("2020-01-01 00:00:00-05:00", "2020-01-02", "line 3: the date '2020-01-02' has no UTC offset"),
        ("today", "now", "line 2, column 'date': 'today' is not a date"),
        ("", "2020-01-02", "line 2 has no date"),
        ("200113", "200103", "the first cell of column 'date' is '200113', not a date"),
        ("0.5", "1.5x", "line 2, column 'date': '0.5' is not a date"),
        ("0", "7", "the first cell of column 'date' is '0', not a date"),
        ("9" * 30, "1", "line 2, column 'date': '999"),
        ("\u0661", "\u0662", "line 2, column 'date': '\u0661' is not a date"),
        ("01/02/20", "01/03/20", "line 2: the date '01/02/20' may be 2020-02-01 or 2020-01-02"),
    ],
)
def test_dates_that_cannot_be_read(tmp_path: Path, first: str, second: str, part: str) -> None:
    refusal(write(tmp_path, f"date,A,B\n{first},.1,.2\n{second},.2,.3\n"), part)


def test_a_file_without_dates(tmp_path: Path) -> None:
    refusal(write(tmp_path, "A,B\n100,20\n102,21\n101,22\n"), "the first cell of column 'A' is '100', not a date")
    refusal(write(tmp_path, "A,B\n.01,.02\n.02,.03\n"), "column 'A': '.01' is not a date")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["01/12/2020", "13/12/2020"], ["2020-12-01", "2020-12-13"]),
        (["12/01/2020", "12/13/2020"], ["2020-12-01", "2020-12-13"]),
        (["13.12.2020", "14.12.2020"], ["2020-12-13", "2020-12-14"]),
        (["2020-12-01 09:30", "2020-12-01 16:00:00"], ["2020-12-01 09:30", "2020-12-01 16:00"]),
        (["2020-12-01T09:00:00Z", "2020-12-02T09:00:00Z"], ["2020-12-01 09:00Z", "2020-12-02 09:00Z"]),
        (["2020-12-01T00:00:00Z", "2020-12-02T00:00:00Z"], ["2020-12-01", "2020-12-02"]),
        (["1905-01-31", "2100-02-28"], ["1905-01-31", "2100-02-28"]),
    ],
)
def test_ways_to_write_dates(tmp_path: Path, texts: list[str], expected: list[str]) -> None:
    panel = read_returns(write(tmp_path, f"date,A,B\n{texts[0]},.1,.2\n{texts[1]},.2,.3\n"))
    assert list(panel.dates) == [pd.Timestamp(text) for text in expected]
    order = {"01/12/2020": "day", "12/01/2020": "month"}.get(texts[0])
    told = () if order is None else (f"Read the dates with the {order} first: {texts[1]!r} leaves no other way.",)
    assert panel.notes == told


def test_offsets_that_differ_leave_local_times(tmp_path: Path) -> None:
    text = "Date,A,B\n2020-01-02 00:00:00-05:00,.1,.2\n2020-06-01 00:00:00.0-04:00,.2,.3\n"
    panel = read_returns(write(tmp_path, text))
    assert list(panel.dates) == [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-06-01")]
    (note,) = panel.notes
    assert "UTC offsets" in note


def test_time_zones_and_other_indexes() -> None:
    panel = read_returns(frame(index=DATES.tz_localize("Europe/Paris")))
    assert str(panel.dates.tz) == "Europe/Paris"  # type: ignore[attr-defined]
    for index in (
        DATES.to_period("D"),
        [date.date() for date in DATES],
        DATES.strftime("%Y-%m-%d"),
        pd.CategoricalIndex(DATES.strftime("%Y-%m-%d")),
        [20200101, 20200102, 20200103],
        np.array(DATES, dtype=object),
    ):
        assert_same(read_returns(frame(index=index)), read_returns(frame()))
    refusal(frame(index=[*DATES[:2], pd.NaT]), "row number 3 has no date")
    refusal(frame(index=list("abc")), "row number 1", "'a' is not a date")
    refusal(frame(index=[True, False, True]), "'True', not a date")
    refusal(frame(index=pd.to_timedelta([1, 2, 3], unit="D")), "'1 days 00:00:00', not a date")
    refusal(frame(index=[0.1, np.inf, 0.3]), "not a date")
    mixed = pd.Index([pd.Timestamp("2020"), pd.Timestamp("2021", tz="UTC"), pd.Timestamp("2022")], dtype=object)
    refusal(frame(index=mixed), "the dates cannot be put in order", "make them alike")


def test_numbered_rows(tmp_path: Path) -> None:
    for source in (frame(index=None), frame(index=[5, 6, 7]), frame(index=[0.5, 1.5, 2.5])):
        panel = read_returns(source)
        assert list(panel.dates) == list(source.index)
        assert panel.dates.name == "observation"
        assert panel.notes == ("The rows are numbered, not dated.",)
    frame(index=None).to_csv(tmp_path / "numbered.csv")
    panel = read_returns(tmp_path / "numbered.csv")
    assert list(panel.dates) == [0, 1, 2]
    assert panel.notes == ("The rows are numbered, not dated.",)
    assert read_returns(frame(index=[3, 1, 2])).values[:, 0].tolist() == [-0.01, 0.02, 0.01]


def test_frames_with_a_date_column() -> None:
    for name in ("date", "Date", "Unnamed: 0", "when"):
        source = frame(index=None)
        source.insert(1, name, DATES if name == "when" else DATES.strftime("%Y-%m-%d"))
        assert_same(read_returns(source), read_returns(frame()))


# ---- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  ", "NA", "NaN", "null", "nan", "NULL", "None", "N/A", "#N/A", "<NA>"])
@pytest.mark.parametrize("more", ["", ",.5"])
def test_missing_cells(tmp_path: Path, text: str, more: str) -> None:
    header = f"date,A,B{',C' if more else ''}\n"
    content = f"{header}2020-01-01,.1,.2,.3\n2020-01-02,.2,.3,.4\n2020-01-03,{text},.4,.5\n"
    content = content if more else re.sub(r"(?m)^(2.*),[^,]*$", r"\1", content)
    panel = read_returns(write(tmp_path, content), missing="mask")
    np.testing.assert_array_equal(np.argwhere(np.isnan(panel.values)), [[2, 0]])


def test_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    """As Python reads them, with as many digits as a file may have."""
    values = np.random.default_rng(0).normal(0, 0.01, (200, 4))
    for number, text in enumerate(("{!r}", "{:.30f}", "{:.17e}")):
        rows = [",".join([f"{k}", *(text.format(value) for value in row)]) for k, row in enumerate(values.tolist())]
        panel = read_returns(write(tmp_path, "\n".join([",A,B,C,D", *rows]), f"{number}.csv"))
        given = [[float(cell) for cell in row.split(",")[1:]] for row in rows]
        np.testing.assert_array_equal(panel.values, given)


@pytest.mark.parametrize(
    "text", ["abc", '"1,23.5"', "1_0", "0x1f", "True", "1 00", "5%%", "$$3", "(1", "1-2", "--1", "+(1)", "1e", "1d"]
)
@pytest.mark.parametrize("more", ["", ",.5"])
def test_cells_that_are_not_numbers(tmp_path: Path, text: str, more: str) -> None:
    content = f"date,A,B{',C' if more else ''}\n2020-01-01,.1,.2{more}\n2020-01-02,.1,{text}{more}\n"
    shown = text.strip('"')
    refusal(write(tmp_path, content), f"column 'B', row 2020-01-02 (line 3): '{shown}' is not a number")


def test_the_text_of_a_cell_stays_on_one_line(tmp_path: Path) -> None:
    refusal(write(tmp_path, RETURNS.replace(".03", '"a\nb"')), "'a\\nb' is not a number")
    assert len(refusal(write(tmp_path, RETURNS.replace(".03", "x" * 5000)), "'xxx")) < 500


def test_columns_of_other_types() -> None:
    refusal(frame(b=[True, False, True]), "column 'B', row 2020-01-01: 'True' is not a number")
    refusal(frame(b=pd.array([True, None, False], dtype="boolean")), "column 'B', row 2020-01-01: 'True'")
    refusal(frame(b=[1j, 2j, 3j]), "column 'B', row 2020-01-01: '1j' is not a number")
    refusal(frame(b=DATES), "column 'B', row 2020-01-01: '2020-01-01 00:00:00' is not a number")
    refusal(frame(b=pd.to_timedelta([1, 2, 3], unit="D")), "column 'B', row 2020-01-01: '1 days 00:00:00' is not")
    refusal(frame(b=[0.1, [0.2], 0.3]), "column 'B', row 2020-01-02: '[0.2]' is not a number")
    refusal(frame(b=[0.1, np.array([0.2]), 0.3]), "column 'B', row 2020-01-02: '[0.2]' is not a number")
    refusal(frame(b=[0.1, True, 0.3]), "column 'B', row 2020-01-02: 'True' is not a number")
    refusal(frame(b=[0.1, b"1", 0.3]), "column 'B', row 2020-01-02")
    refusal(frame(b=[Fraction(10**400), 1, 2]), "column 'B', row 2020-01-01: '1000", "is not a number")
    expected = [0.5, np.nan, 0.25]
    for cells in (
        ["0.5", None, " 25e-2 "],
        [Decimal("0.5"), Decimal("NaN"), Decimal("0.25")],
        [0.5, pd.NA, np.float32(0.25)],
        pd.array([0.5, None, 0.25], dtype="Float64"),
        pd.array([0.5, None, 0.25], dtype="float64[pyarrow]"),
        pd.arrays.SparseArray([0.5, np.nan, 0.25]),
        pd.Categorical([0.5, None, 0.25]),
        np.array([0.5, np.nan, 0.25], dtype=np.float32),
    ):
        panel = read_returns(frame(b=cells), missing="mask")
        np.testing.assert_array_equal(panel.values[:, 1], expected)
    assert read_returns(frame(b=pd.array([0, 1, None], dtype="Int64")), missing="zero").values[:, 1].tolist() == [
        0,
        1,
        0,
    ]


# ---- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1e400"])
def test_infinities(tmp_path: Path, text: str) -> None:
    value = "-inf" if text.startswith("-") else "inf"
    path = write(tmp_path, RETURNS.replace(".03", text))
    refusal(path, f"infinite returns (1), the first in column 'B', row 2020-01-02: {value}")
    path = write(tmp_path, PRICES.replace("99", text).replace("21", text))
    refusal(path, f"infinite prices (2), the first in column 'B', row 2020-01-02: {value}", kind="prices")


def test_prices_must_be_above_zero(tmp_path: Path) -> None:
    for text in ("0", "-99"):
        path = write(tmp_path, PRICES.replace("99", text))
        refusal(path, f"prices not above zero (1), the first in column 'A', row 2020-01-03: {text};", kind="prices")
    refusal(write(tmp_path, RETURNS), "column 'A', row 2020-01-02: -0.01", "kind='returns'", kind="prices")


def test_returns_below_minus_one(tmp_path: Path) -> None:
    assert read_returns(write(tmp_path, RETURNS.replace("-.01", "-1"))).values.min() == -1.0
    path = write(tmp_path, RETURNS.replace("-.01", "-1.5"))
    refusal(path, "returns below -1 (1), the first in column 'A', row 2020-01-02: -1.5", "-0.05")


def test_returns_that_look_like_something_else(tmp_path: Path) -> None:
    refusal(write(tmp_path, PRICES), "the median size of the returns is 60", "look like prices; say kind='prices'")
    per_cent = "date,A,B\n2020-01-01,1.5,-2\n2020-01-02,-.1,3\n2020-01-03,1,2\n"
    refusal(write(tmp_path, per_cent), "look like per cent; say kind='percent'")
    level = frame().assign(C=[0.1, 0.2, 0.1], VIX=[12.0, 15.0, 11.0])
    refusal(level, "column 'VIX' looks like prices among returns (its median is 12)")
    assert read_returns(frame(a=[5.0, -0.5, 0.1])).n_assets == 2  # a jump of 500 % happens
    assert read_returns(frame(a=[5.0, -0.5, 3.0])).n_assets == 2


@pytest.mark.parametrize("missing", ["error", "mask", "zero", "drop-assets", "drop-rows"])
def test_constant_columns(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path, "date,A,CASH\n2020-01-01,.1,.01\n2020-01-02,.2,.01\n2020-01-03,.1,.01\n")
    parts = ("constant over the 3 rows of returns (1 of 2): 'CASH' (every return is 0.01); remove the columns",)
    refusal(path, *parts, missing=missing)
    flat = write(tmp_path, re.sub(r"(?m)^(2.*),.*$", r"\1,50", PRICES))
    refusal(flat, "(1 of 2): 'B' (every return is 0)", missing=missing, kind="prices")
    doubling = pd.DataFrame({"A": [1.0, 2, 3, 5], "TWO": [1.0, 2, 4, 8]})
    refusal(doubling, "(1 of 2): 'TWO' (every return is 1)", missing=missing, kind="prices")


def test_a_column_constant_on_the_rows_left() -> None:
    source = frame(a=[0.1, 0.2, 0.3], b=[0.5, np.nan, 0.5])
    refusal(source, "constant over the 2 rows", "'B' (every return is 0.5)", missing="drop-rows")
    assert read_returns(source, missing="zero").n_observations == 3
    refusal(frame(b=[0.5, np.nan, np.nan]), "'B' (every return is 0.5)", missing="mask")  # a single return


@pytest.mark.parametrize("missing", ["error", "mask", "zero", "drop-rows"])
def test_empty_columns(missing: str) -> None:
    source = frame().assign(X=np.nan, Y=np.nan)
    refusal(source, "without a single return (2 of 4): 'X', 'Y'; remove", "drop-assets", missing=missing)
    prices = pd.DataFrame({"A": [1.0, 2, 3, 5], "X": [1.0, np.nan, 2, np.nan]})
    prices.loc[2, "X"] = np.nan
    refusal(prices, "(1 of 2): 'X'; a return needs two prices", missing=missing, kind="prices")


def test_empty_columns_can_be_dropped() -> None:
    for tolerance in (0.0, 0.5, 1.0):
        panel = read_returns(frame().assign(X=np.nan), missing="drop-assets", missing_tolerance=tolerance)
        assert panel.symbols == ["A", "B"]
        assert panel.n_observations == 3
        (note,) = panel.notes
        assert note.startswith("Dropped 1 of 3 symbols for missing")
        assert "'X' (3)" in note


def test_too_few_rows(tmp_path: Path) -> None:
    refusal(write(tmp_path, "".join(RETURNS.splitlines(keepends=True)[:2])), "too few rows")
    for rows in (1, 2):
        path = write(tmp_path, "".join(PRICES.splitlines(keepends=True)[: rows + 1]))
        refusal(path, "too few rows; give at least two rows of returns, or three of prices", kind="prices")
    three = write(tmp_path, "".join(PRICES.splitlines(keepends=True)[:4]))
    assert read_returns(three, kind="prices").n_observations == 2


# ---- prices ---------------------------------------------------------------------------------------------------------


def test_prices_become_simple_returns(tmp_path: Path) -> None:
    panel = read_returns(write(tmp_path, PRICES), kind="prices")
    np.testing.assert_allclose(panel.values[:, 0], [101 / 100 - 1, 99 / 101 - 1, 98 / 99 - 1], rtol=1e-13)
    assert panel.dates[0] == pd.Timestamp("2020-01-02")
    assert panel.notes == ("Turned 4 rows of prices into 3 rows of returns.",)


def test_the_move_across_a_gap_is_not_lost() -> None:
    prices = pd.DataFrame({"A": [1.0, 2, np.nan, 4, 5, 7], "B": [1.0, 3, 2, 4, 3, 5]})
    panel = read_returns(prices, kind="prices", missing="mask")
    np.testing.assert_allclose(panel.values[:, 0], [1.0, np.nan, 1.0, 0.25, 0.4])
    refusal(
        prices, "missing prices (1, in 1 of 2 symbols): 'A' (1); 'A' has no price on 1 row, the first 2;", kind="prices"
    )
    for missing in ("zero", "carry"):
        assert read_returns(prices, kind="prices", missing=missing).values[:, 0].tolist()[1:3] == [0.0, 1.0]
    rows = read_returns(prices, kind="prices", missing="drop-rows")
    np.testing.assert_allclose(rows.values, [[1.0, 2.0], [1.0, 1 / 3], [0.25, -0.25], [0.4, 2 / 3]])


def test_a_return_too_large_for_a_number() -> None:
    prices = pd.DataFrame({"A": [1e-300, 1e300, 1.0, 2.0]})
    refusal(prices, "returns too large for a number (1), the first in column 'A', row 1: inf", kind="prices")


@settings(max_examples=50, deadline=None)
@given(n_rows=st.integers(2, 30), n_assets=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_prices_of_returns_give_the_returns_back(n_rows: int, n_assets: int, seed: int) -> None:
    returns = np.random.default_rng(seed).uniform(-0.2, 0.25, (n_rows, n_assets))
    prices = np.vstack([np.ones(n_assets), np.cumprod(1 + returns, axis=0)])
    panel = read_returns(pd.DataFrame(prices), kind="prices")
    np.testing.assert_allclose(panel.values, returns, rtol=0, atol=1e-14)


# ---- missing returns ------------------------------------------------------------------------------------------------


def test_missing_error_names_symbols_counts_and_choices(tmp_path: Path) -> None:
    path = write(tmp_path, GAPS)
    message = refusal(path, "missing returns (3, in 2 of 3 symbols): 'B' (2), 'A' (1);")
    assert all(choice in message for choice in ("'mask'", "'zero'", "'drop-assets'", "'drop-rows'"))
    many = pd.DataFrame(np.random.default_rng(0).normal(0, 0.1, (4, 9)), columns=list("ABCDEFGHI"))
    many.iloc[0, :8] = np.nan
    refusal(many, "missing returns (8, in 8 of 9 symbols): 'A' (1), 'B' (1), 'C' (1), 'D' (1), 'E' (1) and 3 more")


def test_missing_mask(tmp_path: Path) -> None:
    panel = read_returns(write(tmp_path, GAPS), missing="mask")
    np.testing.assert_array_equal(np.argwhere(np.isnan(panel.values)), [[0, 0], [2, 1], [3, 1]])
    (note,) = panel.notes
    assert note.startswith("Left 3 missing returns in 2 symbols as gaps: 'B' (2), 'A' (1).")


def test_missing_zero(tmp_path: Path) -> None:
    panel = read_returns(write(tmp_path, GAPS), missing="zero")
    np.testing.assert_array_equal(np.argwhere(panel.values == 0), [[0, 0], [2, 1], [3, 1]])
    assert panel.notes == ("Filled 3 missing returns in 2 symbols with a return of zero: 'B' (2), 'A' (1).",)


def test_missing_drop_rows(tmp_path: Path) -> None:
    panel = read_returns(write(tmp_path, GAPS), missing="drop-rows")
    assert list(panel.dates) == [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-07")]
    assert panel.symbols == ["A", "B", "C"]
    assert panel.notes == ("Dropped 3 of 5 rows, each with a missing return. Their moves are lost.",)
    few = write(tmp_path, GAPS.replace(".4,.3,.2", ".4,,.2"))
    refusal(few, "leaves 1 of 5 rows, two are needed: 'B' (3), 'A' (1)", missing="drop-rows")


def test_missing_drop_assets(tmp_path: Path) -> None:
    path = write(tmp_path, GAPS)
    default = read_returns(path, missing="drop-assets")
    assert default.symbols == ["C"]
    assert default.n_observations == 5
    assert default.notes == ("Dropped 2 of 3 symbols for missing more than 5 % of the 5 returns: 'B' (2), 'A' (1).",)
    # A misses exactly the share of a fifth that may be missing: it is kept, and its row goes.
    fifth = read_returns(path, missing="drop-assets", missing_tolerance=0.2)
    assert fifth.symbols == ["A", "C"]
    assert list(fifth.dates) == list(default.dates[1:])
    assert fifth.notes == (
        "Dropped 1 of 3 symbols for missing more than 20 % of the 5 returns: 'B' (2).",
        "Dropped 1 of 5 rows, each with a missing return. Their moves are lost.",
    )
    everything = read_returns(path, missing="drop-assets", missing_tolerance=1)
    assert_same(everything, read_returns(path, missing="drop-rows"))
    refusal(
        write(tmp_path, GAPS.replace(",.4\n", ",\n")),
        "every symbol misses more than 5 % of the 5 returns",
        missing="drop-assets",
    )


def test_all_dropped_symbols_are_named() -> None:
    names = [f"S{k}" for k in range(12)]
    source = pd.DataFrame(np.random.default_rng(0).normal(0, 0.1, (4, 12)), columns=names)
    source.iloc[0, :11] = np.nan
    panel = read_returns(source, missing="drop-assets")
    assert panel.symbols == ["S11"]
    assert all(f"'{name}' (1)" in panel.notes[-1] for name in names[:11])


@pytest.mark.parametrize("missing", ["mask", "zero", "drop-assets", "drop-rows"])
def test_every_choice_is_noted_where_nothing_is_missing(missing: str) -> None:
    panel = read_returns(frame(), missing=missing)  # type: ignore[arg-type]
    assert panel.notes == ("No return was missing.",)
    assert_same(panel, read_returns(frame()))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 0.6), tolerance=st.floats(0, 1))
def test_what_is_left_is_complete_and_untouched(seed: int, share: float, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.05, (12, 6)).clip(-1, 1)
    values[rng.random(values.shape) < share] = np.nan
    source = pd.DataFrame(values, index=pd.date_range("2020-01-01", periods=12), columns=list("ABCDEF"))
    for missing in ("mask", "zero", "drop-assets", "drop-rows"):
        try:
            panel = read_returns(source, missing=missing, missing_tolerance=tolerance)  # type: ignore[arg-type]
        except InputError:
            continue
        kept = source.loc[panel.dates, panel.symbols].to_numpy()
        assert missing == "mask" or not np.isnan(panel.values).any()
        there = ~np.isnan(kept)
        np.testing.assert_array_equal(panel.values[there], kept[there])
        if missing == "drop-assets":
            share_missing = dict(zip("ABCDEF", np.isnan(values).mean(axis=0), strict=True))
            assert panel.symbols == [name for name, part in share_missing.items() if part <= tolerance and part < 1]


# ---- real data ------------------------------------------------------------------------------------------------------


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("JAXALLOC_DATA")
    if not folder:
        pytest.skip("JAXALLOC_DATA names no folder of real data")
    return Path(folder)


def test_real_prices_with_gaps(data: Path) -> None:
    path = data / "us_equities_prices_60_with_gaps.csv"
    refusal(path, "missing prices (403, in 2 of 60 symbols): 'AAP' (400), 'AET' (3)", kind="prices")
    refusal(path, "look like prices; say kind='prices'")
    mask = read_returns(path, "prices", "mask")
    assert mask.returns.isna().sum().loc[["AAP", "AET", "MMM"]].tolist() == [400, 3, 0]
    zero = read_returns(path, "prices", "zero")
    assert (zero.returns.shape, int(zero.returns.isna().sum().sum())) == ((2516, 60), 0)
    np.testing.assert_array_equal(zero.returns["AAP"].to_numpy()[:400], 0.0)
    assert any("with a return of zero: 'AAP' (400), 'AET' (3)." in note for note in zero.notes)
    rows = read_returns(path, "prices", "drop-rows")
    assert rows.returns.shape == (2116, 60)
    assets = read_returns(path, "prices", "drop-assets")
    assert assets.returns.shape == (2513, 59)
    assert set(mask.symbols) - set(assets.symbols) == {"AAP"}
    assert "'AAP' (400)" in assets.notes[0]
    assert assets.notes[1].startswith("Dropped 3 of 2,517 rows, each with a missing price. Returns go from")


def test_real_returns_agree_with_the_prices_made_from_them(data: Path) -> None:
    returns = read_returns(data / "us_equities_returns_2007_2016.parquet")
    assert returns.returns.shape == (2517, 431)
    assert returns.notes == ()
    assert returns.dates[0].date() == datetime.date(2007, 1, 4)
    prices = read_returns(data / "us_equities_prices_60_with_gaps.csv", "prices", "mask")
    prices = Panel(prices.returns.drop(columns=["AAP", "AET"]))  # which have gaps
    same = returns.returns.loc[prices.dates, prices.symbols]
    np.testing.assert_allclose(prices.values, same.to_numpy(), rtol=0, atol=2e-4)  # prices have four decimals


def test_real_ten_assets(data: Path) -> None:
    panel = read_returns(data / "ten_assets_prices_2015_2019.csv", kind="prices")
    assert panel.returns.shape == (1257, 10)
    assert panel.symbols == [3 * letter for letter in "ABCDEFGHIJ"]
    raw = pd.read_csv(data / "ten_assets_prices_2015_2019.csv", index_col=0)
    np.testing.assert_allclose(panel.values, raw.pct_change().to_numpy()[1:], rtol=1e-12, atol=1e-15)


def test_a_panel_of_prices_keeps_the_last_ones() -> None:
    prices = pd.DataFrame({"A": [9.0, 10, 11, 10, 12], "B": [4.0, 5, 6, 7, np.nan], "C": [2.0, 1, np.nan, 3, 2]})
    for missing in ("mask", "zero", "carry", "drop-rows", "drop-assets"):
        panel = read_returns(prices, kind="prices", missing=missing, missing_tolerance=0.5)
        wanted = {"A": 12.0, "B": 7.0, "C": 2.0}
        assert panel.last_prices is not None
        assert panel.last_prices.to_dict() == {name: wanted[name] for name in panel.symbols}
    for kind in ("returns", "percent"):
        assert read_returns(pd.DataFrame({"A": [0.1, -0.2, 0.3]}), kind=kind).last_prices is None
    assert read_returns(pd.DataFrame({"A": [1.1, 0.8, 1.3]}), kind="factors").last_prices is None
