"""Totals against the universes that they are made of, one by one, with NumPy and pandas; the same bits in any company.

The universes are a study's, computed by `Runner`: on a market of 12 assets with gaps, some of them INVALID.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import TOLERANCES, Array, N, T, market
from hypothesis import given
from hypothesis import strategies as st

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.markets.panel import Panel
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import MEASURES
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import Sweep, plain_config, sweep
from jaxalloc.studies.chunks import Runner
from jaxalloc.studies.histogram import MEASURE_BINS, WEIGHT_BINS, Bins, bin_edges, bin_of
from jaxalloc.studies.measures import FEWEST_LEFT_OUT, Reference, measure_universes
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.study import Study
from jaxalloc.studies.totals import BINDING, BITS, POSITIVE_WEIGHT, Totals, reduce_universes, spread_table
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import Product, RandomSubsets, RollingWindows, Sampler
from jaxalloc.universes.scenarios import Parametric, Stress

LEVELS = {"q00": 0.0, "q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95, "q100": 1.0}
# a small bound and a large sleeve: its assets weigh more than what binds the core
CONFIG = AllocationConfig(
    asset_cap=0.15, risk_free_rate=0.02, periods_per_year=52, n_aggressors=2, aggressor_weight=0.5
)
BARBELL = CONFIG.profiles.index("barbell")


# Bins

OUT_OF_BAG = MEASURES.index("out_of_bag_return")  # and those after it
BOTH = pytest.mark.parametrize("bins", [WEIGHT_BINS, MEASURE_BINS], ids=["weights", "measures"])


@BOTH
def test_edges_grow_and_leave_no_room_between_them(bins: Bins) -> None:
    low, high = bin_edges(bins)
    assert len(low) == len(high) == bins.count
    zero = bins.half if bins.signed else 0
    assert low[zero] == high[zero] == 0
    assert (low[zero + 1], high[-1]) == (2.0**bins.low, 2.0**bins.high)
    above = slice(zero + 1, None)
    assert (low[above] < high[above]).all()
    assert np.array_equal(high[above][:-1], low[above][1:])
    width = (high - low)[above]
    assert (width <= 2.0**-bins.bits * low[above]).all()
    assert (width >= 2.0 ** (-bins.bits - 1) * high[above]).all()
    if bins.signed:
        assert np.array_equal(low[:zero], -high[above][::-1])
        assert np.array_equal(high[:zero], -low[above][::-1])


def test_widths_are_those_that_the_documentation_tells() -> None:
    for bins, share in ((WEIGHT_BINS, 0.008), (MEASURE_BINS, 0.004)):
        low, high = bin_edges(bins)
        assert ((high - low)[-bins.half :] <= share * low[-bins.half :]).all()
    assert (2.0**WEIGHT_BINS.low, 2.0**MEASURE_BINS.low) == (
        pytest.approx(1e-6, rel=0.05),
        pytest.approx(1e-9, rel=0.07),
    )


def bins_of(values: Any, bins: Bins) -> Array:
    return np.asarray(jax.jit(bin_of, static_argnums=1)(values, bins))


def assert_in_bin(values: Array, bins: Bins) -> None:
    low, high = bin_edges(bins)
    found = bins_of(values, bins)
    assert found.dtype == np.int32
    as_float32 = values.astype(np.float32).astype(float)
    size = np.abs(as_float32)
    outside = as_float32 < 0 if not bins.signed else np.zeros(len(values), bool)
    small, large = (size < 2.0**bins.low) | outside, (size >= 2.0**bins.high) & ~outside
    zero = bins.half if bins.signed else 0
    assert (found[small] == zero).all()
    last = np.where(as_float32 > 0, bins.count - 1, 0)
    assert np.array_equal(found[large], last[large])
    rest = ~small & ~large
    x, i = as_float32[rest], found[rest]
    up = x > 0
    assert ((low[i] <= x) & (x < high[i]))[up].all()
    assert ((low[i] < x) & (x <= high[i]))[~up].all()


@BOTH
@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=32, max_size=32))
def test_every_number_falls_in_its_bin(bins: Bins, values: list[float]) -> None:
    assert_in_bin(np.array(values, np.float32), bins)


@BOTH
@given(values=st.lists(st.floats(1e-8, 4.0), min_size=32, max_size=32), sign=st.sampled_from([-1, 1]))
def test_every_float64_falls_in_the_bin_of_its_float32(bins: Bins, values: list[float], sign: int) -> None:
    with jax.enable_x64(True):
        assert_in_bin(sign * np.array(values), bins)


@BOTH
def test_bins_of_special_numbers(bins: Bins) -> None:
    edges = np.unique(np.concatenate(bin_edges(bins))).astype(np.float32)
    assert_in_bin(edges, bins)
    assert_in_bin(np.nextafter(edges, np.float32(0)), bins)
    assert_in_bin(np.nextafter(edges, np.float32(np.inf)), bins)
    zero, last = (bins.half if bins.signed else 0), bins.count - 1
    special = np.array([0.0, -0.0, np.inf, 3e38, 2.0**bins.low, 2.0**bins.low * 0.999, 1e-45, -np.inf], np.float32)
    first = 0 if bins.signed else zero
    assert bins_of(special, bins).tolist() == [zero, zero, last, last, zero + 1, zero, zero, first]
    with jax.enable_x64(True):
        assert bins_of(np.array([1e300, 1e-300, -1e300]), bins).tolist() == [last, zero, first]


# Studies


class Case(NamedTuple):
    """A study to compute.

    Attributes:
        values: (T, N) panel.
        sampler: of its universes.
        settings: one or more points.
        seed: of the draws.
    """

    values: Array
    sampler: Sampler
    settings: Sweep
    seed: int = 5

    def plan(self, precision: int = 64, chunk_size: int | None = None) -> Plan:
        panel = Panel(pd.DataFrame(self.values, columns=[f"A{i}" for i in range(self.values.shape[1])]))
        years = self.settings.config.periods_per_year
        product = Product(self.sampler.parts).prepare(panel, len(self.values), years)
        return Plan(
            returns=self.values,
            sampler=product,
            settings=self.settings,
            seed=self.seed,
            precision=precision,
            keep="weights",
            chunk_size=chunk_size,
            max_missing=0.0,
        )


def gappy(*gaps: tuple[Any, Any]) -> Array:
    values = market(11, 7)
    for rows, columns in gaps:
        values[rows, columns] = np.nan
    return values


ONE_POINT = Sweep(plain_config(CONFIG))
CASES = {
    # where row 0 is in no asset is active, so the point estimate is INVALID too; 8 to 27 rows are left out
    "blocks": Case(gappy((0, slice(None)), (20, 3), ([30, 41], 6)), Bootstrap(600, "moving", 10), ONE_POINT),
    # subsets of 3, and some assets that hardly ever have all their returns
    "product": Case(
        gappy((slice(None, None, 4), [1, 4, 5, 9]), ([7, 8], 2), (33, 10)),
        Bootstrap(100) * RandomSubsets(3) * Stress((1.0, 1.5, 1.5), (0.0, 0.5, -0.5), (0.0, -0.2, 0.1)),
        Sweep(plain_config(CONFIG), (("cluster_cap", (0.25, 0.5)),)),
    ),
}
each_case = pytest.mark.parametrize("name", CASES)
each_run = pytest.mark.parametrize(
    ("name", "precision"),
    [(name, 64) for name in CASES] + [pytest.param(name, 32, marks=pytest.mark.slow) for name in CASES],
)


class Run(NamedTuple):
    """A study computed.

    Attributes:
        totals: of each point.
        universes: all of them, leading axis in order.
        figures: (universes, P, M) from the chunks' tables.
        estimate: the point estimates.
    """

    totals: list[Totals]
    universes: Allocation
    figures: Array
    estimate: Allocation


def compute(case: Case, precision: int = 64, chunk_size: int | None = None) -> Run:
    with jax.enable_x64(precision == 64):
        runner = Runner(case.plan(precision, chunk_size))
        n_profiles, n_assets = len(case.settings.config.profiles), case.values.shape[1]
        totals = [Totals(n_profiles, n_assets) for _ in range(len(case.settings))]
        chunks, figures = [], []
        for number in range(runner.n_chunks):
            pending = runner.start(number)
            result = runner.finish(pending)
            chunks.append(pending.chunk.allocation())
            assert result.table is not None
            columns = [[result.table[f"{p}.{m}"].to_numpy() for m in MEASURES] for p in case.settings.config.profiles]
            figures.append(np.moveaxis(np.array(columns), 2, 0))
            for point, partial in result.partials:
                totals[point].add(partial)
        universes = jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)
        return Run(totals, universes, np.concatenate(figures), runner.estimate)


@functools.cache
def run(name: str, precision: int = 64) -> Run:
    return compute(CASES[name], precision)


def of_point(case: Case, found: Run, point: int) -> tuple[Allocation, Array]:
    """The universes of a point of the grid, and the rows that each leaves out."""
    plan = case.plan()
    part = slice(point * plan.n_draws, (point + 1) * plan.n_draws)
    universes = jax.tree.map(lambda leaf: leaf[part], found.universes)
    bootstrap = case.sampler.parts[0]
    assert isinstance(bootstrap, Bootstrap)
    assert bootstrap.n is not None
    counts = bootstrap.counts(len(case.values), case.seed, 0, bootstrap.n)
    return universes, np.repeat(counts == 0, plan.n_draws // bootstrap.n, axis=0)


def expected_figures(case: Case, found: Run, point: int, universes: Allocation, left_out: Array) -> Array:
    """(B, P, M) with pandas, universe by universe."""
    config = case.settings.at(point)
    frame = pd.DataFrame(case.values)
    rows = np.full((*universes.weights.shape[:2], len(MEASURES)), np.nan)
    for i, p in np.ndindex(rows.shape[:2]):
        if universes.status[i, p] & Status.INVALID:
            continue
        x, x0 = universes.weights[i, p].astype(float), found.estimate.weights[point, p].astype(float)
        active = universes.cluster_labels[i] >= 0
        labels = universes.cluster_labels[i][active]
        totals = np.bincount(labels, x[active])
        shares = np.bincount(labels, universes.risk_contributions[i, p].astype(float)[active])
        shares = shares[shares > 0] / shares[shares > 0].sum()
        figure = {
            "volatility": universes.volatility[i, p],
            "expected_return": universes.expected_return[i, p],
            "sharpe": (universes.expected_return[i, p] - config.risk_free_rate) / universes.volatility[i, p],
            "effective_assets": 1 / (x**2).sum(),
            "effective_clusters": 1 / (totals**2).sum(),
            "effective_bets": np.exp(-(shares * np.log(shares)).sum()),
            "concentration": (x**2).sum(),
            "turnover": np.abs(x - x0)[active].sum() / 2 if np.isfinite(x0).all() else np.nan,
        }
        held = frame.loc[left_out[i], x > 0].dropna()
        if len(held) >= 20:
            path = (held * x[x > 0]).sum(axis=1)
            figure["out_of_bag_return"] = path.mean() * config.periods_per_year
            figure["out_of_bag_volatility"] = path.std() * np.sqrt(config.periods_per_year)
            excess = figure["out_of_bag_return"] - config.risk_free_rate
            figure["out_of_bag_sharpe"] = excess / figure["out_of_bag_volatility"]
        rows[i, p] = [figure.get(measure, np.nan) for measure in MEASURES]
    return rows


def expected_counts(universes: Allocation) -> dict[str, Array]:
    """Every count that needs no histogram, universe by universe."""
    n_universes, n_profiles, n_assets = universes.weights.shape
    counts: dict[str, Array] = {name: np.zeros((n_profiles, n_assets), int) for name in ("positive", "binding", "lead")}
    counts |= {"aggressor": np.zeros(n_assets, int), "n_clusters": np.zeros(n_assets + 1, int)}
    counts |= {name: np.zeros((n_assets, n_assets), int) for name in ("together", "both")}
    counts["status"] = np.zeros((n_profiles, len(BITS)), int)
    n_valid = 0
    for i in range(n_universes):
        for p, b in np.ndindex(n_profiles, len(BITS)):
            counts["status"][p, b] += bool(universes.status[i, p] & BITS[b])
        if universes.status[i, 0] & Status.INVALID:
            continue
        n_valid += 1
        labels, sleeve = universes.cluster_labels[i], universes.aggressors[i]
        active = np.flatnonzero(labels >= 0)
        counts["n_clusters"][len(set(labels[active]))] += 1
        counts["aggressor"] += sleeve
        for a, b in np.ndindex(n_assets, n_assets):
            counts["both"][a, b] += labels[a] >= 0 and labels[b] >= 0
            counts["together"][a, b] += labels[a] == labels[b] >= 0
        for p in range(n_profiles):
            x = universes.weights[i, p]
            for asset in active:
                counts["positive"][p, asset] += x[asset] > 1e-6
                free = p == BARBELL and sleeve[asset]
                counts["binding"][p, asset] += not free and x[asset] >= universes.asset_bound[i, p] - x.dtype.type(1e-6)
            for k in range(universes.n_clusters[i]):
                members = np.flatnonzero(labels == k)
                lead = members[np.argmax(x[members])]
                if p == BARBELL and sleeve[members].any():
                    lead = members[sleeve[members]][0]
                counts["lead"][p, lead] += 1
    return counts | {"n": np.array(n_universes), "n_valid": np.array(n_valid)}


def quantile_bound(values: Array, level: float, bins: Bins) -> float:
    """How far a quantile may be off: the wider of its two bins, or what counts as 0."""
    place = level * (len(values) - 1)
    around = np.abs(np.sort(values)[[int(np.floor(place)), int(np.ceil(place))]])
    return max(2.0**-bins.bits * around.max(), 2.0**bins.low)


def assert_spread(spread: Any, histogram: Array, values: Array, taken: Array, bins: Bins, rtol: float) -> None:
    """(B, ...) numbers, those taken: count, mean, standard deviation, extremes, histogram and quantiles."""
    table = spread_table(spread, histogram, bins, LEVELS)
    edges = bin_edges(bins)
    for place in np.ndindex(values.shape[1:]):
        x = values[(slice(None), *place)][taken[(slice(None), *place)]].astype(float)
        assert spread.count[place] == histogram[place].sum() == len(x), place
        if not len(x):
            assert all(np.isnan(column[place]) for column in table.values())
            assert (spread.lowest[place], spread.highest[place]) == (np.inf, -np.inf)
            continue
        assert (spread.lowest[place], spread.highest[place]) == (x.min(), x.max())
        np.testing.assert_allclose(table["mean"][place], x.mean(), rtol=rtol, atol=rtol * np.abs(x).max())
        if len(x) > 1:
            np.testing.assert_allclose(table["std"][place], x.std(ddof=1), rtol=rtol * 100, atol=rtol * np.abs(x).max())
        else:
            assert np.isnan(table["std"][place])
        rounded = np.where(np.abs(x.astype(np.float32)) < 2.0**bins.low, 0, x.astype(np.float32).astype(float))
        bounds = np.append(edges[0][edges[0] >= 0], np.inf)
        above = np.histogram(rounded[rounded > 0], bounds)[0]
        assert np.array_equal(histogram[place][-bins.half :], above[-bins.half :])
        for name, level in LEVELS.items():
            off = abs(table[name][place] - np.quantile(x, level))
            assert off <= quantile_bound(x, level, bins) * (1 + 1e-6), f"{place} {name}: {off}"


@each_run
def test_totals_are_those_of_the_universes(name: str, precision: int) -> None:
    case, found = CASES[name], run(name, precision)
    tol = TOLERANCES[np.float64 if precision == 64 else np.float32]
    rtol = 1e-12 if precision == 64 else 2e-6
    assert found.universes.weights.dtype == (np.float64 if precision == 64 else np.float32)
    for point, totals in enumerate(found.totals):
        universes, left_out = of_point(case, found, point)
        for field, count in expected_counts(universes).items():
            assert np.array_equal(getattr(totals.counts, field), count), field
        active = np.repeat(universes.cluster_labels[:, None] >= 0, len(CONFIG.profiles), axis=1)
        assert_spread(totals.weights, totals.counts.weights, universes.weights, active, WEIGHT_BINS, rtol)
        figures = found.figures[point * len(left_out) : (point + 1) * len(left_out)]
        expected = expected_figures(case, found, point, universes, left_out)
        # in float32 a path's mean is small beside its returns, and a Sharpe ratio more so
        np.testing.assert_allclose(figures, expected, rtol=10 * tol.rtol, atol=10 * tol.rtol)
        assert_spread(totals.measures, totals.counts.measures, figures, np.isfinite(figures), MEASURE_BINS, rtol)


def test_the_cases_cover_what_can_happen() -> None:
    blocks, product = (run(name) for name in CASES)
    valid = blocks.totals[0].counts.n_valid
    assert 400 < valid < 600
    of = dict(zip(MEASURES, blocks.totals[0].measures.count.T, strict=True))
    assert (of["volatility"] == valid).all()
    assert (of["turnover"] == 0).all()  # there is no point estimate
    assert (of["out_of_bag_return"] > 0).all()
    assert (of["out_of_bag_return"] < valid).all()  # often fewer than 20 rows are left out
    for totals in product.totals:
        counts = totals.counts
        assert 0 < counts.n_valid < counts.n == 300
        assert (totals.measures.count[:, MEASURES.index("turnover")] == counts.n_valid).all()
        assert (np.diag(counts.both) == totals.weights.count).all()
        assert len(np.flatnonzero(counts.n_clusters)) >= 3
    assert not np.array_equal(*(totals.weights.mean for totals in product.totals))
    assert POSITIVE_WEIGHT == BINDING == 1e-6
    assert FEWEST_LEFT_OUT == 20


def test_aggressors_bind_in_other_profiles_only() -> None:
    counts = run("blocks").totals[0].counts
    universes = run("blocks").universes
    above = (universes.weights[:, BARBELL] >= universes.asset_bound[:, BARBELL, None] - 1e-6) & universes.aggressors
    reached = (universes.weights >= universes.asset_bound[..., None] - 1e-6) & universes.aggressors[:, None]
    assert above.any()
    assert reached[:, :BARBELL].any()
    plain = (universes.weights[:, BARBELL] >= universes.asset_bound[:, BARBELL, None] - 1e-6).sum(axis=0)
    assert np.array_equal(counts.binding[BARBELL], plain - above.sum(axis=0))


def test_rows_in_which_a_held_asset_has_no_return_are_left_out() -> None:
    """Panel and universe by hand: 25 rows left out, of which 4 lack an asset that is held, one an asset that is not."""
    case, found = CASES["blocks"], run("blocks")
    _, left_out = of_point(case, found, 0)
    missing = ~np.isfinite(case.values)
    shorter = 0
    for i, p in np.ndindex(*found.figures.shape[:2]):
        x = found.universes.weights[i, p]
        if np.isnan(x).any():
            continue
        lacking = left_out[i] & missing[:, x > 0].any(axis=1)
        count = left_out[i].sum() - lacking.sum()
        assert np.isfinite(found.figures[i, p, MEASURES.index("out_of_bag_return")]) == (count >= 20)
        shorter += left_out[i].sum() >= 20 > count
    assert shorter  # some figures are missing for that reason alone


@each_case
def test_stability_and_co_association_are_those_of_the_labels(name: str) -> None:
    case, found = CASES[name], run(name)
    symbols = [f"A{i}" for i in range(N)]
    study = Study(
        symbols=symbols,
        settings=case.settings,
        n=case.plan().n_draws,
        seed=case.seed,
        precision=64,
        estimates=found.estimate,
        totals=found.totals,
        record={},
        tables=None,
        correlation=np.full((len(symbols), len(symbols)), np.nan),
    )
    for point in range(len(case.settings)):
        universes, _ = of_point(case, found, point)
        labels = universes.cluster_labels
        share = np.full((N, N), np.nan)
        for a, b in np.ndindex(N, N):
            both = (labels[:, a] >= 0) & (labels[:, b] >= 0)
            share[a, b] = (labels[both, a] == labels[both, b]).mean() if both.any() else np.nan
        np.testing.assert_allclose(study.co_association(point).to_numpy(), share, rtol=1e-15)
        table = study.cluster_stability(point)
        estimated = found.estimate.cluster_labels[point]
        assert len(table) == estimated.max() + 1
        for k, (size, stability, names) in enumerate(table.itertuples(index=False)):
            members = np.flatnonzero(estimated == k)
            assert names == ", ".join(symbols[i] for i in members)
            assert size == len(members)
            if len(members) > 1:
                pairs = pd.Series([share[a, b] for a in members for b in members if a < b])
                expected = pairs.mean()  # of those that are ever active together
            else:
                expected = 1 - np.nanmax([share[members[0], b] for b in range(N) if b != members[0]])
            assert stability == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert len(study.cluster_stability()) == (0 if name == "blocks" else run(name).estimate.n_clusters[0])


# The same bits in any company


def differences(a: list[Totals], b: list[Totals]) -> list[str]:
    """Names of the arrays that differ in any bit."""
    found = []
    for one, other in zip(a, b, strict=True):
        left, right = one.arrays(), other.arrays()
        assert left.keys() == right.keys()
        found += [name for name in left if left[name].tobytes() != right[name].tobytes()]
    return found


@each_run
@pytest.mark.parametrize("chunk_size", [512, 1024])
def test_chunks_change_no_bit(name: str, precision: int, chunk_size: int) -> None:
    again = compute(CASES[name], precision, chunk_size)
    assert differences(again.totals, run(name, precision).totals) == []


def test_more_points_in_a_group_change_no_bit_of_the_first() -> None:
    """Points share groups: 30 draws each, a group has room for more."""
    case = CASES["product"]
    few = case._replace(sampler=Bootstrap(30), settings=sweep(CONFIG, cluster_cap=[0.25, 0.3, 0.5]))
    alone = few._replace(settings=ONE_POINT)
    assert differences(compute(few).totals[:1], compute(alone).totals) == []


SCRIPT = """
import sys
import jax
import numpy as np
import test_measures as tests

