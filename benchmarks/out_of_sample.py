"""Does it help? Clusters, their cut and cap, the barbell, bagging and bands of trading, out of sample.

    JAXALLOC_DATA=folder python benchmarks/out_of_sample.py [--paths 500] [--out folder]

walks forward through ten years of real stocks (a year to decide on, 5 bp of cost), as it happened and over bootstrap
paths, with and without each of these, and beside the baselines. It writes out_of_sample.json and,
from that, out_of_sample.md and out_of_sample_summary.md in benchmarks/results. A run that was interrupted goes on where
it was.

Four panels: all stocks; 100 of them, chosen by lot; a crowded one, the stock that the first year shows in the thickest
crowd, its 49 nearest neighbours, and 50 others by lot; and tickers, 20 stocks by lot of which each is listed 1 to 24
times (`listings`). The choice looks at the first year alone, in which no portfolio is held yet.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from panels import FILE, RESULTS

import jaxalloc as ja
from jaxalloc.backtest.performance import difference_intervals
from jaxalloc.cli import machine
from jaxalloc.settings.measures import FIGURES

WINDOW, COST = 252, 5.0
COSTS, BANDS = [COST, 10.0, 30.0], [0.0, 0.01]  # each of them with each
BAGGING = ja.Bootstrap(50, "circular", 21)  # of each window
BAGGED = ("min_variance", "risk_parity", "max_sharpe", "barbell", "hrp", "asset_max_sharpe")
BAGGED_PATHS = 100  # of the paths, the first ones
STEP = {"all": 21, "hundred": 63, "crowded": 63, "tickers": 63}  # days held: a month, and with paths a quarter
TICKERS = (24, 16, 12, 8, 6, 5, 4, 4, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1)  # of each of 20 stocks, 100 in all
BASIS = 0.25  # deviation of a ticker's price from its stock's, in daily deviations of the stock; gone the next day
BLOCK = 63  # days of a bootstrap block: about a quarter
RESAMPLES = 2000  # for intervals of the history
CLUSTERED = ("min_variance", "risk_parity", "max_sharpe", "barbell")
BASELINES = (
    *("equal_weight", "inverse_variance", "inverse_volatility", "hrp", "herc", "nco"),
    *("asset_min_variance", "asset_max_sharpe", "asset_risk_parity", "max_diversification"),
)
ON_PATHS = (*CLUSTERED, "equal_weight", "inverse_volatility", "hrp", "nco", *BASELINES[6:9])
VARIANTS = {"cluster_cap": [0.25, 1.0], "distance_threshold": [0.4, 0.55]}
MEASURES = ("volatility", "sharpe", "max_drawdown", "turnover")


class Contrast(NamedTuple):
    """What is asked, and the two sides: a profile, and the settings that are not the defaults."""

    question: str
    profile: str
    settings: dict[str, Any]
    other: str
    other_settings: dict[str, Any]


NONE: dict[str, Any] = {}
OPEN, COARSE = {"cluster_cap": 1.0}, {"distance_threshold": 0.55}
CONTRASTS = (
    *(Contrast("cluster cap 25 % or none", p, NONE, p, OPEN) for p in CLUSTERED[:3]),
    *(
        Contrast("cluster cap 25 % or none, coarse clusters", p, COARSE, p, OPEN | COARSE)
        for p in ("min_variance", "risk_parity")
    ),
    *(Contrast("clusters, or the assets themselves", p, NONE, f"asset_{p}", NONE) for p in CLUSTERED[:3]),
    *(Contrast("coarse clusters, or the assets themselves", p, COARSE, f"asset_{p}", NONE) for p in CLUSTERED[:3]),
    Contrast("inside: inverse variance, or minimum variance (nco)", "min_variance", OPEN, "nco", NONE),
    Contrast("the barbell, or its core alone", "barbell", NONE, "risk_parity", NONE),
    Contrast("against equal weight", "risk_parity", NONE, "equal_weight", NONE),
    Contrast("against inverse volatility", "risk_parity", NONE, "inverse_volatility", NONE),
    Contrast("against hierarchical risk parity", "risk_parity", NONE, "hrp", NONE),
    Contrast("against hierarchical risk parity", "min_variance", NONE, "hrp", NONE),
)
# clusters without the market, as many as the silhouette says
DETONED = {"detone": True, "criterion": "silhouette"}
CONTRASTS = (
    *CONTRASTS,
    *(Contrast("detoned silhouette clusters, or the default cut", p, DETONED, p, NONE) for p in CLUSTERED),
    *(
        Contrast("detoned silhouette clusters, or the assets themselves", p, DETONED, f"asset_{p}", NONE)
        for p in CLUSTERED[:3]
    ),
    Contrast("detoned silhouette clusters, against hierarchical risk parity", "risk_parity", DETONED, "hrp", NONE),
)
CONTRASTS = (
    *CONTRASTS,
    *(Contrast("bagged, or decided once", p, {"bagged": True}, p, NONE) for p in BAGGED),
    *(
        Contrast(
            f"a band of 1 %, or none, at {cost:g} bp", p, {"band": 0.01, "costs_bps": cost}, p, {"costs_bps": cost}
        )
        for cost in COSTS[1:]
        for p in ("min_variance", "risk_parity", "max_sharpe", "hrp")
    ),
)
# the rows of the summary: a question in a user's words, and the contrast that answers it
SUMMARY = (
    ("Risk parity over clusters, or over the assets?", 6),
    ("Minimum variance over clusters, or over the assets?", 5),
    ("Maximum Sharpe over clusters, or over the assets?", 7),
    ("Risk parity, or equal weight?", 13),
    ("Risk parity, or hierarchical risk parity?", 15),
    ("Minimum variance, or hierarchical risk parity?", 16),
    ("The cap of 25 % on clusters, for minimum variance?", 0),
    ("The barbell, or its core alone?", 12),
    ("Detoned silhouette clusters, or the default cut, for risk parity?", 18),
    ("Detoned silhouette clusters, or the default cut, for minimum variance?", 17),
    ("Maximum Sharpe, bagged or not?", 27),
    ("Hierarchical risk parity, bagged or not?", 29),
    ("Minimum variance, bagged or not?", 25),
)
BY_YEAR = (0, 1, 5, 6, 11, 12, 14, 18)  # of the contrasts: those that are looked at year by year


def main() -> int:
    """Run what is left to do, and write the page; return an exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=500, help="bootstrap paths (default 500)")
    parser.add_argument("--assets", type=int, default=None, help="at most so many assets a panel, for a trial")
    parser.add_argument("--panels", nargs="+", choices=list(STEP), help="default: all of them")
    parser.add_argument("--page", action="store_true", help="only write out_of_sample.md from out_of_sample.json again")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default benchmarks/results)")
    arguments = parser.parse_args()
    path = arguments.out / "out_of_sample.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"panels": {}}
    if not arguments.page:
        folder = os.environ.get("JAXALLOC_DATA")
        if not folder:
            print("set JAXALLOC_DATA to the folder that has " + FILE, file=sys.stderr)
            return 2
        returns = pd.read_parquet(Path(folder) / FILE)
        settings = {"paths": arguments.paths, "window": WINDOW, "step": STEP, "costs_bps": COST, "block_length": BLOCK}
        settings |= {"bagging": BAGGING.settings(), "bagged_paths": BAGGED_PATHS, "costs": COSTS, "bands": BANDS}
        if found.get("settings") != settings:
            found = {"settings": settings, "panels": {}}
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name in arguments.panels or STEP:
            if name in found["panels"] and not arguments.panels:
                continue
            panel = choose(returns, name, arguments.assets)
            found["panels"][name] = study(name, panel, 0 if name == "all" else arguments.paths)
            found |= {"machine": machine.machine(), "versions": machine.versions()}
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "out_of_sample.md").write_text(page(found), encoding="utf-8")
    (arguments.out / "out_of_sample_summary.md").write_text(summary(found), encoding="utf-8")
    return 0


