"""ClusterAllocation: the same bits as allocate, inside scikit-learn's and skfolio's machinery."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from dataclasses import fields
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import count_compilations
from skfolio import FailedPortfolio, Population, Portfolio, RatioMeasure
from skfolio.metrics import make_scorer
from skfolio.model_selection import WalkForward, cross_val_predict
from skfolio.optimization import EqualWeighted
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

import jaxalloc as ja
from jaxalloc.portfolios.result import RESULT_FIELDS
from jaxalloc.settings.config import DEFAULT_PROFILES
from jaxalloc.skfolio import ClusterAllocation

WINDOW, MONTH = 120, 21
MARKET = ja.datasets.synthetic_market(n_assets=12, n_observations=WINDOW + 2 * MONTH)
SAMPLE = MARKET[:WINDOW]  # every fit here has its shape, or compiles once more


@pytest.fixture(scope="module")
def fitted() -> ClusterAllocation:
    return ClusterAllocation().fit(SAMPLE)


# ---- the same as allocate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "precision"),
    [
        *(pytest.param(profile, 64, marks=pytest.mark.slow) for profile in DEFAULT_PROFILES if profile != "barbell"),
        pytest.param("barbell", 32, marks=pytest.mark.slow),
        *(("barbell", 64), ("nco", 64), ("hrp", 32)),
    ],
)
def test_has_the_bits_of_allocate(profile, precision):
    chosen = {"cluster_cap": 0.3, "distance_threshold": 0.35, "n_aggressors": 2}
    model = ClusterAllocation(profile, precision=precision, **chosen).fit(SAMPLE)
    with jax.enable_x64(precision == 64):
        result = ja.allocate(SAMPLE, ja.AllocationConfig(profiles=(profile,), **chosen))
    for name in RESULT_FIELDS:
        ours, theirs = getattr(model.allocation_, name), np.asarray(getattr(result, name))
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    count = int(result.n_clusters)
    assert model.weights_.dtype == np.dtype(f"float{precision}")
    assert np.array_equal(model.weights_, np.asarray(result.weights)[0])
    assert np.array_equal(model.labels_, result.cluster_labels)
    assert model.n_clusters_ == count == len(model.lead_assets_) == len(model.cluster_weights_)
    assert np.array_equal(model.labels_[model.lead_assets_], np.arange(count))
    assert model.status_ == int(result.status[0])


def test_parameters_are_the_settings_with_their_defaults():
    parameters = ClusterAllocation().get_params()
    settings = {field.name: field.default for field in fields(ja.AllocationConfig) if field.name != "profiles"}
    assert settings.items() <= parameters.items()
    skfolios = set(EqualWeighted().get_params())
    assert set(parameters) == settings.keys() | skfolios | {"profile", "precision"}


def test_every_setting_reaches_the_engine():
    changed = {
        "linkage": "ward",
        "criterion": "maxclust",
        "distance": "absolute",
        "detone": True,
        "covariance": "ewma",
        "ewma_decay": 0.9,
        "distance_threshold": 0.5,
        "max_clusters": 3,
        "cluster_cap": 0.5,
        "asset_cap": 0.3,
        "slack": 1.2,
        "periods_per_year": 52.0,
        "n_aggressors": 2,
        "aggressor_weight": 0.2,
    }
    config = ClusterAllocation("barbell", risk_free_rate=0.001, **changed)._config(None)
    assert config == ja.AllocationConfig(profiles=("barbell",), risk_free_rate=0.001 * 52.0, **changed)
    defaults = ja.AllocationConfig()
    assert {f.name for f in fields(config) if getattr(config, f.name) == getattr(defaults, f.name)} == set()


def test_periods_a_year_are_those_of_the_dates():
    months = SAMPLE.set_axis(pd.date_range("2001-01-31", periods=len(SAMPLE), freq="ME"), axis=0)
    for X, periods in ((months, 12), (SAMPLE, 252), (months.to_numpy(), 252)):
        model = ClusterAllocation("equal_weight", risk_free_rate=0.002)
        assert model._config(X).periods_per_year == periods
        assert model._config(X).risk_free_rate == 0.002 * periods
        volatility = model.fit(X).allocation_.volatility[0]
        assert volatility == pytest.approx(np.sqrt(periods) * SAMPLE.mean(axis=1).std())


def test_arrays_and_frames_alike(fitted):
    plain = ClusterAllocation().fit(SAMPLE.to_numpy())
    assert np.array_equal(plain.weights_, fitted.weights_)
    assert list(fitted.feature_names_in_) == list(SAMPLE.columns)
    assert not hasattr(plain, "feature_names_in_")
    assert plain.n_features_in_ == fitted.n_features_in_ == 12


def test_an_asset_that_does_not_move_has_no_weight():
    model = ClusterAllocation().fit(SAMPLE.assign(**{"GOV.1": 0.0}))
    column = list(SAMPLE.columns).index("GOV.1")
    assert model.weights_[column] == 0
    assert model.labels_[column] == -1
    assert model.status_ & ja.Status.ASSET_DROPPED


def test_the_risk_free_rate_is_a_periods_as_skfolio_has_it():
    rate = 0.02 / 252
    model = ClusterAllocation("max_sharpe", risk_free_rate=rate).fit(SAMPLE)
    with jax.enable_x64(True):
        result = ja.allocate(SAMPLE, ja.AllocationConfig(profiles=("max_sharpe",), risk_free_rate=rate * 252.0))
    assert np.array_equal(model.weights_, np.asarray(result.weights)[0])
    portfolio = model.predict(SAMPLE)
    assert portfolio.risk_free_rate == rate
    expected = (float(result.expected_return[0]) - 0.02) / float(result.volatility[0])
    assert portfolio.annualized_sharpe_ratio == pytest.approx(expected, rel=1e-9)


# ---- JAX is left as it was ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [32, 64])
def test_fitting_changes_no_setting_of_jax(precision):
    before = dict(jax.config.values)
    ClusterAllocation(precision=precision).fit(SAMPLE)
    assert dict(jax.config.values) == before


def test_precision_is_the_estimators_own(fitted, x64):
    assert np.array_equal(ClusterAllocation().fit(SAMPLE).weights_, fitted.weights_)
    assert ClusterAllocation(precision=32).fit(SAMPLE).weights_.dtype == np.float32


def test_another_number_compiles_nothing(fitted):
    with count_compilations() as seen:
        ClusterAllocation(cluster_cap=0.31, asset_cap=0.17, distance_threshold=0.45).fit(SAMPLE)
    assert seen.count == 0


# ---- scikit-learn ---------------------------------------------------------------------------------------------------

# What skfolio's own estimators do not pass either: `predict` gives a Portfolio, and reads returns without checks.
SKFOLIOS = {
    "check_fit_score_takes_y": "skfolio's fit_predict takes X alone",
    "check_estimators_nan_inf": "skfolio's predict takes returns that are missing",
    "check_methods_sample_order_invariance": "skfolio's predict gives a portfolio, not an array",
    "check_fit2d_predict1d": "skfolio's predict leaves the shape of X to its portfolio",
}
# These fit returns of few shapes, or none, and so compile little; the others take a minute together.
QUICK = {
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_complex_data",
    "check_estimators_empty_data_messages",
    "check_estimator_sparse_tag",
    "check_parameters_default_constructible",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_set_params",
    "check_fit1d",
}


def estimator_checks() -> list[Any]:
    found = []
    for estimator, check in estimator_checks_generator(ClusterAllocation(), mark=None):
        name = check.func.__name__
        marks = [] if name in QUICK else [pytest.mark.slow]
        if name in SKFOLIOS:
            marks.append(pytest.mark.xfail(reason=SKFOLIOS[name]))
        found.append(pytest.param(estimator, check, id=f"{len(found)}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(("estimator", "check"), estimator_checks())
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_quick_checks_are_there():
    names = {check.func.__name__ for _, check in estimator_checks_generator(ClusterAllocation(), mark=None)}
    assert QUICK | SKFOLIOS.keys() <= names


def test_clones_and_parameters(fitted):
    model = ClusterAllocation("barbell", cluster_cap=0.3, portfolio_params={"name": "mine"})
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert twin.set_params(cluster_cap=0.2, profile="min_variance") is twin
    assert (twin.cluster_cap, twin.profile, model.cluster_cap) == (0.2, "min_variance", 0.3)
    assert not hasattr(clone(fitted), "weights_")
    with pytest.raises(ValueError, match="Invalid parameter 'cap'"):
        model.set_params(cap=0.1)


def test_pickles(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.weights_, fitted.weights_)
    assert again.predict(SAMPLE).mean == fitted.predict(SAMPLE).mean


def test_grid_search_over_the_cap():
    search = GridSearchCV(
        ClusterAllocation(),
        {"cluster_cap": [0.15, 0.3]},
        cv=WalkForward(train_size=WINDOW, test_size=MONTH),
        scoring=make_scorer(RatioMeasure.SHARPE_RATIO),
        refit=False,
    )
    search.fit(MARKET)
    for fold, (train, test) in enumerate(folds()):
        for cap, score in zip((0.15, 0.3), search.cv_results_[f"split{fold}_test_score"], strict=True):
            portfolio = ClusterAllocation(cluster_cap=cap).fit(train).predict(test)
            assert score == pytest.approx(portfolio.sharpe_ratio, rel=1e-12)


# ---- skfolio --------------------------------------------------------------------------------------------------------


def folds() -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Two folds in time by hand: a window to fit, the month after it to hold."""
    starts = (0, MONTH)
    return [(MARKET[s : s + WINDOW], MARKET[s + WINDOW : s + WINDOW + MONTH]) for s in starts]