assert len(jax.local_devices()) == int(sys.argv[1])
for name, case in tests.CASES.items():
    for size in (None, 512):
        found = tests.compute(case, chunk_size=size)
        arrays = {f"{i}.{key}": array for i, t in enumerate(found.totals) for key, array in t.arrays().items()}
        np.savez(f"{sys.argv[2]}/{name}-{size}.npz", **arrays)
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_change_no_bit(devices: int, tmp_path: Path) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-c", SCRIPT, str(devices), str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=600)
    for name in CASES:
        for size in (None, 512):
            with np.load(tmp_path / f"{name}-{size}.npz") as arrays:
                for point, totals in enumerate(run(name).totals):
                    read = Totals.from_arrays({key: arrays[f"{point}.{key}"] for key in totals.arrays()})
                    assert differences([read], [totals]) == []


def test_totals_come_back_from_their_arrays() -> None:
    totals = run("product").totals[0]
    back = Totals.from_arrays({name: array.copy() for name, array in totals.arrays().items()})
    assert differences([back], [totals]) == []
    case = CASES["product"]
    with jax.enable_x64(True):
        runner = Runner(case.plan())
        (_, partial), *_ = runner.finish(runner.start(0)).partials
    more = Totals.from_arrays(back.arrays())
    more.add(partial)
    assert differences([back], [totals]) == []  # which it was made of, and which must not notice
    assert more.counts.n == 2 * totals.counts.n
    np.testing.assert_allclose(more.weights.mean, totals.weights.mean, rtol=1e-14)
    doubled = 2 * totals.weights.squares
    np.testing.assert_allclose(more.weights.squares, doubled, rtol=1e-12, atol=1e-18)