def choose(returns: pd.DataFrame, name: str, most: int | None) -> pd.DataFrame:
    """Return the panel of that name, its columns in the order of the file's."""
    lots = np.random.default_rng(2007).permutation(returns.shape[1])
    if name == "tickers":
        return listings(returns.iloc[:, lots[: len(TICKERS)]])
    n = returns.shape[1] if name == "all" else 100
    n = n if most is None else min(n, most)
    if name != "crowded":
        return returns.iloc[:, np.sort(lots[:n])]
    correlation = returns.iloc[:WINDOW].corr().to_numpy()
    nearest = np.argsort(-correlation, axis=1, kind="stable")[:, : n // 2]  # itself first
    thickness = np.take_along_axis(correlation, nearest, axis=1).mean(axis=1)
    crowd = nearest[thickness.argmax()]
    others = lots[~np.isin(lots, crowd)][: n - len(crowd)]
    return returns.iloc[:, np.sort(np.concatenate([crowd, others]))]


def listings(stocks: pd.DataFrame) -> pd.DataFrame:
    """Many tickers of few things, such as a coin on many venues, share classes, or funds on one index.

    The price of a ticker is that of its stock times 1 + e, where e is new every day, normal, with a deviation of
    `BASIS` times the stock's daily one. So every ticker of a stock earns what the stock does, and which of them is
    dearer today means nothing.

    Args:
        stocks: (T, K) returns of as many stocks as there are `TICKERS`.

    Returns:
        (T, N) returns, N the sum of `TICKERS`, named by stock and number.
    """
    rng, made = np.random.default_rng(2016), {}
    for (name, own), count in zip(stocks.items(), TICKERS, strict=True):
        basis = 1 + BASIS * own.std() * rng.normal(size=(len(own) + 1, count))
        for k in range(count):
            made[f"{name}.{k + 1}"] = (1 + own.to_numpy()) * basis[1:, k] / basis[:-1, k] - 1
    return pd.DataFrame(made, index=stocks.index)


# ---- computing ------------------------------------------------------------------------------------------------------


def study(name: str, panel: pd.DataFrame, n_paths: int) -> dict[str, Any]:
    """Walk a panel forward at the defaults with the baselines, and at the variants without; compare.

    Both draw the same paths, so that every comparison is between portfolios that lived through the same days.
    """
    start = time.perf_counter()
    profiles = (*CLUSTERED, *BASELINES) if n_paths == 0 else ON_PATHS
    paths = ja.Bootstrap(n_paths, method="stationary", block_length=BLOCK) if n_paths else None
    few = dataclasses.replace(paths, n=min(n_paths, BAGGED_PATHS)) if paths else None  # the first ones, the same
    keep = Path(tempfile.gettempdir()) / f"jaxalloc-out-of-sample-{name}-{panel.shape[1]}-{n_paths}"
    runs = {}
    # each band and cost holds the same portfolios: nothing is allocated anew
    for label, config, options in (
        ("defaults", ja.AllocationConfig(profiles=profiles), {"band": BANDS, "costs_bps": COSTS, "paths": paths}),
        ("variants", ja.sweep(ja.AllocationConfig(profiles=CLUSTERED[:3]), **VARIANTS), {"paths": paths}),
        ("detoned", ja.AllocationConfig(profiles=CLUSTERED, **DETONED), {"paths": paths}),
        ("bagged", ja.AllocationConfig(profiles=BAGGED), {"paths": few, "bagging": BAGGING}),
    ):
        runs[label] = ja.walk_forward(
            panel,
            config,
            WINDOW,
            STEP[name],
            out=keep / label,
            resume=True,
            progress=Beat(label),
            **({"costs_bps": COST} | options),
        )
        print(f"{name}, {label}: {time.perf_counter() - start:.0f} s", flush=True)
    sides = Sides(runs)
    record = {
        "n_assets": panel.shape[1],
        "days": len(runs["defaults"].days),
        "first_day": str(runs["defaults"].days[0])[:10],
        "last_day": str(runs["defaults"].days[-1])[:10],
        "clusters": {
            **{key: clusters(runs["variants"], at) for key, at in sides.thresholds().items()},
            "the silhouette's choice, detoned": clusters(runs["detoned"], 0),
        },
        "profiles": profile_table(runs["defaults"]),
        "contrasts": [contrast(sides, each) for each in CONTRASTS],
        "years": years(sides),
        "seconds": round(time.perf_counter() - start, 1),
    }
    shutil.rmtree(keep)
    return record


class Beat:
    """A line now and then, for a run of minutes."""

    def __init__(self, label: str) -> None:
        """Take what to call it."""
        self.label, self.done, self.last = label, 0, time.monotonic()

    def __call__(self, count: int) -> None:
        """Count universes; print at most twice a minute."""
        self.done += count
        if time.monotonic() - self.last > 30:
            self.last = time.monotonic()
            print(f"  {self.label}: {self.done:,} universes", flush=True)


class Sides:
    """The series of the runs, by profile and settings."""

    def __init__(self, runs: dict[str, ja.WalkForward]) -> None:
        """Take the runs by name: at the defaults, of the grid, of detoned clusters, and bagged."""
        self.runs, self.defaults = runs, runs["defaults"]
        names = runs["variants"].settings.names
        self.points = [dict(zip(names, values, strict=True)) for values in runs["variants"].settings.points]

    def thresholds(self) -> dict[str, int]:
        """Number of the point of each threshold, at the default cap."""
        cap = VARIANTS["cluster_cap"][0]
        return {str(p["distance_threshold"]): g for g, p in enumerate(self.points) if p["cluster_cap"] == cap}

    def find(self, profile: str, settings: dict[str, Any]) -> tuple[ja.WalkForward, int, int]:
        """The run, the number of the point and the number of the profile."""
        if "bagged" in settings or settings == DETONED:
            run = self.runs["bagged" if "bagged" in settings else "detoned"]
            return run, 0, run.profiles.index(profile)
        if settings.keys() <= {"band", "costs_bps"}:
            wanted = {"band": 0.0, "costs_bps": COST} | settings
            point = self.defaults.settings.points.index((wanted["band"], wanted["costs_bps"]))
            return self.defaults, point, self.defaults.profiles.index(profile)
        run = self.runs["variants"]
        wanted = {"cluster_cap": 0.25, "distance_threshold": 0.4} | settings
        return run, self.points.index(wanted), run.profiles.index(profile)

    def net(self, profile: str, settings: dict[str, Any]) -> np.ndarray:
        """(D,) daily returns after costs, of the history."""
        run, g, p = self.find(profile, settings)
        return run.history.net[g, p]

    def figures(self, profile: str, settings: dict[str, Any]) -> tuple[dict[str, float], dict[str, np.ndarray] | None]:
        """`MEASURES` of the history, and of each path where there are paths."""
        run, g, p = self.find(profile, settings)
        where = {name: FIGURES.index(name) for name in MEASURES}
        history = {name: float(run.history.figures[g, p, f]) for name, f in where.items()}
        if run.path_figures is None:
            return history, None
        return history, {name: run.path_figures[:, g, p, f] for name, f in where.items()}


def clusters(run: ja.WalkForward, at: int) -> dict[str, Any]:
    """How many clusters the windows have, and how often a cluster is at the cap."""
    weights, n = run.history.weights[at], run.history.weights.shape[2]  # without a band, as decided
    labels = run.allocations.clusters(at).to_numpy()[:n]
    member = labels[:, :, None] == np.arange(labels.max() + 1)
    largest = np.einsum("prn,rnk->prk", weights, member.astype(float)).max(axis=2)
    capped = {profile: float(np.mean(largest[p] > 0.25 - 1e-6)) for p, profile in enumerate(CLUSTERED[:3])}
    count = labels.max(axis=1) + 1
    return {"mean": float(count.mean()), "least": int(count.min()), "most": int(count.max()), "capped": capped}


def profile_table(run: ja.WalkForward) -> dict[str, Any]:
    """Every profile's figures, as it happened and the median path's."""
    names = ("annual_return", *MEASURES[:3], "calmar", "turnover", "effective_bets")
    table = {}
    for p, profile in enumerate(run.profiles):
        own = {name: float(run.history.figures[0, p, FIGURES.index(name)]) for name in names}
        if run.path_figures is not None:
            drawn = run.path_figures[:, 0, p]
            own |= {f"path_{name}": float(np.nanmedian(drawn[:, FIGURES.index(name)])) for name in names}
        table[profile] = own
    return table


def contrast(sides: Sides, asked: Contrast) -> dict[str, Any]:
    """One comparison: as it happened, with intervals, and over the paths, the same for both sides."""
    both = [(asked.profile, asked.settings), (asked.other, asked.other_settings)]
    (one, one_paths), (two, two_paths) = (sides.figures(*side) for side in both)
    series = np.stack([sides.net(*side) for side in both])
    counts = ja.Bootstrap(RESAMPLES, "stationary", BLOCK).counts(series.shape[1], 0, 0, RESAMPLES)
    flat = np.zeros(2)
    intervals = difference_intervals(series, np.array([[0, 1]]), counts, flat + 252, flat, 0.95)
    found: dict[str, Any] = asked._asdict() | {"history": {}, "paths": {}}
    for name in MEASURES:
        found["history"][name] = {"difference": one[name] - two[name]}
        if name in intervals:
            found["history"][name] |= {end: float(intervals[name][end][0]) for end in ("low", "high")}
        if one_paths is not None and two_paths is not None:
            n = min(len(one_paths[name]), len(two_paths[name]))  # the first paths are the same ones
            apart = one_paths[name][:n] - two_paths[name][:n]
            low, median, high = np.nanquantile(apart, [0.05, 0.5, 0.95])
            below = float(np.mean(apart < 0) + np.mean(apart == 0) / 2)
            found["paths"][name] = {"low": low, "median": median, "high": high, "below": below}
    return found


def years(sides: Sides) -> dict[str, Any]:
    """Differences of volatility and Sharpe ratio by calendar year, of the contrasts in `BY_YEAR`."""
    days = pd.DatetimeIndex(sides.defaults.days).year.to_numpy()
    table = {}
    for i in BY_YEAR:
        asked = CONTRASTS[i]
        by_year = {}
        for year in np.unique(days):
            here = days == year
            one, two = (
                sides.net(*side)[here]
                for side in ((asked.profile, asked.settings), (asked.other, asked.other_settings))
            )
            deviation = [np.sqrt(252) * side.std(ddof=1) for side in (one, two)]
            sharpe = [252 * side.mean() / d for side, d in zip((one, two), deviation, strict=True)]
            by_year[str(year)] = {"volatility": deviation[0] - deviation[1], "sharpe": sharpe[0] - sharpe[1]}
        table[str(i)] = by_year
    return table


# ---- the page -------------------------------------------------------------------------------------------------------


def page(found: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    settings = found["settings"]
    lines = [
        "# Out of sample",
        "",
        f"Decided on {settings['window']} days, held for {settings['step']['all']} (all stocks) or "
        f"{settings['step']['hundred']} (a hundred), {settings['costs_bps']:g} basis points of cost on what is traded. "
        f"Paths: {settings['paths']:,} stationary bootstraps of all days, mean block "
        f"{settings['block_length']} days, walked through like the history. Coarse clusters: cut at 0.55, a "
        "correlation of about 0.4, in place of 0.4, about 0.68. Turnover is one-way: replacing all is 1. "
        "`make out-of-sample` makes these tables.",
    ]
    titles = {
        "all": "All stocks",
        "hundred": "A hundred, by lot",
        "crowded": "Half of it one crowd",
        "tickers": "A hundred tickers of twenty stocks",
    }
    for name, panel in found["panels"].items():
        lines += ["", f"## {titles[name]}", "", _introduction(panel), "", *_profiles(panel), "", *_contrasts(panel)]
        lines += ["", *_years(panel)]
    if "machine" in found:
        took = sum(panel["seconds"] for panel in found["panels"].values())
        versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("jaxalloc", "jax", "numpy", "pandas"))
        lines += [
            "",
            f"{found['machine']['processor']}, {found['machine']['cores']} cores; {versions}; {took / 60:.0f} minutes.",
        ]
    return "\n".join(lines) + "\n"


def summary(found: dict[str, Any]) -> str:
    """The answers in one table, as Markdown: a row a question, a column a panel."""
    titles = {
        "all": "all stocks (431)",
        "hundred": "100 stocks",
        "crowded": "100, half one crowd",
        "tickers": "100 tickers of 20 stocks",
    }
    panels = [name for name in titles if name in found["panels"]]
    rows = []
    for question, number in SUMMARY:
        row = [question]
        for name in panels:
            history = found["panels"][name]["contrasts"][number]["history"]
            cells = []
            for measure, unit, digits in (("volatility", 100, 1), ("sharpe", 1, 2)):
                own = history[measure]
                text = f"{unit * own['difference']:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
                cells.append(f"**{text}**" if own["low"] > 0 or own["high"] < 0 else text)
            row.append(" / ".join(cells))
        rows.append(row)
    return "\n".join(_table(["first less second", *(titles[name] for name in panels)], rows)) + "\n"


def _introduction(panel: dict[str, Any]) -> str:
    words = [
        f"{panel['n_assets']} assets, held from {panel['first_day']} to {panel['last_day']}, {panel['days']:,} days."
    ]
    for threshold, own in panel["clusters"].items():
        capped = ", ".join(f"{100 * share:.0f} % ({profile})" for profile, share in own["capped"].items())
        words.append(
            f"Cut at {threshold}: {own['least']} to {own['most']} clusters, {own['mean']:.0f} on average; "
            f"share of the windows in which some cluster is at its cap of 25 %: {capped}."
        )
    return " ".join(words)


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [headings, ["---"] * len(headings), *rows]]


