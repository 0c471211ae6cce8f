"""The reproductions of published results run, in small, and agree with their oracles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import reproduce
from published import bahc, closed_form, hrp, known_covariance, nco, risk_budgeting, ten_assets
from published.common import Compared, Plan, in_pieces, variance_error, variance_ratio_error

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICK = Plan(quick=True, workers=2)
CLOSE = 1e-9  # of float64 on well-conditioned problems; what was seen is 1e-12 and less


@pytest.mark.usefixtures("x64")
def test_constrained_risk_budgeting_to_all_digits():
    found = risk_budgeting.run(QUICK)
    assert [row.what for row in found["compared"] if not row.agrees()] == []
    assert len(found["compared"]) == 19
    assert max(found["oracle"].values()) < CLOSE


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "job",
    [hrp, nco, *(pytest.param(job, marks=pytest.mark.slow) for job in (known_covariance, bahc))],
    ids=lambda job: job.__name__,
)
def test_a_small_run_agrees_with_its_oracle(job):
    found = job.run(QUICK)
    assert found["oracle"]
    assert max(found["oracle"].values()) < CLOSE
    assert min(found["problems"].values()) > 0
    for row in found["compared"]:
        assert np.isfinite(row.ours)
        json.dumps(row.record())


@pytest.mark.usefixtures("x64")
def test_ten_assets_pipeline_on_other_returns_and_dates():
    dates = pd.bdate_range("2020-01-02", "2021-09-30")
    returns = np.random.default_rng(3).normal(2e-4, 0.01, (len(dates), 10)) * np.linspace(0.5, 2, 10)
    found = ten_assets.compute(returns, dates, QUICK)
    assert max(found["oracle"].values()) < CLOSE
    assert found["problems"]["HRP"] == 16 * 9  # scenarios, months after the first twelve
    assert not any(row.agrees() for row in found["compared"])  # other data: other figures


@pytest.mark.usefixtures("x64")
def test_ten_assets_table_to_all_digits(data_folder):
    found = ten_assets.run(QUICK)
    assert [row.what for row in found["compared"] if not row.agrees()] == []
    assert max(found["oracle"].values()) < CLOSE


def test_ten_assets_without_the_data_says_what_to_set(monkeypatch):
    monkeypatch.delenv("JAXALLOC_DATA", raising=False)
    assert "JAXALLOC_DATA" in ten_assets.run(QUICK)["skipped"]


def test_scenarios_are_blocks_of_history_and_their_own():
    with jax.enable_x64(True):
        key = jax.random.key(0, impl="threefry2x32")
        first = [np.asarray(ten_assets.starts(key, jnp.int32(i), 200)) for i in (5, 6)]
        rows = np.asarray(ten_assets.resampled(jnp.asarray(first[0]), 200))
    with jax.enable_x64(False):
        again = np.asarray(ten_assets.starts(jax.random.key(0, impl="threefry2x32"), jnp.int32(5), 200))
    np.testing.assert_array_equal(first[0], again)  # whatever the precision
    assert not np.array_equal(*first)
    assert rows.shape == (200,)
    assert 0 <= rows.min() <= rows.max() < 200
    jumps = np.flatnonzero(np.diff(rows) != 1) + 1
    assert set(jumps) <= {60, 120, 180}


def test_nco_without_clusters_is_markowitz():
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(40, 6))
    covariance, ones = jnp.asarray(np.cov(returns, rowvar=False)), jnp.ones(6)
    nested = jax.jit(closed_form.nested, static_argnums=2)
    markowitz = jax.jit(closed_form.closed_form)(covariance, ones)
    for n_clusters in (1, 6):
        np.testing.assert_allclose(nested(covariance, ones, n_clusters), markowitz, rtol=2e-5)


def test_markets_of_the_monte_carlo_are_as_defined():
    x = hrp.market(7)
    assert x.shape == (520, 10)
    np.testing.assert_array_equal(x, hrp.market(7))
    assert not np.array_equal(x, hrp.market(8))
    assert np.abs(x[:260]).max() < 0.1  # no shock within the first lookback
    values, counts = np.unique(x[260:519][np.abs(x[260:519]) > 0.1], return_counts=True)
    assert set(values) <= {-0.5, 2.0}
    assert counts.sum() in (4, 5, 6)  # two dates may coincide


def test_pieces_come_back_in_order():
    def task(numbers):
        assert numbers.shape == (4,)
        return {"square": numbers**2, "pair": np.stack([numbers, -numbers], axis=1)}

    found = in_pieces(task, 10, 4, 2)
    np.testing.assert_array_equal(found["square"], np.arange(10) ** 2)
    np.testing.assert_array_equal(found["pair"][:, 1], -np.arange(10))


def test_standard_errors_are_those_of_repetition():
    rng = np.random.default_rng(1)
    x = rng.standard_t(9, (2000, 400))
    y = 0.5 * x + rng.normal(size=x.shape)
    variances, ratios = x.var(axis=1), x.var(axis=1) / y.var(axis=1)
    assert np.mean([variance_error(a) for a in x]) == pytest.approx(variances.std(), rel=0.1)
    errors = [variance_ratio_error(a, b) for a, b in zip(x, y, strict=True)]
    assert np.mean(errors) == pytest.approx(ratios.std(), rel=0.1)
    squared = np.stack([x**2, y**2], axis=2)[:, :, :, None]  # one goal
    ratio = np.sqrt(squared[:, :, 1].mean(axis=1) / squared[:, :, 0].mean(axis=1))
    errors = [nco.ratio_error(each)[0] for each in squared]
    assert np.mean(errors) == pytest.approx(ratio.std(), rel=0.1)


@pytest.mark.parametrize(
    ("row", "agrees"),
    [
        (Compared("a", 0.1234, 0.12344), True),
        (Compared("a", 0.1234, 0.12346), False),
        (Compared("a", 1.0, 1.4, 0.1, 4, "errors"), True),
        (Compared("a", 1.0, 1.5, 0.1, 4, "errors"), False),
        (Compared("a", 10.0, 5.1, None, 1, "factor 2"), True),
        (Compared("a", 10.0, 4.9, None, 1, "factor 2"), False),
    ],
)
def test_agreement(row, agrees):
    assert row.agrees() is agrees


def fake(done: list[str], name: str, fails: bool = False) -> SimpleNamespace:
    def run(plan: Plan) -> dict:
        done.append(name)
        if fails:
            raise KeyboardInterrupt
        compared = [Compared("figure | of <b>", 1.0, 1.00001), Compared("other", 2.0, 3.0, 0.1, 2, "errors")]
        tables = [{"caption": "more", "headings": ["a"], "rows": [["1"]]}]
        figures = {"compared": compared, "tables": tables, "problems": {"things": 2000}, "oracle": {"x": 1e-15}}
        return figures | {"facts": {"n": 7}}

    def words(found: dict) -> tuple[str, list[str]]:
        return "what", [f"said {found['facts']['n']}"]

    return SimpleNamespace(run=run, words=words, TITLE=name.title(), SOURCE="a book")


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch, capsys):
    done: list[str] = []
    monkeypatch.setattr(reproduce, "JOBS", {"one": fake(done, "one"), "two": fake(done, "two", fails=True)})
    with pytest.raises(KeyboardInterrupt):
        reproduce.run(tmp_path, None, QUICK)
    saved = json.loads((tmp_path / "reproduce.json").read_text())
    assert (list(saved["items"]), saved["unfinished"]) == (["one"], ["two"])
    monkeypatch.setattr(reproduce, "JOBS", {"one": fake(done, "one"), "two": fake(done, "two")})
    reproduce.run(tmp_path, None, QUICK)
    assert done == ["one", "two", "two"]
    reproduce.run(tmp_path, None, QUICK)  # a finished one begins again
    assert done[3:] == ["one", "two"]
    page = (tmp_path / "reproduce.md").read_text()
    assert page.count("\n## ") == 2
    assert "| other | 2.00 | 3.00 | 0.1 | no |" in page
    assert "1 of 2 figures agree" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"reproduce.json", "reproduce.md"}


def test_the_committed_page_is_that_of_the_committed_figures():
    results = json.loads((BENCHMARKS / "results" / "reproduce.json").read_text(encoding="utf-8"))
    assert list(results["items"]) == list(reproduce.JOBS)
    assert results["unfinished"] == []
    page = (BENCHMARKS / "results" / "reproduce.md").read_text(encoding="utf-8")
    assert page == reproduce.markdown(results)


def test_a_quick_run_does_not_replace_the_figures():
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / "reproduce.py"), "--quick"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "--quick wants --out" in run.stderr


@pytest.mark.slow
def test_the_command_runs_a_little_of_everything(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "reproduce.py"), "--quick", "--out", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "reproduce.json").read_text())
    assert set(reproduce.JOBS) - set(results["items"]) <= {"ten_assets"}
    assert "## Known covariance" in (tmp_path / "reproduce.md").read_text()