def test_nothing_added_is_nothing_counted() -> None:
    totals = Totals(2, 3)
    assert not any(array.any() for name, array in totals.arrays().items() if not name.endswith("est"))
    table = spread_table(totals.weights, totals.counts.weights, WEIGHT_BINS, LEVELS)
    assert all(np.isnan(column).all() for column in table.values())
    assert differences([Totals.from_arrays(totals.arrays())], [totals]) == []


# Dead and small inputs


def test_all_universes_invalid() -> None:
    found = compute(CASES["blocks"]._replace(values=np.full((T, N), np.nan), sampler=Bootstrap(70, "moving", 10)))
    (totals,) = found.totals
    counts = totals.counts
    assert (counts.n, counts.n_valid) == (70, 0)
    assert counts.status.tolist() == [[70] + [0] * (len(BITS) - 1)] * 4
    for name in set(counts._fields) - {"n", "status"}:
        assert not getattr(counts, name).any(), name
    for spread, bins, histogram in (
        (totals.weights, WEIGHT_BINS, counts.weights),
        (totals.measures, MEASURE_BINS, counts.measures),
    ):
        assert not spread.count.any()
        assert all(np.isnan(column).all() for column in spread_table(spread, histogram, bins, LEVELS).values())


def test_one_universe() -> None:
    """The panel itself: no spread, every quantile the figure itself, nothing out of bag."""
    case = CASES["product"]._replace(sampler=Product(), settings=ONE_POINT)
    found = compute(case)
    (totals,) = found.totals
    assert (totals.counts.n, totals.counts.n_valid) == (1, 1)
    np.testing.assert_array_equal(found.universes.weights, found.estimate.weights)
    active = found.estimate.cluster_labels[0] >= 0
    table = spread_table(totals.weights, totals.counts.weights, WEIGHT_BINS, LEVELS)
    assert np.isnan(table.pop("std")).all()
    for column in table.values():  # between the smallest and the largest there is one number
        np.testing.assert_array_equal(column[:, active], found.estimate.weights[0][:, active])
        assert np.isnan(column[:, ~active]).all()
    figures = dict(zip(MEASURES, totals.measures.count.T, strict=True))
    assert (figures["turnover"] == 1).all()
    assert (totals.measures.mean[:, MEASURES.index("turnover")] == 0).all()
    assert (figures["out_of_bag_return"] == 0).all()


