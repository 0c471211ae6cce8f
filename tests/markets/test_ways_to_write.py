"""One market in many ways to write dates and numbers, in many containers, with many things around the table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from written import DateFormat, as_csv, continental, plain, prices

import jaxalloc as ja

PRICES = prices()
CSV = as_csv(PRICES)
RETURNS = PRICES.pct_change().iloc[1:].round(4)


def check(panel: ja.Panel, table: pd.DataFrame, first: str = "2024-01-03") -> None:
    """A panel is that of a table of prices: the same assets, the same moves, the days that follow the first."""
    assert panel.symbols == list(table.columns)
    assert str(panel.dates[0]).startswith(first)
    np.testing.assert_allclose(panel.values, (table / table.shift(1) - 1).to_numpy()[1:], rtol=0, atol=1e-12)


def read(folder: Path, content: str | bytes, name: str = "prices.csv", **choices: Any) -> ja.Panel:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ja.read_returns(path, **choices)


# ---- dates -----------------------------------------------------------------------------------------------------------

FRENCH = {1: "janv.", 2: "févr.", 3: "mars"}
GERMAN = {1: "Jän", 2: "Feb", 3: "Mär"}
SPANISH = {1: "ene", 2: "feb", 3: "mar"}
PORTUGUESE = {1: "janeiro", 2: "fevereiro", 3: "março"}
DAYS: list[DateFormat] = [
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%y/%m/%d", "%Y年%m月%d日"),
    *("%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%d/%m/%y", "%d-%m-%Y", "%m/%d/%Y", "%m/%d/%y", "%m-%d-%Y"),
    *("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%d%b%Y", "%b %d, %Y", "%B %d, %Y"),
    *("%a, %d %b %Y", "%A, %B %d, %Y", "%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p"),
    *("%Y-%m-%dT00:00:00Z", "%Y-%m-%dT00:00:00.000Z", "%Y-%m-%d 00:00:00 UTC", "%Y-%m-%d 00:00:00+01:00"),
    lambda day: f"{day.month}/{day.day}/{day.year}",
    lambda day: f"{day.day}.{day.month}.{day.year}",
    lambda day: str(int(day.timestamp())),
    lambda day: f"{day.timestamp():.1f}",
    lambda day: str(int(day.timestamp() * 1e3)),
    lambda day: str(int(day.timestamp() * 1e6)),
    lambda day: str(int(day.timestamp()) * 10**9),
    lambda day: str((day - pd.Timestamp("1899-12-30")).days),
    *(lambda day, names=names: f"{day.day} {names[day.month]} {day.year}" for names in (FRENCH, SPANISH, PORTUGUESE)),
    lambda day: f"{day.day:02d}-{GERMAN[day.month]}-{day.year % 100}",
]


@pytest.mark.parametrize("date", DAYS, ids=range(len(DAYS)))
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_days(tmp_path: Path, date: DateFormat, order: str) -> None:
    table = PRICES[::-1] if order == "descending" else PRICES
    if order == "shuffled":
        if date in ("%y/%m/%d", "%d/%m/%y"):
            pytest.skip("only the order of the rows tells the year from the day")
        table = PRICES.sample(frac=1, random_state=1)
    panel = read(tmp_path, as_csv(table, date, quoted=isinstance(date, str) and "," in date))
    check(panel, PRICES)
    assert ("Sorted 40 rows by date: they were not in ascending order." in panel.notes) == (order != "ascending")


@pytest.mark.parametrize(
    "date", ["%Y-%m", "%Y%m", "%b-%y", "%b %Y", "%B %Y", "%m/%Y", "%YM%m", "%Y-%b", "%b-%Y", "%Y/%m"]
)
def test_months_are_their_last_days(tmp_path: Path, date: str) -> None:
    table = prices(30, start="2018-01-31", freq="ME")
    panel = read(tmp_path, as_csv(table, date, label="Month"))
    check(panel, table, first="2018-02-28")
    assert list(panel.dates) == list(table.index[1:])


@pytest.mark.parametrize(
    "date",
    [
        lambda day: f"{day.year}Q{day.quarter}",
        lambda day: f"{day.year}-Q{day.quarter}",
        lambda day: f"Q{day.quarter} {day.year}",
        lambda day: f"Q{day.quarter}-{day.year % 100:02d}",
        lambda day: f"{day.quarter}Q{day.year % 100:02d}",
    ],
)
def test_quarters_and_years_are_their_last_days(tmp_path: Path, date: DateFormat) -> None:
    table = prices(20, start="2010-03-31", freq="QE")
    assert list(read(tmp_path, as_csv(table, date, label="Quarter")).dates) == list(table.index[1:])
    for label in ("Year", ""):
        table = prices(20, start="1990-12-31", freq="YE")
        assert list(read(tmp_path, as_csv(table, "%Y", label=label)).dates) == list(table.index[1:])


def test_years_of_two_digits_are_not_in_the_future(tmp_path: Path) -> None:
    table = prices(20, start="1965-03-31", freq="ME")
    assert read(tmp_path, as_csv(table, "%d-%b-%y")).dates[0] == pd.Timestamp("1965-04-30")


def test_the_order_of_day_and_month_is_settled_or_asked_for(tmp_path: Path) -> None:
    twelve = PRICES.iloc[:8].set_axis(pd.date_range("2024-01-01", periods=8, name="Date"))
    content = as_csv(twelve, "%d/%m/%Y")
    with pytest.raises(ja.InputError, match=r"may be 2024-01-02 or 2024-02-01; .*say dayfirst=True or dayfirst=False"):
        read(tmp_path, content)
    check(read(tmp_path, content, dayfirst=True), twelve, first="2024-01-02")
    check(read(tmp_path, content, dayfirst=False), twelve, first="2024-02-01")
    notes = read(tmp_path, as_csv(PRICES, "%d/%m/%Y")).notes
    assert notes[0] == "Read the dates with the day first: '15/01/2024' leaves no other way."
    # in one order only are these rows in the order of time
    across = prices(4).set_axis(pd.to_datetime(["2023-11-12", "2023-12-01", "2023-12-02", "2023-12-03"]))
    notes = read(tmp_path, as_csv(across, "%d/%m/%Y"), kind="prices").notes
    assert notes[0] == "Read the dates with the day first: the rows are then in the order of time."
    with pytest.raises(ja.InputError, match="is not a date like"):
        read(tmp_path, as_csv(PRICES, "%d/%m/%Y"), dayfirst=False)
    with pytest.raises(ja.InputError, match="dayfirst is 'maybe'"):
        read(tmp_path, content, dayfirst="maybe")


def test_a_time_of_day_in_a_column_of_its_own(tmp_path: Path) -> None:
    hours = prices(48, start="2024-01-02", freq="h")
    for date, time in (("%Y-%m-%d", "%H:%M:%S"), ("%Y%m%d", "%H%M%S"), ("%d.%m.%Y", "%H:%M")):
        table = hours.assign(Time=hours.index.strftime(time))[["Time", *hours.columns]]
        panel = read(tmp_path, as_csv(table, date))
        assert list(panel.dates) == list(hours.index[1:])
        check(panel, hours, first="2024-01-02 01:00")


# ---- numbers ---------------------------------------------------------------------------------------------------------

NUMBERS = [
    (continental, ";"),
    (continental, "\t"),
    (continental, "quoted"),
    (lambda v: plain(v).replace(".", ","), ";"),
    (lambda v: plain(v).replace(".", ","), "|"),
    (lambda v: plain(v).replace(".", ","), "quoted"),
    (lambda v: f"{v:,.2f}", ";"),
    (lambda v: f"{v:,.2f}", "quoted"),
    (lambda v: f"{v:,.2f}".replace(",", "'"), ","),
    (lambda v: f"{v:,.2f}".replace(",", "\u2019"), ","),
    (lambda v: f"{v:,.2f}".replace(",", " "), ","),
    (lambda v: f"{v:,.2f}".translate(str.maketrans(",.", "\u202f,")), ";"),
    *(
        (lambda v, sign=sign: sign.format(plain(v)), ",")
        for sign in ("$ {}", "${}", "€{}", "{} €", "USD {}", "£{}p")[:5]
    ),
    (lambda v: f"{continental(v)} €", ";"),
    (lambda v: f"R$ {continental(v)}", ";"),
    (lambda v: f"{v:.2f} kr", ","),
    (lambda v: f"{v:.8E}", ","),
    (lambda v: f"+{v:.2f}", ","),
    (lambda v: f" {v:.2f}\u00a0", ","),
]


@pytest.mark.parametrize(("number", "delimiter"), NUMBERS, ids=range(len(NUMBERS)))
def test_numbers(tmp_path: Path, number: Any, delimiter: str) -> None:
    quoted = delimiter == "quoted"
    check(read(tmp_path, as_csv(PRICES, number=number, delimiter="," if quoted else delimiter, quoted=quoted)), PRICES)


def test_commas_that_could_be_either(tmp_path: Path) -> None:
    """Three digits after each comma: thousands between quotes, decimals between semicolons."""
    table = prices(first=(1400, 6700, 12300)).round(0)
    panel = read(tmp_path, as_csv(table, number=lambda v: f"{v:,.0f}", quoted=True))
    check(panel, table)
    assert panel.notes[0].startswith("Read the comma as a mark between thousands, as in '1,4")
    table = prices(digits=3)
    panel = read(tmp_path, as_csv(table, number=lambda v: f"{v:.3f}".replace(".", ","), delimiter=";"))
    check(panel, table)
    assert panel.notes[0].startswith("Read the comma as the decimal mark, as in '14,")


def test_groups_of_thousands_without_decimals_beside_decimal_commas(tmp_path: Path) -> None:
    """1.230 is a thousand where other columns have decimal commas, although it looks like a plain number."""
    table = PRICES.assign(CCC=(100 * PRICES["CCC"]).round())
    numbers = {name: continental if name != "CCC" else lambda v: f"{v:,.0f}".replace(",", ".") for name in table}
    text = table.apply(lambda column: column.map(numbers[column.name]))
    check(read(tmp_path, as_csv(text, delimiter=";")), table)


@pytest.mark.parametrize(
    "number",
    [
        lambda v: f"{100 * v:.2f}%",
        lambda v: f"{100 * v:.2f} %",
        lambda v: f"({-v:.4f})" if v < 0 else f"{v:.4f}",
        lambda v: f"({-100 * v:.2f}%)" if v < 0 else f"{100 * v:.2f}%",
        lambda v: f"{-v:.4f}-" if v < 0 else f"{v:.4f}",
        *(lambda v, minus=minus: f"{v:.4f}".replace("-", minus) for minus in "\u2212\u2013\u2010"),
    ],
)
def test_returns(tmp_path: Path, number: Any) -> None:
    panel = read(tmp_path, as_csv(RETURNS, number=number))
    np.testing.assert_allclose(panel.values, RETURNS.to_numpy(), rtol=0, atol=1e-15)


def test_per_cents_and_factors(tmp_path: Path) -> None:
    whole = as_csv(100 * RETURNS)
    headed = as_csv((100 * RETURNS).add_suffix(" (%)"))
    for content, choices in ((whole, {"kind": "percent"}), (headed, {"kind": "returns"}), (headed, {})):
        np.testing.assert_allclose(read(tmp_path, content, **choices).values, RETURNS.to_numpy(), rtol=0, atol=1e-15)
    factors = as_csv(1 + RETURNS, number=lambda v: f"{v:.4f}")
    np.testing.assert_allclose(read(tmp_path, factors, kind="factors").values, RETURNS.to_numpy(), rtol=0, atol=1e-15)
    named = as_csv(RETURNS.set_axis(["40%", "%", "A%B"], axis=1), number=lambda v: f"{v:.4f}")
    assert read(tmp_path, named).values.tolist() == RETURNS.to_numpy().tolist()  # names, no units
    mixed = as_csv(RETURNS, number=lambda v: f"{100 * v:.2f}%" if v < 0 else f"{v:.4f}")
    with pytest.raises(ja.InputError, match="has no sign of per cent where others have one"):
        read(tmp_path, mixed)
    lines = whole.splitlines()
    lines[3] = ",".join([lines[3].split(",")[0], "-99.99", *lines[3].split(",")[2:]])
    panel = read(tmp_path, "\n".join(lines), kind="percent", missing="mask")
    assert panel.notes[0] == "Took 1 cell such as -99.99 for missing."
    assert np.isnan(panel.values[2, 0])


@pytest.mark.parametrize(
    "mark", ["", "#N/A", "N/A", "-", "--", "—", ".", "null", "NaN", "na", "n/a", "#VALUE!", "?", "(null)", "#N/A N/A"]
)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_marks_for_a_missing_price(tmp_path: Path, mark: str, delimiter: str) -> None:
    lines = as_csv(PRICES, delimiter=delimiter).splitlines()
    cells = lines[8].split(delimiter)
    lines[8] = delimiter.join([cells[0], mark, *cells[2:]])
    panel = read(tmp_path, "\n".join(lines), missing="mask")
    assert np.argwhere(np.isnan(panel.values)).tolist() == [[6, 0]]


# ---- containers and what surrounds a table ---------------------------------------------------------------------------


def zipped(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def workbook(**sheets: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    with pd.ExcelWriter(out) as writer:
        for name, table in sheets.items():
            table.to_excel(writer, sheet_name=name)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(CSV.encode())),
        ("a.csv.bz2", bz2.compress(CSV.encode())),
        ("a.csv.xz", lzma.compress(CSV.encode())),
        ("a.zip", zipped(**{"folder/prices.txt": CSV, "__MACOSX/._prices.txt": "x"})),
        ("without a suffix", CSV.encode()),
        ("mark.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("utf-16.txt", CSV.replace(",", "\t").encode("utf-16")),
        ("utf-16 big.txt", b"\xfe\xff" + CSV.encode("utf-16-be")),
        ("utf-16 without a mark.csv", CSV.encode("utf-16-le")),
        ("old mac.csv", CSV.replace("\n", "\r").encode()),
        ("windows.csv", CSV.replace("\n", "\r\n").encode()),
        ("control-z.csv", CSV.encode() + b"\x1a"),
    ],
)
def test_containers(tmp_path: Path, name: str, content: bytes) -> None:
    check(read(tmp_path, content, name), PRICES)


def test_other_encodings_are_said(tmp_path: Path) -> None:
    panel = read(tmp_path, CSV.replace("AAA", "Société").encode("cp1252"))
    assert panel.symbols[0] == "Société"
    assert panel.notes[0] == "Read the text as Windows-1252 (Latin-1): it is not UTF-8."


@pytest.mark.parametrize("file", ["index.feather", "column.feather", "index.parquet", "column.arrow"])
def test_files_of_frames(tmp_path: Path, file: str) -> None:
    table = PRICES.reset_index() if file.startswith("column") else PRICES
    (table.to_parquet if file.endswith("parquet") else table.to_feather)(tmp_path / file)
    check(ja.read_returns(tmp_path / file), PRICES)


def test_workbooks(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    check(read(tmp_path, workbook(Prices=PRICES), "a.xlsx"), PRICES)
    shifted = io.BytesIO()
    PRICES.reset_index().to_excel(shifted, index=False, startrow=3, startcol=2)
    check(read(tmp_path, shifted.getvalue(), "a.xlsx"), PRICES)
    texts = PRICES.map(plain).set_axis(PRICES.index.strftime("%d.%m.%Y"))
    check(read(tmp_path, workbook(Prices=texts), "a.xlsx"), PRICES)
    check(read(tmp_path, workbook(Prices=PRICES.T), "a.xlsx"), PRICES)
    check(read(tmp_path, workbook(Prices=pd.concat({"Close": PRICES, "Open": PRICES}, axis=1)), "a.xlsx"), PRICES)
    two = workbook(About=pd.DataFrame(), Prices=PRICES, More=2 * PRICES)
    panel = read(tmp_path, two, "a.xlsx")
    check(panel, PRICES)
    assert panel.notes[0] == "Read the sheet 'Prices'; the others with cells are left out: 'More'."
    check(read(tmp_path, two, "a.xlsx", sheet="More"), PRICES)
    with pytest.raises(ja.InputError, match="there is no sheet 'X'; the sheets are 'About', 'Prices', 'More'"):
        read(tmp_path, two, "a.xlsx", sheet="X")
    with pytest.raises(ja.InputError, match="not a readable workbook"):
        read(tmp_path, zipped(**{"[Content_Types].xml": "<x", "xl/workbook.xml": "<x"}), "a.xlsx")


@pytest.mark.parametrize(
    "content",
    [
        "My portfolio;;;\nas of;2024-03-01;;\n;;;\n" + as_csv(PRICES, delimiter=";"),
        "Prices in EUR\n" + CSV,
        '"A report, quoted"\n\n' + as_csv(PRICES, quoted=True),
        "Closing prices\nCurrency,USD\n\n" + CSV,
        "https://www.example.com\n" + CSV,
        "# a\n#b,c\n# d\n" + CSV,
        "sep=,\n" + CSV,
        "sep=;\r\n" + as_csv(PRICES, delimiter=";").replace("\n", "\r\n"),
        "#" + CSV,
        CSV + "\nSource: Example Ltd.\n",
        CSV + "Mean,14,67,1230\nStd,1,2,3\n",
        CSV + "Total,,,\n",
        CSV + '"Data provided ""as is"", without warranty"\n',
        as_csv(PRICES[:20]) + as_csv(PRICES[20:]),
        as_csv(PRICES[:20]) + as_csv(PRICES[15:]).partition("\n")[2],
        CSV.replace("\n", "\nCurrency,USD,EUR,USD\n", 1),
        CSV.replace("\n", "\n,US0000000001,US0000000002,US0000000002\n", 1),
        CSV.replace(",", "   "),
        CSV.replace("Date,", "").replace(",", " "),
        CSV.replace("Date,", '"",'),
        as_csv(PRICES, delimiter=";").replace("\n", ";\n"),
        CSV.replace("\n", ",\n").replace("CCC,\n", "CCC\n"),
        CSV.replace("CCC\n", "CCC,\n"),
        "\n".join(f"{k or 'n'},{line}" for k, line in enumerate(CSV.splitlines())),
        PRICES.reset_index().to_csv(),
        PRICES.reset_index().to_csv().replace(",Date", "Unnamed: 0,Date", 1),
        CSV.replace("\n", "\n\n"),
        CSV + ",,,\n,,,\n",
        CSV + "\n\nOther prices\nDate,AAA,BBB,CCC\n2030-01-02,1,2,3\n",
    ],
)
def test_what_surrounds_a_table(tmp_path: Path, content: str) -> None:
    check(read(tmp_path, content, kind="prices"), PRICES)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    notes = read(tmp_path, "Title\n" + CSV + "Mean,14,67,1230\n").notes
    assert notes[:2] == (
        "Left out 1 line below the table, from line 43 on: 'Mean 14 67 1230'.",
        "Left out 1 line above the header: 'Title'.",
    )
    assert read(tmp_path, "# x\n" + CSV).notes[0] == "Left out 1 line of comments above the table."
    assert (
        read(tmp_path, CSV + "\nSource: X\n").notes[0]
        == "Left out the text below the table, from line 43 on: 'Source: X'."
    )
    twice = as_csv(PRICES[:20]) + as_csv(PRICES[15:])
    assert read(tmp_path, twice).notes[:2] == (
        "Left out the header where it is repeated, line 22.",
        "Left out 5 rows that repeat an earlier one, number by number.",
    )
    assert read(tmp_path, PRICES.reset_index().to_csv()).notes[0] == "Left out the row numbers."


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (CSV.partition("\n")[2], "the first line holds data where the names should be"),
        (CSV + "2024-01-05,1,1,1\n", "the date 2024-01-05 appears more than once"),
        (CSV + "2030-01-05,1\n", "line 42 has 2 cells where the header has 4"),
        (CSV.replace("2024-01-05", "some day"), "is not a date like"),
        (CSV.replace("\n", ",\n").replace("CCC,\n", "CCC,EMPTY\n"), "'EMPTY'; a return needs two prices"),
        ("<html><body>" + CSV, "a web page or XML"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, part: str) -> None:
    with pytest.raises(ja.InputError, match=part):
        read(tmp_path, content)


def test_archives_of_several_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ja.InputError, match=r"the archive holds several files \('a.csv', 'b.csv'\)"):
        read(tmp_path, zipped(**{"a.csv": CSV, "b.csv": CSV}), "a.zip")
    with pytest.raises(ja.InputError, match="the archive is empty"):
        read(tmp_path, zipped(**{"__MACOSX/x": "x"}), "a.zip")
