"""Bad input costs one line on stderr and status 2; nothing is printed, nothing is written."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxalloc.cli import options


def with_cell(row: int, column: int, cell: Any) -> Callable[[pd.DataFrame], str]:
    def text(market: pd.DataFrame) -> str:
        table = market.astype(object)
        table.iloc[row, column] = cell
        return table.to_csv()

    return text


def with_dates(*dates: str) -> Callable[[pd.DataFrame], str]:
    """The first rows, dated so."""
    return lambda market: market.head(len(dates)).set_axis(list(dates)).rename_axis("date").to_csv()


def gaps_in_every_row(market: pd.DataFrame) -> str:
    rows, columns = np.indices(market.shape)
    return market.mask(rows % market.shape[1] == columns).to_csv()


BAD_FILES: dict[str, tuple[Callable[[pd.DataFrame], str | bytes], list[str], str]] = {
    "empty": (lambda _: "", [], r"the file is empty"),
    "not a table": (lambda _: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", [], r"a picture; save the table as CSV"),
    "ragged": (lambda m: m.to_csv() + "2030-01-01,0.1\n", [], r"line 122 has 2 cells"),
    "symbol twice": (lambda m: m.set_axis(["A", "A", *m.columns[2:]], axis=1).to_csv(), [], r"more than one.*'A'"),
    "date twice": (lambda m: pd.concat([m, 2 * m.tail(1)]).to_csv(), [], r"date .* appears more than once"),
    "text in a cell": (with_cell(2, 1, "abc"), [], r"column '.*', row 2021-01-06 \(line 4\): 'abc' is not a number"),
    "infinity": (with_cell(2, 1, "inf"), [], r"infinite returns \(1\).*row 2021-01-06"),
    "gap": (with_cell(2, 1, None), [], r"missing returns \(1, .*choose --missing mask .*--missing-tolerance"),
    "price of zero": (lambda m: m.mul(0).to_csv(), ["--kind=prices"], r"prices not above zero.*--kind returns"),
    "returns below -1": (with_cell(2, 1, -1.5), [], r"returns below -1"),
    "prices called returns": (
        lambda m: (100 * (1 + m).cumprod()).to_csv(),
        ["--kind=returns"],
        r"look like prices; say --kind prices",
    ),
    "per cent": (lambda m: (100 * m).to_csv(), [], r"look like per cent; say --kind percent"),
    "growth factors": (lambda m: (1 + m).to_csv(), [], r"like growth factors 1 \+ r; say --kind factors"),
    "column all missing": (lambda m: m.assign(X=np.nan).to_csv(), [], r"'X'.*--missing drop-assets"),
    "constant column": (lambda m: m.assign(X=0.01).to_csv(), [], r"constant.*'X'"),
    "one row": (lambda m: m.head(1).to_csv(), [], r"too few rows"),
    "no assets": (lambda m: m[[]].to_csv(), [], r"no asset columns"),
    "no rows": (lambda m: m.head(0).to_csv(), [], r"there are no rows; give at least two"),
    "open quote": (lambda m: m.to_csv() + '"2030', [], r"line 122 cannot be read as CSV .*; correct it, or save"),
    "no symbol": (lambda m: m.rename(columns={m.columns[1]: ""}).to_csv(), [], r"asset column 2 has no symbol; name"),
    "price among returns": (lambda m: m.assign(X=100 + m.iloc[:, 0]).to_csv(), [], r"'X' looks like prices among"),
    "all dropped": (
        gaps_in_every_row,
        ["--missing=drop-assets", "--missing-tolerance=0"],
        r"every symbol misses .*; raise --missing-tolerance or choose another",
    ),
    "no row complete": (
        gaps_in_every_row,
        ["--missing=drop-rows"],
        r"leaves 0 of 120 rows.* or choose --missing drop-assets with a smaller --missing-tolerance",
    ),
    "no date": (with_dates("2020-01-01", "", "2020-01-03"), [], r"line 3.* has no date; date it, or delete the row"),
    "not a date": (with_dates("2020-01-01", "later", "2020-01-03"), [], r"'later' is not a date like '2020-01-01'"),
    "nothing like a date": (with_dates("1.5", "1.5", "x"), [], r"is not a date"),
    "day or month": (with_dates("01/02/2020", "02/02/2020", "03/02/2020"), [], r"may be .* or .*; write dates as"),
    "offset": (with_dates("2020-01-01T00:00+01:00", "2020-01-02T00:00"), [], r"has no UTC offset where others have"),
    "not long": (lambda m: m.to_csv(), ["--layout=long"], r"no.*is found; name it so, or say --layout wide"),
    "long, with two values": (
        lambda m: "date,symbol,x,y\n2020-01-01,A,0.1,5\n",
        [],
        r"which of the columns 'x', 'y' holds the values\? say so with --columns x",
    ),
    "long, no symbol": (lambda m: "date,symbol,value\n2020-01-01,,0.1\n", [], r"has no symbol; name it, or delete"),
    "long, twice": (
        lambda m: "date,symbol,value\n2020-01-01,A,0.1\n2020-01-01,A,0.2\n",
        [],
        r"'A'.* appears more than once",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("command", ["allocate", "study"])
def test_bad_file(refused: Callable[..., str], file: Path, market: pd.DataFrame, command: str, name: str) -> None:
    make, flags, message = BAD_FILES[name]
    content = make(market)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    extra = ["--out", "new.csv"] if command == "allocate" else []
    assert re.search(message, refused(command, file, *flags, *extra))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "no such file"),
        ([300 * "x"], "the file cannot be read (File name too long); check the path"),
        (["."], "this is a directory"),
        ([], "Missing argument 'FILE'; see jaxalloc {command} --help"),
        (["market.csv", "--profile", "tangency"], "'tangency' is not one of 'min_variance', 'risk_parity'"),
        (["market.csv", "--profile", "barbell", "--profile", "barbell"], "--profile names one twice"),
        (["market.csv", "--linkage", "median"], "'--linkage': 'median' is not one of"),
        (["market.csv", "--criterion", "x"], "is not one of 'distance', 'maxclust'"),
        (["market.csv", "--distance", "x"], "is not one of 'correlation', 'absolute'"),
        (["market.csv", "--kind", "x"], "is not one of 'auto', 'returns', 'prices', 'percent', 'factors'"),
        (["market.csv", "--missing", "x"], "is not one of 'error', 'mask'"),
        (["market.csv", "--precision", "16"], "is not one of '32', '64'"),
        (["market.csv", "--clusters", "3"], "--clusters"),
        (["market.csv", "--cluster-cap", "0"], "--cluster-cap must be greater than 0 and at most 1, not 0.0"),
        (["market.csv", "--cluster-cap", "1.1"], "--cluster-cap must be"),
        (["market.csv", "--cluster-cap", "nan"], "--cluster-cap must be"),
        (["market.csv", "--cluster-cap", "a lot"], "'--cluster-cap'"),
        (["market.csv", "--asset-cap", "-0.1"], "--asset-cap must be"),
        (["market.csv", "--slack", "0.9"], "--slack must be at least 1"),
        (["market.csv", "--threshold", "1.5"], "--threshold must be between 0 and 1"),
        (["market.csv", "--max-clusters", "0"], "--max-clusters must be"),
        (["market.csv", "--max-clusters", "2.5"], "'--max-clusters'"),
        (["market.csv", "--risk-free-rate", "-1"], "--risk-free-rate must be"),
        (["market.csv", "--periods-per-year", "inf"], "--periods-per-year must be"),
        (["market.csv", "--n-aggressors", "0"], "--n-aggressors must be"),
        (["market.csv", "--aggressor-weight", "1"], "--aggressor-weight must be"),
        (["market.csv", "--missing-tolerance", "2"], "--missing-tolerance is '2.0'"),
    ],
)
@pytest.mark.parametrize("command", ["allocate", "study"])
def test_bad_option(refused: Callable[..., str], command: str, arguments: list[str], message: str) -> None:
    assert message.format(command=command) in refused(command, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["allocate", "market.csv", "--out", "weights.xlsx"],
            "must be a file whose name ends in .csv, .parquet or .json",
        ),
        (["allocate", "market.csv", "--out", "weights"], "the suffix tells the format"),
        (["allocate", "market.csv", "--out", "nowhere/weights.csv"], "there is no directory 'nowhere'"),
        (["allocate", "market.csv", "--out", "folder.csv"], "this is a directory"),
        (["allocate", "market.csv", "--out", "./market.csv"], "the file that is read"),
        (["study", "market.csv", "--n", "0"], "--n, the number of resamples, must be"),
        (["study", "market.csv", "--n", "many"], "'--n'"),
        (["study", "market.csv", "--seed", "-1"], "--seed must be"),
        (["study", "market.csv", "--chunk-size", "0"], "--chunk-size must be"),
        (["study", "market.csv", "--method", "x"], "is not one of 'iid', 'circular'"),
        (["study", "market.csv", "--block", "5"], "--block is 5, but the iid bootstrap has no blocks"),
        (["study", "market.csv", "--method", "circular"], "needs a --block"),
        (
            ["study", "market.csv", "--method", "moving", "--block", "121"],
            "--block must be a whole number from 1 to 120",
        ),
        (["study", "market.csv", "--method", "moving", "--block", "2.5"], "--block must be a whole number"),
        (["study", "market.csv", "--out", "market.csv"], "nothing is overwritten"),
        (["study", "market.csv", "--out", "market.csv/x"], "cannot write there"),
        (["study", "market.csv", "--block", "long"], "--block 'long': give a number of rows, or auto"),
        (["study", "market.csv", "--block", "auto"], "--block is 'auto', but the iid bootstrap has no blocks"),
        (["study", "market.csv", "--simulate", "gaussian", "--method", "circular"], "--method is about resamples"),
        (["study", "market.csv", "--simulate", "gaussian", "--block", "5"], "--block is about resamples"),
        (["study", "market.csv", "--simulate", "cauchy"], "is not one of 'gaussian', 'student_t'"),
        (["study", "market.csv", "--simulate", "gaussian", "--n", "0"], "--n, the number of simulated panels, must be"),
        (["study", "market.csv", "--degrees-of-freedom", "4"], "say --simulate student_t"),
        (["study", "market.csv", "--simulate", "gaussian", "--degrees-of-freedom", "4"], "say --simulate student_t"),
        (
            ["study", "market.csv", "--simulate", "student_t", "--degrees-of-freedom", "2"],
            "--degrees-of-freedom must be greater than 2",
        ),
        (["study", "market.csv", "--window", "1"], "--window must be a whole number at least 2"),
        (["study", "market.csv", "--window", "121"], "--window must be at most 120"),
        (["study", "market.csv", "--window", "60", "--step", "0"], "--step must be"),
        (["study", "market.csv", "--step", "5"], "--step is about rolling windows: give --window"),
        (["study", "market.csv", "--expanding"], "--expanding is about rolling windows: give --window"),
        (["study", "market.csv", "--window", "60", "--method", "circular"], "--method is about resamples: give --n"),
        (["study", "market.csv", "--subset", "0"], "--subset must be"),
        (["study", "market.csv", "--subset", "13"], "--subset must be at most 12, the panel's assets"),
        (["study", "market.csv", "--stress", "1.5"], "--stress '1.5': write it as volatility=1.5,"),
        (["study", "market.csv", "--stress", ""], "--stress '': write it as"),
        (
            ["study", "market.csv", "--stress", "vol=1.5"],
            "there is no 'vol'; choose from volatility, correlation, mean",
        ),
        (["study", "market.csv", "--stress", "mean=much"], "'much' is not a number"),
        (["study", "market.csv", "--stress", "mean=1,mean=2"], "it names mean twice"),
        (["study", "market.csv", "--stress", "mean=nan"], "--stress: mean must be finite"),
        (["study", "market.csv", "--stress", "volatility=0"], "--stress: volatility multiplies"),
        (["study", "market.csv", "--stress", "correlation=2"], "--stress: correlation must be between -1"),
        (["study", "market.csv", "--keep", "all"], "is not one of 'weights', 'summary'"),
        (["study", "market.csv", "--resume", "--fresh"], "--resume goes on and --fresh starts again: choose one"),
        (["study", "market.csv", "--out", "folder", "--resume"], "is a folder with files in it"),
        (["study", "market.csv", "--out", "folder", "--fresh"], "is a folder with files in it"),
        (["study", "market.csv", "--profile-dir", "market.csv/x"], "cannot write there"),
        (["sweep", "market.csv"], "Missing option '--vary'; see jaxalloc sweep --help"),
        (["sweep", "market.csv", "--vary", "cluster-cap"], "write it as cluster-cap=0.15,0.25"),
        (["sweep", "market.csv", "--vary", "cap=0.1"], "'cap' cannot vary; choose from ewma-decay, "),
        (["sweep", "market.csv", "--vary", "profile=hrp"], "'profile' cannot vary"),
        (["sweep", "market.csv", "--vary", "threshold="], "'' is not a number"),
        (["sweep", "market.csv", "--vary", "threshold=low"], "'low' is not a number"),
        (["sweep", "market.csv", "--vary", "threshold=nan"], "'nan' is not finite"),
        (["sweep", "market.csv", "--vary", "threshold=0.1:0.5"], "write a range as FIRST:LAST:STEP"),
        (["sweep", "market.csv", "--vary", "threshold=0.1:0.5:0"], "write a range as FIRST:LAST:STEP"),
        (["sweep", "market.csv", "--vary", "threshold=0.5:0.1:0.1"], "write a range as FIRST:LAST:STEP"),
        (["sweep", "market.csv", "--vary", "threshold=0:1:1e-9"], "more than 10,000 values"),
        (["sweep", "market.csv", "--vary", "slack=0:1e999999:1e-999999"], "more than 10,000 values"),
        (
            ["study", "market.csv", "--n", "2000000000", "--stress", "volatility=1", "--stress", "volatility=2"],
            "4,000,000,000 universes are too many for one study; it takes",
        ),
        (
            ["sweep", "market.csv", "--vary", "periods-per-year=52,252", "--simulate", "gaussian"],
            "--periods-per-year cannot be swept over simulated returns",
        ),
        (
            ["sweep", "market.csv", "--vary", "slack=1:10:0.001", "--vary", "asset-cap=0.2,0.3,0.4"],
            "of memory; sweep over fewer values at a time",
        ),
        (["sweep", "market.csv", "--vary", "threshold=0.3,2"], "--threshold must be between 0 and 1, not 2.0"),
        (["sweep", "market.csv", "--vary", "threshold=0.3,0.3"], "--threshold names a value twice"),
        (["sweep", "market.csv", "--vary", "max-clusters=3"], "is read under --criterion maxclust or silhouette only"),
        (
            ["sweep", "market.csv", "--vary", "n-aggressors=2", "--profile", "risk_parity"],
            "--n-aggressors is read under --profile barbell only",
        ),
        (
            ["sweep", "market.csv", "--vary", "threshold=0.3", "--vary", "distance_threshold=0.4"],
            "--vary names threshold twice",
        ),
        (["sweep", "market.csv", "--vary", "slack=1.1", "--slack", "1.1"], "--slack is given, and varied too"),
        (
            ["sweep", "market.csv", "--vary", "slack=1.1", "--resume"],
            "--resume is about a study in a folder: give --out",
        ),
        (["sweep", "market.csv", "--vary", "slack=1.1", "--fresh"], "--fresh is about a study in a folder: give --out"),
        (["sweep", "market.csv", "--vary", "slack=1.1", "--subset", "3"], "--subset draws assets for each universe"),
        (["sweep", "market.csv", "--vary", "slack=1.1", "--block", "5"], "--block is about resamples: give --n"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["--frobnicate"], "--frobnicate; see jaxalloc --help"),
    ],
)
def test_bad_command(refused: Callable[..., str], arguments: list[str], message: str) -> None:
    Path("folder.csv").mkdir()
    Path("folder").mkdir()
    Path("folder", "mine").touch()
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.parquet", b"PAR1 and no more", "not a readable Parquet file"),
        ("cut.csv.gz", b"\x1f\x8b\x08 and no more", "damaged or cut short"),
        ("bytes.csv", bytes(range(256)), "not a table in text"),
    ],
)
def test_damaged_file(refused: Callable[..., str], file: Path, name: str, content: bytes, message: str) -> None:
    file.with_name(name).write_bytes(content)
    assert message in refused("allocate", name)


def test_a_scheduler_that_is_not_there(refused: Callable[..., str]) -> None:
    pytest.importorskip("distributed")
    assert "--dask: no scheduler answers at 'nowhere'" in refused("study", "market.csv", "--dask", "nowhere")


@pytest.mark.parametrize(
    ("package", "words", "message"),
    [
        (
            "arch",
            ["--method", "circular", "--block", "auto"],
            "auto needs the package arch; install jaxalloc[blocks]",
        ),
        (
            "distributed",
            ["--dask", "tcp://x:1"],
            "needs the package distributed; install jaxalloc[dask]",
        ),
        ("plotly", ["--report"], "the report needs the package plotly: pip install 'jaxalloc[report]'"),
    ],
)
def test_an_extra_that_is_not_installed(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, package: str, words: list[str], message: str
) -> None:
    gc.collect()  # what another test left to be collected may need the package to end
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert message in refused("study", "market.csv", "--n", "5", "--profile", "risk_parity", *words)


def test_a_scheduler_without_workers(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    class Client(contextlib.AbstractContextManager[Any]):
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def wait_for_workers(self, *_: Any, **__: Any) -> None:
            raise TimeoutError

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(distributed, "Client", Client)
    said = refused("study", "market.csv", "--n", "5", "--profile", "risk_parity", "--dask", "tcp://x:1")
    assert re.search(r"--dask: the scheduler has had no worker for \d+ seconds; start one", said)


def test_a_folder_that_cannot_be_written(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("plotly")
    Path("mine").mkdir()
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.R_OK)
    for words in (("allocate", "--out", "mine/weights.csv"), ("study", "--report", "mine/page.html")):
        assert "the directory 'mine' cannot be written; choose another" in refused(*words, "market.csv")


def test_what_gaps_rule_out(refused: Callable[..., str], file: Path, market: pd.DataFrame) -> None:
    file.write_text(gaps_in_every_row(market))
    mask = ("study", file, "--missing", "mask")
    said = refused(*mask, "--quiet", "--simulate", "gaussian")
    assert "returns without gaps: choose --missing drop-assets, --missing drop-rows or --missing zero, or give" in said
    pytest.importorskip("arch")
    said = refused(*mask, "--quiet", "--method", "circular", "--block", "auto")
    assert "--block auto needs 16 rows and an asset without gaps; give a length" in said


def test_a_sweep_without_a_valid_universe_is_bad_input(
    run: Callable[..., tuple[str, str]], file: Path, market: pd.DataFrame
) -> None:
    file.write_text(gaps_in_every_row(market))
    words = ("sweep", file, "--missing", "mask", "--quiet", "--vary", "slack=1.1,1.2", "--profile", "hrp")
    out, err = run(*words, status=2)
    assert "2 of them invalid" in out
    assert re.fullmatch(r"jaxalloc: error: .*market.csv: no universe has a portfolio: .*\n", err)


def test_no_asset_without_a_gap(refused: Callable[..., str], file: Path, market: pd.DataFrame) -> None:
    market.mask(np.arange(len(market))[:, None] % 4 == np.arange(market.shape[1]) % 4).to_csv(file)
    assert "choose --missing zero, --missing drop-assets or" in refused("allocate", file, "--missing", "mask")


@pytest.mark.slow
def test_an_invalid_universe(refused: Callable[..., str], file: Path, market: pd.DataFrame) -> None:
    file.write_text(with_cell(2, 1, 1e200)(market))  # its variance is past all numbers
    assert "correct it, or leave the asset out" in refused("allocate", file)


def test_bad_target_is_refused_before_the_file_is_read(refused: Callable[..., str]) -> None:
    assert "suffix" in refused("allocate", "nowhere.csv", "--out", "weights.xlsx")


def test_messages_are_said_in_flags() -> None:
    said = {
        "x: say kind='prices'": "x: say --kind prices",
        "choose missing='mask' (gaps), 'zero' (0) or 'drop-rows' (rows)": "choose --missing mask (gaps), zero (0) or "
        "drop-rows (rows)",
        "cluster_cap must be 1": "--cluster-cap must be 1",
        "lower distance_threshold, or raise cluster_cap": "lower --threshold, or raise --cluster-cap",
        "slack must be at least 1": "--slack must be at least 1",
        "go on with resume=True, or fresh=True": "go on with --resume, or --fresh",
        "run it with keep='weights'": "run it with --keep weights",
        'block_length="auto" needs arch': "--block auto needs arch",
        "window must be at most 3": "--window must be at most 3",
        "mean must be finite": "--stress: mean must be finite",
        "sampler.n 3 (now 4), settings.config.cluster_cap 1": "sampler.n 3 (now 4), settings.config.cluster_cap 1",
        "widened to slack / clusters": "widened to slack / clusters",
        "cluster_cap.csv: symbol 'asset_cap' of data/slack": "cluster_cap.csv: symbol 'asset_cap' of data/slack",
    }
    assert {message: options.in_flags(message) for message in said} == said