def _profiles(panel: dict[str, Any]) -> list[str]:
    rows, drawn = [], any("path_sharpe" in own for own in panel["profiles"].values())
    for profile, own in panel["profiles"].items():
        row = [f"`{profile}`", *(f"{100 * own[name]:.1f} %" for name in ("annual_return", "volatility"))]
        row += [
            f"{own['sharpe']:.2f}",
            f"{100 * own['max_drawdown']:.0f} %",
            f"{own['turnover']:.2f}",
            f"{own['effective_bets']:.0f}",
        ]
        if drawn:
            row += [f"{100 * own['path_volatility']:.1f} %", f"{own['path_sharpe']:.2f}"]
        rows.append(row)
    headings = ["profile", "return", "volatility", "Sharpe", "worst drawdown", "turnover a year", "effective bets"]
    return _table([*headings, *(["volatility, median path", "Sharpe, median path"] if drawn else [])], rows)


def _side(profile: str, settings: dict[str, Any]) -> str:
    words = {"cluster_cap": "no cap", "distance_threshold": "coarse", "detone": "detoned", "criterion": "silhouette"}
    words |= {"bagged": "bagged", "band": "band 1 %"}
    said = [words[name] for name in settings if name in words]
    return f"`{profile}`" + (f" ({', '.join(said)})" if said else "")