def test_windows_leave_no_rows_to_chance() -> None:
    case = CASES["product"]._replace(sampler=RollingWindows(25, 5), settings=ONE_POINT)
    (totals,) = compute(case).totals
    assert totals.counts.n_valid == totals.counts.n == 8
    assert not totals.measures.count[:, OUT_OF_BAG:].any()
    assert (totals.measures.count[:, :OUT_OF_BAG] == 8).all()


@pytest.mark.slow
def test_simulated_panels_of_another_length() -> None:
    case = CASES["product"]._replace(
        values=market(11, 7), sampler=Parametric(70, n_observations=40), settings=ONE_POINT
    )
    found = compute(case)
    (totals,) = found.totals
    assert totals.counts.n_valid == 70
    assert not totals.measures.count[:, OUT_OF_BAG:].any()
    assert (totals.weights.count == 70).all()
    with jax.enable_x64(True):  # the point estimate is the panel's
        plain = compute(case._replace(sampler=Product()))
    np.testing.assert_array_equal(found.estimate.weights, plain.estimate.weights)


def one_asset(count: int) -> Allocation:
    """Universes of one asset, every other one of the first six INVALID; one profile with a sleeve, one without."""
    invalid = (np.arange(count) % 2 == 1) & (np.arange(count) < 6)

    def number(value: float, *shape: int) -> Array:
        return np.where(invalid.reshape(-1, *[1] * len(shape)), np.nan, np.full((count, *shape), value))

    label = np.where(invalid, -1, 0).astype(np.int32)[:, None]
    return Allocation(
        weights=number(1, 2, 1),
        cluster_labels=label,
        n_clusters=1 + label[:, 0],
        cluster_weights=number(1, 2, 1),
        lead_assets=np.repeat(label[:, None], 2, axis=1),
        aggressors=np.zeros((count, 1), bool),
        antifragility=number(0, 1),
        volatility=number(0.2, 2),
        expected_return=number(-0.1, 2),
        risk_contributions=number(1, 2, 1),
        asset_bound=number(1.1, 2),
        cluster_bound=number(1.1, 2),
        optimality_gap=number(0, 2),
        iterations=np.zeros((count, 2), np.int32),
        status=np.where(invalid, Status.INVALID, 0).astype(np.int32)[:, None].repeat(2, axis=1),
    )


