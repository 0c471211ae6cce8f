"""`jaxalloc cross-validate`: what is printed, the document, the folder, every option, Ctrl-C and going on."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.cli import cross_validate as command_module
from jaxalloc.cli.render import percent

Run = Callable[..., tuple[str, str]]

PROFILES = ("equal_weight", "risk_parity")  # one shape and one set of profiles, so that little is compiled
CONFIG = ja.AllocationConfig(profiles=PROFILES)
SPLIT = ("--groups", "6", *(f"--profile={profile}" for profile in PROFILES))
VALIDATE = ("cross-validate", "market.csv", *SPLIT, "--quiet")


def validated(market: pd.DataFrame, settings: Any = CONFIG, **options: Any) -> ja.CrossValidation:
    return ja.cross_validate(market, settings, **({"groups": 6} | options))


def test_the_spread_over_the_paths_is_printed_and_kept(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, err = run("cross-validate", file.name, *SPLIT, "--costs-bps", "5")
    assert "note: No return was missing." in err
    assert max(map(len, out.splitlines())) <= 80
    assert out.splitlines()[-1] == "Wrote market-cross-validate"
    wanted, said = validated(market, costs_bps=5), " ".join(out.split())
    assert "5 paths of 15 splits, 12 assets, held on 120 rows, 2021-01-04 to 2021-06-18" in said
    assert "all but 2 of 6 groups of 20 rows, a purge of 0 and an embargo of 2 rows; trading costs 5 bp;" in said
    table, lost, won = wanted.path_quantiles(), wanted.losses(), wanted.beats()
    row = table.loc[("risk_parity", "sharpe")]
    shown = [f"{row[name]:.2f}" for name in ("mean", "q05", "q95")]
    shown += [f"{100 * share.loc['risk_parity', 'sharpe']:.0f} %" for share in (lost, won)]
    assert re.search(rf"^risk parity +Sharpe +{' +'.join(map(re.escape, shown))}$", out, re.MULTILINE)
    for profile in PROFILES:
        for measure, heading in (("volatility", "volatility"), ("max_drawdown", "drawdown"), ("turnover", "turnover")):
            row = table.loc[(profile, measure)]
            shown = [percent(row[name]) for name in ("mean", "q05", "q95")]
            assert re.search(rf"{heading} +{' +'.join(map(re.escape, shown))} ", out)
    pbo = wanted.overfitting()["pbo"]
    assert f"PBO {pbo.mean():.2f} on average over the paths, {pbo.min():.2f} to {pbo.max():.2f}: how often" in said
    assert "Paths share rows and portfolios" in said
    kept = pd.read_csv("market-cross-validate/paths.csv").set_index(["path", "profile"])
    pd.testing.assert_frame_equal(kept, wanted.paths(), rtol=1e-12)
    assert ja.load_study("market-cross-validate").weights("risk_parity").equals(wanted.study.weights("risk_parity"))


def test_a_machine_gets_one_document(
    run: Run, file: Path, market: pd.DataFrame, undocumented: Callable[..., set[str]]
) -> None:
    out, err = run(*VALIDATE, "--json", "--base", "risk_parity", "--purge", "1", "--embargo", "3", "--band", "0.01")
    assert err == ""
    found, wanted = json.loads(out), validated(market, purge=1, embargo=3, band=0.01)
    assert (found["folder"], found["plot"], found["base"]) == ("market-cross-validate", None, "risk_parity")
    assert (found["n_splits"], found["n_paths"], found["n_valid"]) == (15, 5, 15)
    assert found["sampler"] == wanted.splits.settings()
    assert undocumented("cross-validate", found, wanted.record) == set()
    assert (found["band"], found["max_turnover"], found["costs_bps"], found["bagging"]) == (0.01, None, 0.0, None)
    sharpe = [row["mean"] for row in found["path_quantiles"] if row["measure"] == "sharpe"]
    assert sharpe == wanted.summary()["mean"].tolist()
    assert [row["sharpe"] for row in found["losses"]] == wanted.losses()["sharpe"].tolist()
    assert found["beats"][0]["sharpe"] == wanted.beats("risk_parity").loc["equal_weight", "sharpe"]
    assert [row["pbo"] for row in found["overfitting"]] == wanted.overfitting()["pbo"].tolist()
    assert [row["turnover"] for row in found["paths"]] == wanted.paths()["turnover"].tolist()


def test_settings_bands_and_costs_are_swept(run: Run, file: Path, market: pd.DataFrame) -> None:
    words = ("--vary", "cluster-cap=0.2,0.25", "--vary", "costs-bps=0,30")
    out, _ = run(*VALIDATE, *words, "--out", "swept")
    assert max(map(len, out.splitlines())) <= 80
    wanted = validated(market, ja.sweep(CONFIG, cluster_cap=[0.2, 0.25]), costs_bps=[0, 30])
    rows = re.findall(r"^ +(0\.25?) +(0|30) +(\S+) +(\S+) +(\S+) +(\d+) % ", out, re.MULTILINE)
    points = [(profile, *point) for profile in PROFILES for point in wanted.settings.points]
    summary, lost = wanted.summary(), wanted.losses()["sharpe"]
    for (cap, cost, *shown, below), (profile, *point) in zip(rows, points, strict=True):
        assert [float(cap), float(cost)] == point
        row = summary.loc[(*point, profile)]
        assert list(map(float, shown)) == pytest.approx([row[name] for name in ("mean", "q05", "q95")], abs=0.005)
        assert float(below) == pytest.approx(100 * lost.loc[(*point, profile)], abs=0.5)
    assert "of 8 trials" in out.replace("\n", " ")


def test_portfolios_are_bagged(run: Run, file: Path, market: pd.DataFrame) -> None:
    words = ("--bag", "5", "--bag-block", "10", "--seed", "4")
    out, _ = run(*VALIDATE, *words, "--out", "bagged", "--json")
    wanted = validated(market, bagging=ja.Bootstrap(5, "circular", 10), seed=4)
    found = json.loads(out)
    assert found["bagging"] == {"sampler": "Bags", "n": 5, "method": "circular", "block_length": 10}
    assert [row["sharpe"] for row in found["paths"]] == wanted.paths()["sharpe"].tolist()
    out, _ = run(*VALIDATE, *words, "--out", "bagged", "--resume")
    assert wanted.bagging_words in " ".join(out.split())


def test_a_picture_is_written(run: Run, file: Path) -> None:
    pytest.importorskip("plotly")
    out, _ = run(*VALIDATE, "--plot", "paths.html")
    assert out.splitlines()[-2:] == ["Wrote market-cross-validate", "Wrote paths.html"]
    assert "risk parity" in Path("paths.html").read_text(encoding="utf-8")


def test_gaps_and_splits_without_a_portfolio_are_counted(run: Run, file: Path, market: pd.DataFrame) -> None:
    frame = market.copy()
    frame.iloc[70:72, 3] = np.nan
    frame.to_csv(file)
    out, _ = run(*VALIDATE)
    most = validated(frame).paths()["missing"].max()
    assert f"the path with the most has {most:,} (days times assets)" in " ".join(out.split())
    rows, columns = np.indices(market.shape)
    market.mask(rows % market.shape[1] == columns).to_csv(file)
    out, err = run(*VALIDATE, "--out", "empty", status=2)
    assert "note: 60 of 60 rebalances, counted over all profiles and paths, had no portfolio" in " ".join(out.split())
    assert "nan" not in out
    assert re.fullmatch(r"jaxalloc: error: .*market.csv: no universe has a portfolio: .*\n", err)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    run: Run, file: Path, market: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("jaxalloc.backtest.validate._hold_paths", interrupt)
        _, err = run(*VALIDATE, "--bag", "2", status=130)
    words = r"jaxalloc: interrupted; 45 of 45 universes are kept in market-cross-validate; resume with: (.*)\n"
    said = re.fullmatch(words, err)
    assert said is not None, err
    out, _ = run(*shlex.split(said[1])[1:], "--json")
    wanted = validated(market, bagging=ja.Bootstrap(2, "circular", 21))
    assert [row["sharpe"] for row in json.loads(out)["paths"]] == wanted.paths()["sharpe"].tolist()


def test_options_are_passed_on(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def listen(panel: Any, settings: Any, **options: Any) -> None:
        told.update(options, settings=settings)
        raise ja.InputError("heard")

    monkeypatch.setattr(command_module, "run_cross_validate", listen)
    given = "--groups 5 --test-groups 3 --purge 2 --embargo 4 --band 0.01 --max-turnover 0.2 --costs-bps 2.5 --seed 9"
    given += " --max-missing 0.1 --chunk-size 300 --precision 32 --profile-dir trace --dask tcp://x:1 --resume"
    run("cross-validate", file, *given.split(), "--linkage=ward", "--bag", "3", "--out", "new", status=2)
    wanted = {"groups": 5, "test_groups": 3, "purge": 2, "embargo": 4, "band": 0.01, "max_turnover": 0.2, "seed": 9}
    wanted |= {"costs_bps": 2.5, "max_missing": 0.1, "chunk_size": 300, "precision": 32, "profile_dir": Path("trace")}
    wanted |= {"dask": "tcp://x:1", "resume": True, "fresh": False, "out": Path("new")}
    wanted |= {"bagging": ja.Bootstrap(3, "circular", 21)}
    assert {name: told[name] for name in wanted} == wanted
    assert told["settings"] == ja.sweep(ja.AllocationConfig(linkage="ward"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--groups 1", "--groups must be a whole number at least 2, not 1"),
        ("--groups 121", "--groups must be at most 120, the panel's rows, not 121"),
        ("--test-groups 6", "--test-groups must be less than groups, 6"),
        ("--test-groups 0", "--test-groups must be a whole number at least 1, not 0"),
        ("--purge -1", "--purge must be a whole number at least 0, not -1"),
        ("--embargo -1", "--embargo must be a whole number at least 0, not -1"),
        ("--purge 60", "rows left to decide on, 2 are needed; take fewer --test-groups, or a smaller purge or embargo"),
        ("--band 1", "--band must be at least 0 and less than 1, a weight such as 0.01, not 1.0"),
        ("--costs-bps -1", "--costs-bps must be at least 0 and less than 5,000, not -1.0"),
        ("--vary costs-bps=0,1 --costs-bps 2", "--costs-bps is given, and varied too: leave one of them out"),
        ("--base hrp", "--base 'hrp' is none of the profiles: choose from equal_weight, risk_parity"),
        ("--bag-block 5", "--bag-block is about resamples for bagging: give --bag, how many"),
        ("--bag 5 --bag-block 500", "whole number from 1 to"),
        ("--plot page.txt", "must be a file whose name ends in .html"),
        ("--chunk-size 0", "--chunk-size must be a whole number at least 1, not 0"),
    ],
)
def test_what_is_refused_is_one_line(refused: Callable[..., str], words: str, message: str) -> None:
    assert message in refused(*VALIDATE, *words.split())