def test_walk_forward_is_two_folds_by_hand():
    config = ja.AllocationConfig(profiles=("risk_parity",), cluster_cap=0.3)
    expected, weights = [], []
    for train, test in folds():
        with jax.enable_x64(True):
            weights.append(np.asarray(ja.allocate(train, config).weights)[0])
        expected.append(test.to_numpy() @ weights[-1])
    found = cross_val_predict(
        ClusterAllocation(cluster_cap=0.3), MARKET, cv=WalkForward(train_size=WINDOW, test_size=MONTH)
    )
    assert [np.array_equal(portfolio.weights, w) for portfolio, w in zip(found, weights, strict=True)] == [True, True]
    np.testing.assert_allclose(found.returns, np.concatenate(expected), rtol=0, atol=1e-15)


def test_populations_and_their_plots():
    months = WalkForward(train_size=WINDOW, test_size=MONTH)
    models = {"clusters": ClusterAllocation(), "equal": EqualWeighted()}
    population = Population(
        [cross_val_predict(model, MARKET, cv=months, portfolio_params={"name": name}) for name, model in models.items()]
    )
    assert list(population.summary().columns) == ["clusters", "equal"]
    figure = population.plot_cumulative_returns()
    assert [line.name for line in figure.data] == ["clusters", "equal"]
    assert all(len(line.y) == 2 * MONTH for line in figure.data)
    assert len(population.plot_composition().data) == 12