def test_one_asset_and_a_range_of_universes(x64: Any) -> None:
    count, block, rows = 16, 4, 30
    returns = np.random.default_rng(0).normal(size=(rows, 1))
    left_out = np.arange(rows) >= np.where(np.arange(count) < 12, 9, 11)[:, None]  # 21 rows, or 19
    reference = Reference(np.ones((2, 2, 1)), returns, np.zeros((rows, 1)), np.full(2, 4.0), np.array([0.5, 0.25]))
    found = one_asset(count)
    points = (np.arange(count) >= 8).astype(np.int32)
    figures = measure_universes(block, found, left_out, points, reference, Backend.CPU)
    totals = Totals(2, 1)
    totals.add(reduce_universes(block, (False, True), found, figures, np.int32(3), np.int32(14)))
    counts = totals.counts
    assert (counts.n, counts.n_valid) == (11, 9)  # 3 and 5 are INVALID
    assert counts.n_clusters.tolist() == [0, 9]
    assert (counts.positive.tolist(), counts.lead.tolist()) == ([[9], [9]], [[9], [9]])
    assert not counts.binding.any()
    assert counts.aggressor.tolist() == [0]
    assert (counts.together.tolist(), counts.both.tolist()) == ([[9]], [[9]])
    assert counts.status[:, 0].tolist() == [2, 2]
    assert not counts.status[:, 1:].any()
    assert (totals.weights.count == 9).all()
    assert (totals.weights.mean == 1).all()
    assert (totals.weights.squares == 0).all()
    of = {name: totals.measures.count[0, m] for m, name in enumerate(MEASURES)}
    assert of == dict.fromkeys(MEASURES, 9) | dict.fromkeys(MEASURES[OUT_OF_BAG:], 7)
    mean = dict(zip(MEASURES, totals.measures.mean[0], strict=True))
    assert mean["effective_assets"] == mean["effective_clusters"] == mean["concentration"] == 1
    assert mean["turnover"] == 0
    kept = returns[9:, 0]
    assert mean["out_of_bag_return"] == pytest.approx(4 * kept.mean())
    assert mean["out_of_bag_volatility"] == pytest.approx(2 * kept.std(ddof=1))
    sharpe = (4 * kept.mean() - np.array([0.5, 0.25])) / (2 * kept.std(ddof=1))
    assert mean["out_of_bag_sharpe"] == pytest.approx((3 * sharpe[0] + 4 * sharpe[1]) / 7)  # 4 6 7, 8 to 11


def test_a_path_without_variance_has_no_sharpe_ratio(x64: Any) -> None:
    found = one_asset(4)
    reference = Reference(np.ones((1, 2, 1)), np.full((20, 1), 0.25), np.zeros((20, 1)), np.full(1, 4.0), np.zeros(1))
    figures = np.asarray(
        measure_universes(4, found, np.ones((4, 20), bool), np.zeros(4, np.int32), reference, Backend.CPU)
    )
    assert figures[0, 0, OUT_OF_BAG : OUT_OF_BAG + 2].tolist() == [1, 0]
    assert np.isnan(figures[0, 0, OUT_OF_BAG + 2])
    assert np.isnan(figures[1]).all()
