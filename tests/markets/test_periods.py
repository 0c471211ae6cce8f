"""Rows a year by the dates: every spacing that data come in, and those that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.markets.periods import resolve_periods, spacing_of
from jaxalloc.settings.sweep import as_sweep

HOUR = pd.Timedelta(hours=1)
BUSINESS = pd.bdate_range("2020-01-01", periods=500)


def days(words: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(words.split())


def a_day_earlier(dates: pd.DatetimeIndex, *places: int) -> pd.DatetimeIndex:
    shift = np.isin(np.arange(len(dates)), places)
    return dates - pd.to_timedelta(shift.astype(int), "D")


def session(n_days: int, first: float = 9.5, rows: int = 7, every: float = 1) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([day + HOUR * (first + every * k) for day in BUSINESS[:n_days] for k in range(rows)])


WEEKS = pd.date_range("2020-01-03", periods=100, freq="7D")
WITHOUT_FRIDAYS = pd.date_range("2020-01-01", periods=300)
WITHOUT_FRIDAYS = WITHOUT_FRIDAYS[~WITHOUT_FRIDAYS.day_of_week.isin([4, 5])]
THIN = np.random.default_rng(1).choice(500, 20, replace=False)

SPACINGS: dict[str, tuple[Any, float]] = {
    "business days": (BUSINESS, 252),
    "business days in another order": (BUSINESS[::-1], 252),
    "one week of them": (BUSINESS[:5], 252),
    "two days": (BUSINESS[:2], 252),
    "over a weekend": (days("2024-01-05 2024-01-08"), 252),
    "over a holiday": (days("2024-03-28 2024-04-02 2024-04-03"), 252),
    "a week with two holidays": (days("2023-12-22 2023-12-27 2023-12-28 2023-12-29 2024-01-02"), 252),
    "with holidays": (BUSINESS.delete(THIN), 252),
    "with an exchange closed for a year": (BUSINESS[:100].append(BUSINESS[350:450]), 252),
    "with two stray Saturdays": (BUSINESS.union(days("2020-02-08 2020-10-10")), 252),
    "two weeks with a stray Saturday": (BUSINESS[:10].union(days("2020-01-04")), 252),
    "two whole weeks with one": (pd.bdate_range("2024-01-01", periods=10).union(days("2024-01-06")), 252),
    "Sunday to Thursday": (WITHOUT_FRIDAYS, 252),
    "closing times": (BUSINESS + 16 * HOUR, 252),
    "before 1970": (pd.bdate_range("1950-01-02", periods=60), 252),
    "seven days a week": (pd.date_range("2020-01-01", periods=400), 365),
    "one such week": (pd.date_range("2020-01-01", periods=7), 365),
    "a weekend": (days("2024-01-06 2024-01-07"), 365),
    "six days a week": (
        pd.date_range("2020-01-01", periods=300)[pd.date_range("2020", periods=300).day_of_week != 5],
        312,
    ),
    "weeks": (WEEKS, 52),
    "weeks, some on Thursday": (a_day_earlier(WEEKS, 14, 66), 52),
    "weeks, one missing": (WEEKS.delete(50), 52),
    "weeks by Sunday": (pd.date_range("2020-01-05", periods=30, freq="7D"), 52),
    "fortnights": (pd.date_range("2020-01-03", periods=30, freq="14D"), 26),
    "half-months": (pd.date_range("2020-01-03", periods=30, freq="SME"), 24),
    "four weeks": (pd.date_range("2020-01-03", periods=30, freq="28D"), 13),
    "last business days of months": (pd.date_range("2001-01-01", periods=120, freq="BME"), 12),
    "month ends": (pd.date_range("2001-01-01", periods=13, freq="ME"), 12),
    "month starts": (pd.date_range("2001-01-01", periods=60, freq="MS"), 12),
    "third Fridays": (pd.date_range("2001-01-01", periods=60, freq="WOM-3FRI"), 12),
    "February alone": (days("2023-01-31 2023-02-28"), 12),
    "every other month": (pd.date_range("2001-01-01", periods=20, freq="2ME"), 6),
    "quarters": (pd.date_range("2001-01-01", periods=20, freq="BQE"), 4),
    "half-years": (pd.date_range("2001-01-01", periods=20, freq="6ME"), 2),
    "years": (pd.date_range("2001-01-01", periods=20, freq="BYE"), 1),
    "every other year": (pd.date_range("2001-01-01", periods=20, freq="2YE"), 0.5),
    "ten days": (pd.date_range("2001-01-01", periods=20, freq="10D"), 36.525),
    "hours of coins": (pd.date_range("2024-01-01 13:00", periods=900, freq="h"), 24 * 365),
    "hours with a time zone": (pd.date_range("2024-03-20", periods=900, freq="h", tz="Europe/Berlin"), 24 * 365),
    "four hours of coins": (pd.date_range("2024-01-01", periods=300, freq="4h"), 6 * 365),
    "minutes of coins": (pd.date_range("2024-01-01", periods=8 * 1440, freq="min"), 1440 * 365),
    "hours of shares": (session(60), 7 * 252),
    "hours of shares in UTC": (session(200).tz_localize("America/New_York").tz_convert("UTC"), 7 * 252),
    "hours of shares, a half day": (session(60).delete([157, 158, 159, 160]), 7 * 252),
    "a day and a half of hours": (session(2)[:11], 7 * 252),
    "half a day of shares": (session(60, rows=2, every=4), 2 * 252),
    "minutes of shares": (session(5, rows=390, every=1 / 60), 390 * 252),
    "periods": (pd.period_range("2020-01", periods=20, freq="M"), 12),
    "dates of Python": (pd.Index([day.date() for day in WEEKS], dtype=object), 52),
    "text in ISO 8601": (pd.Index(["2020-01-31", "2020-02-29", "2020-03-31"]), 12),
    "numbers": (pd.RangeIndex(10), 252),
    "years as numbers": (pd.Index([2001, 2002, 2003]), 252),
    "years as text": (pd.Index(["2001", "2002", "2003"]), 252),
    "names": (pd.Index(["first", "second"]), 252),
    "one row": (BUSINESS[:1], 252),
}


@pytest.mark.parametrize(("labels", "number"), SPACINGS.values(), ids=SPACINGS)
def test_rows_a_year_follow_from_the_dates(labels: pd.Index, number: float) -> None:
    assert spacing_of(labels).periods_per_year == number


RNG = np.random.default_rng(0)
IRREGULAR = {
    "random days": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.cumsum(RNG.integers(1, 40, 100)), "D"),
    "three days a week": BUSINESS[BUSINESS.day_of_week.isin([0, 2, 4])],
    "days, then months": BUSINESS[:40].append(pd.date_range("2020-03-31", periods=40, freq="ME")),
    "random hours": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.cumsum(RNG.integers(1, 36000, 300)), "s"),
}


@pytest.mark.parametrize("labels", IRREGULAR.values(), ids=IRREGULAR)
def test_dates_without_a_regular_spacing_ask_for_the_number(labels: pd.DatetimeIndex) -> None:
    with pytest.raises(InputError, match=r"no regular spacing .* periods_per_year=") as caught:
        spacing_of(labels)
    assert len(str(caught.value).splitlines()) == 1
    for settings in (as_sweep(ja.AllocationConfig(periods_per_year=7)), ja.sweep(periods_per_year=[3, 4])):
        assert resolve_periods(settings, labels)[1] == ()
    assert resolve_periods(ja.sweep(periods_per_year=[3, 4]), labels)[0].config.periods_per_year == 3


def test_what_was_decided_is_said_and_a_number_wins() -> None:
    months = pd.date_range("2001-01-31", periods=40, freq="ME")
    settings, notes = resolve_periods(as_sweep(None), months)
    assert settings.config.periods_per_year == 12
    assert notes == ("Annualised by 12 rows a year: the dates are months.",)
    hours = resolve_periods(as_sweep(None), session(30))[1]
    assert hours == ("Annualised by 1,764 rows a year: a day has 7 rows, and the dates are business days.",)
    assert resolve_periods(as_sweep(None), pd.RangeIndex(9))[1] == (
        "Annualised by 252 rows a year: the rows have no dates.",
    )
    settings, notes = resolve_periods(as_sweep(ja.AllocationConfig(periods_per_year=252)), months)
    assert settings.config.periods_per_year == 252
    assert notes == ("Annualised by 252 rows a year as given; the dates are months, which would make it 12.",)
    for number, dates in ((260, BUSINESS), (252, BUSINESS), (12, pd.RangeIndex(9)), (14, months)):
        assert resolve_periods(as_sweep(ja.AllocationConfig(periods_per_year=number)), dates)[1] == ()


def test_a_sweep_over_the_number_keeps_its_points() -> None:
    months = pd.date_range("2001-01-31", periods=40, freq="ME")
    settings, notes = resolve_periods(ja.sweep(periods_per_year=[52, 12, 13]), months)
    assert settings.points == [(52,), (12,), (13,)]
    assert settings.home == 1
    assert notes == ("Annualised by 52 rows a year as given; the dates are months, which would make it 12.",)


def test_every_entry_annualises_by_the_dates() -> None:
    market = ja.datasets.synthetic_market(n_assets=6, n_observations=60)
    months = market.set_axis(pd.date_range("2001-01-31", periods=60, freq="BME"), axis=0)
    config = ja.AllocationConfig(profiles=("equal_weight",))
    volatility = np.sqrt(12) * months.mean(axis=1).std()
    panel = ja.read_returns(months)
    for returns in (months, panel):
        assert float(ja.allocate(returns, config).volatility[0]) == pytest.approx(volatility, rel=1e-5)
        batch = ja.allocate_batch(returns, config, observation_weights=np.ones((2, 60)))
        np.testing.assert_allclose(batch.volatility[:, 0], volatility, rtol=1e-5)
    daily = np.sqrt(252) * months.mean(axis=1).std()
    assert float(ja.allocate(months.to_numpy(), config).volatility[0]) == pytest.approx(daily, rel=1e-5)
    study = ja.run_study(panel, ja.Bootstrap(3), config)
    assert "Annualised by 12 rows a year: the dates are months." in study.record["notes"]
    assert study.record["settings"]["config"]["periods_per_year"] == 12
    assert float(study.estimate().volatility[0]) == pytest.approx(volatility, rel=1e-12)
    walk = ja.walk_forward(panel, config, window=24, step=6)
    held = market.to_numpy()[24:]
    net = np.concatenate([grown(held[k : k + 6]) for k in range(0, 36, 6)])
    sharpe = np.sqrt(12) * net.mean() / net.std(ddof=1)
    assert walk.summary().loc["equal_weight", "sharpe"] == pytest.approx(sharpe, rel=1e-10)
    assert "Annualised by 12 rows a year: the dates are months." in walk.record["notes"]
    swept = ja.run_study(panel, None, ja.sweep(config, periods_per_year=[12, 52]))
    ratio = swept.estimate(1).volatility[0] / swept.estimate(0).volatility[0]
    assert float(ratio) == pytest.approx(np.sqrt(52 / 12))


def grown(returns: np.ndarray) -> np.ndarray:
    """Returns of equal weights that drift."""
    wealth = np.cumprod(1 + returns, axis=0).mean(axis=1)
    return wealth / np.concatenate([[1.0], wealth[:-1]]) - 1


def test_entries_ask_for_a_number_where_dates_are_irregular() -> None:
    market = ja.datasets.synthetic_market(n_assets=4, n_observations=100).set_axis(IRREGULAR["random days"], axis=0)
    config = ja.AllocationConfig(profiles=("equal_weight",))
    for run in (ja.allocate, lambda x, c: ja.run_study(x, None, c), lambda x, c: ja.walk_forward(x, c, 40, 20)):
        with pytest.raises(InputError, match="periods_per_year="):
            run(market, config)
    ja.allocate(market, config.replace(periods_per_year=20))