def _contrasts(panel: dict[str, Any]) -> list[str]:
    rows, drawn = [], any(each["paths"] for each in panel["contrasts"])
    for each in panel["contrasts"]:
        history, paths = each["history"], each["paths"]
        row = [
            each["question"],
            f"{_side(each['profile'], each['settings'])} - {_side(each['other'], each['other_settings'])}",
        ]
        own = history["volatility"]
        row.append(f"{100 * own['difference']:+.2f} % ({100 * own['low']:+.2f} to {100 * own['high']:+.2f})")
        own = history["sharpe"]
        row.append(f"{own['difference']:+.2f} ({own['low']:+.2f} to {own['high']:+.2f})")
        row.append(f"{history['turnover']['difference']:+.2f}")
        if drawn:
            row.append(f"{100 * paths['volatility']['median']:+.2f} %, {100 * paths['volatility']['below']:.0f} %")
            row.append(f"{paths['sharpe']['median']:+.2f}, {100 * (1 - paths['sharpe']['below']):.0f} %")
            row.append(f"{100 * (paths['max_drawdown']['below']):.0f} %")
        rows.append(row)
    headings = ["question", "first - second", "volatility (95 % interval)", "Sharpe (95 % interval)", "turnover"]
    extra = [
        "paths: volatility, share with less",
        "paths: Sharpe, share with more",
        "paths: share with a smaller drawdown",
    ]
    return _table([*headings, *(extra if drawn else [])], rows)


def _years(panel: dict[str, Any]) -> list[str]:
    rows, names = [], list(next(iter(panel["years"].values())))
    for i, by_year in panel["years"].items():
        asked = CONTRASTS[int(i)]
        title = f"{_side(asked.profile, asked.settings)} - {_side(asked.other, asked.other_settings)}"
        for measure, unit in (("volatility", 100), ("sharpe", 1)):
            figures = [f"{unit * by_year[year][measure]:+.2f}" for year in names]
            rows.append([title, "volatility, %" if unit == 100 else "Sharpe", *figures])
    return _table(["first - second, by year", "difference of", *names], rows)


if __name__ == "__main__":
    sys.exit(main())