def test_portfolio_params_reach_the_portfolio():
    model = ClusterAllocation(portfolio_params={"name": "mine", "annualization_factor": 52}).fit(SAMPLE)
    portfolio = model.predict(SAMPLE)
    assert isinstance(portfolio, Portfolio)
    assert portfolio.name == "mine"
    assert portfolio.annualized_mean == pytest.approx(52 * portfolio.mean)
    assert portfolio.mean == pytest.approx(float(model.allocation_.expected_return[0]) / 252)
    assert model.score(SAMPLE) == portfolio.sharpe_ratio


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_predicting_before_fitting_is_said():
    with pytest.raises(NotFittedError, match="ClusterAllocation instance is not fitted yet"):
        ClusterAllocation().predict(SAMPLE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "momentum"}, "unknown profile 'momentum'; choose from min_variance, risk_parity"),
        ({"profile": ("risk_parity",)}, "unknown profile"),
        ({"linkage": "centroid"}, "unknown linkage"),
        ({"cluster_cap": 1.5}, "cluster_cap must be greater than 0 and at most 1, not 1.5"),
        ({"cluster_cap": "a lot"}, "cluster_cap must be"),
        ({"max_clusters": 2.5}, 'max_clusters must be "auto", or a whole number'),
        ({"precision": 16}, "precision must be 32 or 64 bits, not 16"),
        ({"risk_free_rate": 0.03}, r"risk_free_rate=0.03 a period is 756% a year; divide an annual rate"),
        ({"risk_free_rate": None}, "risk_free_rate must be"),
        ({"risk_free_rate": "3 %", "periods_per_year": 12}, "risk_free_rate must be .* not '3 %'"),
        ({"risk_free_rate": np.nan}, "risk_free_rate must be"),
        ({"periods_per_year": -1}, "periods_per_year must be"),
    ],
)
def test_bad_settings_are_refused_by_fit_alone(change, message):
    model = ClusterAllocation(**change)
    with pytest.raises(ja.InputError, match=message):
        model.fit(SAMPLE)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "inf")])
