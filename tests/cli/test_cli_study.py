"""`jaxalloc study`: the folder, the summary, every option, the progress bar, Ctrl-C and going on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import DAYS_NOTE, RETURNS_NOTE

import jaxalloc as ja
from jaxalloc.cli import command_line, render, running
from jaxalloc.studies.folder import RECORD

Run = Callable[..., tuple[str, str]]

STUDY = ("--n", "5", "--profile", "risk_parity")
CONFIG = ja.AllocationConfig(profiles=("risk_parity",))


def test_study_writes_a_folder_and_prints_a_summary(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, err = run("study", file, *STUDY, "--method", "circular", "--block", "21", "--seed", "3")
    assert err == DAYS_NOTE  # no terminal, no progress bar
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "5 universes, 12 assets" in out
    assert out.splitlines()[-1] == "Wrote market-study"
    wanted = ja.run_study(market, ja.Bootstrap(5, "circular", 21), CONFIG, seed=3)
    pd.testing.assert_frame_equal(ja.load_study("market-study").weights("risk_parity"), wanted.weights("risk_parity"))
    mean = wanted.profile_summary()["mean"]["risk_parity"]
    for words, text in {
        "volatility": f"{100 * mean['volatility']:.2f} %",
        "Sharpe out of bag": f"{mean['out_of_bag_sharpe']:.2f}",
        "effective clusters": f"{mean['effective_clusters']:.1f}",
        "turnover": f"{100 * mean['turnover']:.2f} %",
    }.items():
        assert re.search(rf"^{words} .* {re.escape(text)} ", out, re.MULTILINE), words


def test_how_well_clusters_hold_together_is_one_line(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, _ = run("study", file, *STUDY, "--threshold", "0.3", "--keep", "summary")
    wanted = ja.run_study(market, ja.Bootstrap(5), CONFIG.replace(distance_threshold=0.3)).cluster_stability()
    least = wanted.loc[wanted["stability"].idxmin()]
    share, mean = f"{100 * least['stability']:.0f} %", f"{100 * wanted['stability'].mean():.0f} %"
    assert share != "100 %"
    assert f"\nclusters hold together in {mean} of universes; least, in {share}: {least['members']}\n" in out
    calm, _ = run("study", file, *STUDY)
    assert "\nclusters hold together in 100 % of universes\n" in calm


def test_study_takes_a_new_name_unless_told_one(
    run: Run, file: Path, refused: Callable[..., str], undocumented: Callable[..., set[str]]
) -> None:
    for name in ("market-study", "market-study-2"):
        out, _ = run("study", file, *STUDY, "--json")
        document = json.loads(out)
        assert document["folder"] == name
        assert document["n_valid"] == 5
        assert {row["symbol"] for row in document["assets"]} == set(pd.read_csv(file).columns[1:])
        assert sum(row["universes"] for row in document["cluster_counts"]) == 5
        assert sum(row["size"] for row in document["stability"]) == 12
        assert (Path(name) / RECORD).is_file()
        assert undocumented("study", document, ja.load_study(name).record) == set()
    message = refused("study", file, *STUDY, "--out", "market-study")
    assert "holds a finished study: go on with it with --resume, replace it with --fresh, or choose" in message


def test_quiet_and_json_leave_nothing_but_the_document(run: Run, file: Path, market: pd.DataFrame) -> None:
    market.iloc[::-1].to_csv(file)  # sorting it is worth a note
    assert run("study", file, *STUDY)[1].startswith("note: Sorted")
    out, err = run("study", file, *STUDY, "--json", "--quiet")
    assert err == ""
    assert json.loads(out)["profiles"][0]["profile"] == "risk_parity"


def factors(folder: str) -> list[dict[str, Any]]:
    sampler = ja.load_study(folder).record["sampler"]
    return sampler["factors"] if sampler["sampler"] == "Product" else [sampler]


BOOTSTRAP = {"sampler": "Bootstrap", "n": 1000, "method": "iid", "block_length": None}


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("--keep summary", [BOOTSTRAP]),
        ("--n 3 --subset 8", [BOOTSTRAP | {"n": 3}, {"sampler": "RandomSubsets", "size": 8, "n": None}]),
        ("--n 3 --method stationary --block 2.5", [BOOTSTRAP | {"n": 3, "method": "stationary", "block_length": 2.5}]),
        ("--window 60", [{"sampler": "RollingWindows", "window": 60, "step": 21, "expanding": False, "live": False}]),
        (
            "--window 60 --step 30 --expanding --n 2",
            [
                BOOTSTRAP | {"n": 2},
                {"sampler": "RollingWindows", "window": 60, "step": 30, "expanding": True, "live": False},
            ],
        ),
        pytest.param(
            "--simulate student_t --degrees-of-freedom 4 --n 3",
            [
                {"sampler": "Parametric", "n": 3, "distribution": "student_t", "degrees_of_freedom": 4.0}
                | {"n_observations": 120, "mean": None, "covariance": None}
            ],
            marks=pytest.mark.slow,
        ),
        (
            "--n 2 --stress volatility=1 --stress volatility=1.5,correlation=0.5,mean=-0.1",
            [
                BOOTSTRAP | {"n": 2},
                {"sampler": "Stress", "volatility": [1.0, 1.5], "correlation": [0.0, 0.5], "mean": [0.0, -0.1]}
                | {"names": None},
            ],
        ),
    ],
)
def test_options_draw_what_they_say(run: Run, file: Path, flags: str, wanted: list[dict[str, Any]]) -> None:
    run("study", file, *flags.split(), "--profile", "risk_parity", "--out", "new")
    assert factors("new") == wanted


def test_stress_is_in_the_weights(run: Run, file: Path, market: pd.DataFrame) -> None:
    run("study", file, *STUDY, "--stress", "volatility=1", "--stress", "volatility=2", "--out", "new")
    volatility = ja.load_study("new").universes()["volatility"].to_numpy()
    np.testing.assert_allclose(volatility[1::2], 2 * volatility[::2])
    calm = ja.run_study(market, ja.Bootstrap(5), CONFIG).universes()["volatility"]
    np.testing.assert_allclose(volatility[::2], calm, rtol=1e-12)


def test_automatic_blocks(run: Run, file: Path) -> None:
    pytest.importorskip("arch")
    run("study", file, *STUDY, "--method", "circular", "--block", "auto", "--out", "new")
    assert factors("new")[0]["block_length"] >= 1


def test_keep_summary_prints_the_same_and_keeps_no_universes(run: Run, file: Path) -> None:
    texts = [run("study", file, *STUDY, "--keep", keep, "--out", keep)[0] for keep in ("weights", "summary")]
    assert texts[0].splitlines()[:-1] == texts[1].splitlines()[:-1]
    assert not list(Path("summary").glob("chunks/*"))
    study = ja.load_study("summary")
    pd.testing.assert_frame_equal(study.summary(), ja.load_study("weights").summary())
    with pytest.raises(ja.InputError, match="keeps summaries only"):
        study.weights("risk_parity")


def test_how_it_runs_is_passed_on(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def listen(*_: Any, **options: Any) -> None:
        told.update(options)
        raise ja.InputError("heard")

    monkeypatch.setattr(running, "run_study", listen)
    flags = ["--dask", "tcp://x:1", "--chunk-size", "300", "--precision", "32", "--profile-dir", "trace", "--resume"]
    run("study", file, *STUDY, *flags, status=2)
    wanted = {"dask": "tcp://x:1", "chunk_size": 300, "precision": 32, "profile_dir": Path("trace"), "resume": True}
    assert {name: told[name] for name in wanted} == wanted
    run("study", file, *STUDY, "--fresh", status=2)
    assert (told["fresh"], told["resume"], told["chunk_size"], told["precision"]) == (True, False, "auto", 64)


def test_profile_dir_gets_a_trace(run: Run, file: Path) -> None:
    run("study", file, *STUDY, "--profile-dir", "trace")
    assert [path for path in Path("trace").rglob("*") if path.is_file()]


def test_resume_and_fresh_take_the_folder_of_before(run: Run, file: Path, refused: Callable[..., str]) -> None:
    for flags in (["--resume"], ["--resume"], ["--fresh", "--seed", "1"]):
        out, _ = run("study", file, *STUDY, *flags)
        assert out.splitlines()[-1] == "Wrote market-study"
    assert ja.load_study("market-study").seed == 1
    assert "seed 1 (now 0)" in refused("study", file, *STUDY, "--resume")
    assert sorted(os.listdir()) == ["market-study", "market.csv"]


def test_resamples_may_miss_every_gap(run: Run, file: Path, market: pd.DataFrame) -> None:
    market.mask(np.eye(*market.shape) > 0).to_csv(file)
    out, err = run("study", file, *STUDY, "--missing", "mask", "--max-missing", "0")
    assert "note: Left 12 missing returns in 12 symbols as gaps" in err
    assert "5 universes, 12 assets" in out
    assert re.search(r"^volatility +- +\d", out, re.MULTILINE)  # there is no estimate
    assert "hold together" not in out
    assert "nan" not in out


def test_a_few_missing_returns_put_no_asset_out(run: Run, file: Path, market: pd.DataFrame) -> None:
    frame = market.copy()
    frame.iloc[50:53, 2] = np.nan
    frame.iloc[:10, 4] = np.nan
    frame.to_csv(file)
    study = ("study", file, "--window", "60", "--step", "30", "--missing", "mask")
    told = "3 missing returns inside the life of 1 asset count as 0 where a universe misses at most 5 % of its rows; "
    _, err = run(*study, "--out", "few")
    assert told + f"1 of 12 assets was put out of universes: '{market.columns[4]}' (in 2 of 3: listed late or" in err
    assert [note in err for note in ja.load_study("few").record["notes"] if told in note] == [True]
    assert (ja.load_study("few").clusters().to_numpy()[:, 2] >= 0).all()
    _, err = run(*study, "--out", "none", "--max-missing", "0")
    assert "2 of 12 assets were put out of universes: " in err
    assert (ja.load_study("none").clusters().to_numpy()[:, 2] >= 0).tolist() == [False, False, True]
    assert "--max-missing must be a share of the rows" in run(*study, "--max-missing", "1", status=2)[1]


def test_a_study_by_the_calendar(run: Run, file: Path, market: pd.DataFrame) -> None:
    run("study", file, "--window", "60", "--step", "month-end", "--out", "months")
    assert factors("months")[0]["step"] == "month-end"
    assert ja.load_study("months").n == len(set(market.index[59:].to_period("M")))
    assert "--step 'day': give a number" in run("study", file, "--window", "60", "--step", "day", status=2)[1]


def test_a_study_without_a_valid_universe_is_bad_input(run: Run, file: Path, market: pd.DataFrame) -> None:
    rows, columns = np.indices(market.shape)
    market.mask((rows + columns) % 2 == 0).to_csv(file)
    out, err = run("study", file, *STUDY, "--missing", "mask", "--quiet", status=2)
    assert "5 universes (5 of them invalid), 12 assets in no clusters" in out
    assert "note: in 5 of 5 universes: no allocation" in out
    assert re.fullmatch(r"jaxalloc: error: .*market.csv: no universe has a portfolio: .*\n", err)


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------


def interrupted(*arguments: str) -> str:
    """Send Ctrl-C to a study, in a process of its own, when its first chunks are there; return what it says."""
    # a shell that runs the tests in the background has SIGINT ignored, and its children with it
    heed = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; from jaxalloc.cli import main; sys.exit(main())"
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    # an interrupted process may leave half a program in the folder that the others share
    own = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own) as process:
        limit = time.monotonic() + 300
        while not list(Path().glob("*-study*/chunks/*.parquet")) and process.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, ""), err
    assert len(err.splitlines()) == 1, err
    return err


def test_ctrl_c_loses_nothing_and_says_how_to_go_on(run: Run, file: Path) -> None:
    flags = ("--profile=risk_parity", "--n=8000", "--chunk-size=64", "--quiet")
    said = interrupted("study", file.name, *flags)
    found = re.fullmatch(
        r"jaxalloc: interrupted; ([\d,]+) of 8,000 universes are kept in market-study; resume with: jaxalloc (.*)\n",
        said,
    )
    assert found is not None, said
    assert 0 < int(found[1].replace(",", "")) < 8000
    chunks = {path: path.stat().st_mtime_ns for path in Path("market-study/chunks").iterdir()}
    out, _ = run(*shlex.split(found[2]))
    assert "8,000 universes" in out
    assert {path: path.stat().st_mtime_ns for path in chunks} == chunks  # not computed again
    run("study", file, *flags[:2], "--out", "whole")  # in one chunk
    whole, resumed = ja.load_study("whole"), ja.load_study("market-study")
    pd.testing.assert_frame_equal(resumed.weights("risk_parity"), whole.weights("risk_parity"))
    pd.testing.assert_frame_equal(resumed.summary(), whole.summary())


@pytest.mark.parametrize(
    ("words", "resuming"),
    [
        ("study a.csv --n 9", "jaxalloc study a.csv --n 9 --out 'my folder' --resume"),
        ("study a.csv --fresh --out=b", "jaxalloc study a.csv --out=b --resume"),
        ("study --resume --out b -- -a.csv", "jaxalloc study --out b --resume -- -a.csv"),
    ],
)
def test_the_command_that_goes_on(words: str, resuming: str) -> None:
    assert command_line.resuming(words.split(), Path("my folder")) == resuming


@pytest.mark.parametrize("keep", ["weights", "summary"])
def test_what_is_kept_is_counted(
    run: Run, file: Path, market: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    run("study", file, *STUDY, "--keep", keep, "--out", "new")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_study", interrupt)
    out, err = run("study", file, *STUDY, "--keep", keep, "--out", "new", "--resume", status=130)
    assert out == ""
    assert err.removeprefix(RETURNS_NOTE).startswith(
        "jaxalloc: interrupted; 5 of 5 universes are kept in new; resume with: jaxalloc study "
    )


def test_an_interrupt_before_anything_is_kept_is_just_that(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxalloc.studies.chunks.Runner.start", interrupt)
    assert run("study", file, *STUDY, "--out", "new", status=130) == ("", RETURNS_NOTE + "jaxalloc: interrupted\n")


# ---- progress -------------------------------------------------------------------------------------------------------


def test_short_work_says_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with render.progress_bar(10, quiet=False) as advance:
        assert advance is not None
        advance(10)
    with render.working("allocating", quiet=False):
        pass
    assert capsys.readouterr() == ("", "")


def test_long_work_says_so_line_by_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "LINE_SECONDS", 0.05)

    def lines(wanted: str) -> list[str]:
        """Wait until such a line has come."""
        said = ""
        for _ in range(200):
            said += capsys.readouterr().err
            if re.search(wanted, said):
                break
            time.sleep(0.02)
        return said.splitlines()

    with render.progress_bar(1000, quiet=False) as advance:
        assert advance is not None
        assert lines("compiling")[0].startswith("compiling, and the first of 1,000 universes; 0:00:0")
        advance(100)
        assert lines("100 of 1,000 universes; ")
        advance(200)
        assert lines(r"300 of 1,000 universes, [\d,]+ a second, 0:00:\d\d left; ")
    with render.working("allocating to 5 assets", quiet=False):
        assert lines("allocating to 5 assets; 0:00:0")
    with render.progress_bar(10, quiet=True) as advance:
        assert advance is None
        time.sleep(0.15)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with render.progress_bar(10, quiet=True) as advance:
        assert advance is None
    with render.progress_bar(10, quiet=False) as advance:
        assert advance is not None
        advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "10/10" in err


class Clock:
    """A task of the progress bar at some moment."""

    def __init__(self, completed: float, elapsed: float, total: float = 1000) -> None:
        self.completed, self.elapsed, self.remaining = completed, elapsed, total - completed
        self.finished, self.finished_time = completed == total, elapsed


def test_the_pace_counts_what_this_run_does() -> None:
    told = [Clock(0, 5), Clock(100, 10), Clock(100, 12), Clock(300, 14), Clock(1000, 24)]
    new, resumed = ([str(pace.render(task)) for task in told] for pace in map(render._Pace, (False, True)))
    assert new[0] == resumed[0] == "compiling"
    assert new[1] == "10 universes/s, 0:01:30 left"
    assert resumed[1:4] == ["going on"] * 3  # 100 of an earlier run, and 200 that waited for the compiler
    assert new[3] == "50 universes/s, 0:00:14 left"  # 200 in 4 seconds
    assert new[4] == "64 universes/s"
    assert resumed[4] == "70 universes/s"  # 700 in 10 seconds