def test_missing_and_infinite_returns_are_named(value, name):
    spoiled = SAMPLE.copy()
    spoiled.iloc[3, 2] = spoiled.iloc[5, 0] = value
    with pytest.raises(ja.InputError, match=f"X holds {name} for asset 'GOV.1' in row 3, of 2 such values"):
        ClusterAllocation().fit(spoiled)
    with pytest.raises(ja.InputError, match=f"X holds {name} for asset 2 in row 3"):
        ClusterAllocation().fit(spoiled.to_numpy())


def test_a_frame_of_prices_is_refused():
    with pytest.raises(ja.InputError, match="prices"):
        ClusterAllocation().fit((100 * (1 + SAMPLE).cumprod()).assign(CASH=1.0))


def test_what_cannot_be_allocated_is_named():
    with pytest.raises(
        ja.InputError, match=r"nothing was allocated: the returns of every asset are all equal .*'TECH.1'"
    ):
        ClusterAllocation().fit(SAMPLE * 0)
    with pytest.raises(
        ja.InputError, match=r"nothing was allocated: the variance of 'GOV.1' is past what float64 holds"
    ):
        ClusterAllocation().fit(SAMPLE.mul([1e200 if name == "GOV.1" else 1.0 for name in SAMPLE.columns]))


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((1, 3)), np.zeros((5, 0)), [["a", "b"], ["c", "d"]]])
def test_what_is_no_matrix_of_returns_is_a_value_error(bad):
    with pytest.raises(ValueError, match=r"Expected 2D array|minimum of|could not convert"):
        ClusterAllocation().fit(bad)


def test_returns_that_never_vary_are_refused():
    with pytest.raises(ja.InputError, match="nothing was allocated: the returns of every asset are all equal"):
        ClusterAllocation().fit(np.zeros_like(SAMPLE.to_numpy()))


def test_other_assets_than_those_fitted_are_refused(fitted):
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(SAMPLE.iloc[:, ::-1])
    with pytest.raises(ValueError, match="11 features"):
        ClusterAllocation().fit(SAMPLE.to_numpy()).predict(SAMPLE.to_numpy()[:, 1:])


def test_failures_may_fall_back_or_go_on():
    spoiled = SAMPLE.copy()
    spoiled.iloc[3, 2] = np.nan
    held = dict.fromkeys(SAMPLE.columns, 1 / 12)
    model = ClusterAllocation(fallback="previous_weights", previous_weights=held).fit(spoiled)
    assert np.array_equal(model.weights_, np.full(12, 1 / 12))
    with pytest.warns(UserWarning, match="X holds NaN for asset 'GOV.1'"):
        failed = ClusterAllocation(raise_on_failure=False).fit(spoiled)
    assert isinstance(failed.predict(SAMPLE), FailedPortfolio)


# ---- the extra ------------------------------------------------------------------------------------------------------


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_skfolio_loads_where_it_is_asked_for():
    load = "import sys, jaxalloc as ja; from jaxalloc import *; print('skfolio' in sys.modules, end=' ')"
    assert fresh(f"{load}; ja.skfolio.ClusterAllocation; print('skfolio' in sys.modules)") == "False True"


def test_its_absence_is_said_with_what_to_do():
    code = inspect.cleandoc("""
        import sys
        sys.modules["skfolio"] = None
        import jaxalloc as ja
        ja.allocate
        try:
            ja.skfolio
        except ImportError as error:
            print(error)
    """)
    assert fresh(code) == "jaxalloc.skfolio needs skfolio: pip install 'jaxalloc[skfolio]'"
