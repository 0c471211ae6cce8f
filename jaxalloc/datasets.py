"""The embedded data: a synthetic multi-asset market with known groups, made from NumPy's random numbers alone.

It has stocks of several sectors, bonds, currencies, metals, coins quoted on several venues, and inverse and
long-volatility funds. Annual volatilities run from 4 % to 120 %; there are fat tails, skewness of both signs, known
clusters and near-exact duplicates. The demo, the examples and the benchmarks run on it where no file is given.

**Model.** Day t, asset i of group g, with independent components of mean 0 and variance 1:

    z_it = sum_f b_gf F_ft + sqrt(s_i - sum_f b_gf^2) G_gt + sqrt(1 - s_i) E_it      (factor model)
    y_it = (drift_i - vol_i^2 / 2) / 252 + vol_i / sqrt(252) v_t z_it                (log return, unbounded)
    r_it = exp(tanh(y_it)) - 1                                                       (simple return)

F are five world factors (equity market, rates, dollar, metals, crypto), G is the group's factor, E the asset's own
noise. The common share s_i varies about the group's correlation rho (1 - s_i is 0.7, 1 or 1.3 times 1 - rho), so that
two members correlate at about rho, and two groups at sum_f b_gf b_hf. An inverse fund has no b of its own: its G is
minus the standardised basket of the sector that it shorts. log v_t is a Gaussian AR(1) with E v_t^2 = 1: all assets
share one volatility regime, which leaves correlations alone. F, G and E are Student-t, skewed where xi is not 1: |t| xi
with probability xi^2 / (1 + xi^2), else -|t| / xi, standardised (Fernandez and Steel). tanh keeps a day's log return
inside (-1, 1), because the exponential of a Student-t variable has no mean; in effect it limits the tails of the coins
alone. So every simple return lies in [-0.633, 1.719], and -1 cannot happen.

**Prefixes are stable.** The assets form one unending sequence, in which groups of all classes start one after another;
`n_assets` takes the beginning of it. Every component has a random stream of its own, keyed by (seed, component), so
that neither more assets nor more days change the values that were there before. After the last group of the table, from
some 100 assets on, come "technology 2", "bitcoin 2", ...: further economies of the same make-up, which only the world
factors tie to the first.

References:
    Cont (2001), Empirical properties of asset returns: stylized facts and statistical issues, Quantitative Finance 1
    (fat tails of index 2 to 5, gain/loss asymmetry, volatility clustering).
    Fernandez and Steel (1998), On Bayesian modeling of fat tails and skewness, JASA 93.
    Bailey (1994), Polar generation of random variates with the t-distribution, Mathematics of Computation 62.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import MOST_RETURNS
from jaxalloc.arguments.words import literal

__all__ = ["describe_market", "synthetic_market"]

_DAYS_PER_YEAR = 252
_VOLATILITY_PERSISTENCE = 0.95  # coefficient of the AR(1) of log v_t, per day: a half-life of 13.5 days
_VOLATILITY_SPREAD = 0.2  # standard deviation of log v_t
_NOISE_PATTERN = (0.7, 1.0, 1.3)  # members' own variance, relative to the group's 1 - rho, in turn

# The streams' keys: SeedSequence(seed, spawn_key=(kind, ...)).
_VOLATILITY, _WORLD, _GROUP, _ASSET = range(4)

# Student-t degrees of freedom of the group factors and own noises, by asset class.
_DEGREES_OF_FREEDOM = {
    "equity": 5.0,
    "government bond": 7.0,
    "corporate bond": 5.0,
    "currency": 6.0,
    "metal": 5.0,
    "crypto": 4.5,
    "hedge": 5.0,
}

# World factors: degrees of freedom and skew parameter xi.
_WORLD_FACTORS = {
    "market": (5.0, 0.9),
    "rates": (7.0, 1.0),
    "dollar": (6.0, 1.0),
    "metals": (5.0, 1.0),
    "crypto": (4.5, 1.1),
}


@dataclass(frozen=True)
class _Group:
    """One group of the table: assets that share a factor.

    Attributes:
        name: the group's name.
        asset_class: key of ``_DEGREES_OF_FREEDOM``.
        stem: the beginning of its symbols.
        size: number of members.
        rho: average correlation between members.
        volatility: annual, of the first and the last member; geometric in between.
        drift: annual, of the first and the last member; linear in between.
        world: world factor -> share of variance, with the loading's sign.
        xi: skew parameter of the group's factor and own noises (1: symmetric, above: positive skew).
        inverse_of: the group whose basket it shorts, or "".
    """

    name: str
    asset_class: str
    stem: str
    size: int
    rho: float
    volatility: tuple[float, float]
    drift: tuple[float, float]
    world: Mapping[str, float]
    xi: float = 1.0
    inverse_of: str = ""


# The groups in the order in which they start. No two groups correlate above 0.6 (distance 0.45). rho is above 0.75 in
# all groups but two: the members of "biotech" stay alone at distance 0.4, and "consumer" splits in some samples.
_TABLE = (
    _Group("technology", "equity", "TECH", 8, 0.78, (0.24, 0.40), (0.04, 0.16), {"market": 0.42}),
    _Group("bitcoin", "crypto", "BTC", 4, 0.99, (0.60, 0.62), (0.25, 0.26), {"crypto": 0.50, "market": 0.06}, 1.2),
    _Group(
        "government", "government bond", "GOV", 5, 0.86, (0.04, 0.08), (0.01, 0.02), {"rates": 0.45, "market": -0.05}
    ),
    _Group("gold", "metal", "GOLD", 3, 0.95, (0.15, 0.17), (0.04, 0.05), {"metals": 0.35, "dollar": 0.08}),
    _Group("energy", "equity", "ENRG", 7, 0.80, (0.26, 0.42), (-0.06, 0.06), {"market": 0.36}),
    _Group("dogecoin", "crypto", "DOGE", 3, 0.99, (1.18, 1.20), (0.15, 0.16), {"crypto": 0.48, "market": 0.04}, 1.3),
    _Group("high yield", "corporate bond", "HY", 3, 0.80, (0.06, 0.08), (0.03, 0.04), {"market": 0.30}, 0.75),
    _Group("european fx", "currency", "FXEU", 3, 0.80, (0.06, 0.08), (-0.01, 0.01), {"dollar": 0.45}),
    _Group("inverse technology", "hedge", "INVT", 2, 0.97, (0.26, 0.28), (-0.08, -0.07), {}, inverse_of="technology"),
    _Group("financials", "equity", "FIN", 8, 0.80, (0.20, 0.34), (0.02, 0.10), {"market": 0.44}),
    _Group("ether", "crypto", "ETH", 3, 0.99, (0.78, 0.80), (0.20, 0.21), {"crypto": 0.52, "market": 0.06}, 1.2),
    _Group("long volatility", "hedge", "LVOL", 2, 0.88, (0.70, 0.90), (-0.35, -0.25), {"market": -0.36}, 1.4),
    _Group(
        "investment grade", "corporate bond", "IG", 4, 0.82, (0.05, 0.07), (0.02, 0.03), {"rates": 0.35, "market": 0.08}
    ),
    _Group("health", "equity", "HLTH", 6, 0.76, (0.18, 0.28), (0.03, 0.11), {"market": 0.38}),
    _Group("carry fx", "currency", "FXCA", 3, 0.78, (0.08, 0.10), (0.01, 0.03), {"dollar": 0.30, "market": 0.12}, 0.75),
    _Group("utilities", "equity", "UTIL", 6, 0.79, (0.14, 0.20), (0.01, 0.06), {"market": 0.30}),
    _Group("silver", "metal", "SILV", 2, 0.95, (0.28, 0.30), (0.02, 0.03), {"metals": 0.40, "dollar": 0.06}),
    _Group("biotech", "equity", "BIO", 3, 0.56, (0.45, 0.75), (-0.10, 0.20), {"market": 0.28}, 1.4),
    _Group("consumer", "equity", "CONS", 6, 0.735, (0.15, 0.26), (0.02, 0.09), {"market": 0.40}),
    _Group("solana", "crypto", "SOL", 3, 0.99, (0.98, 1.00), (0.30, 0.31), {"crypto": 0.50, "market": 0.06}, 1.2),
    _Group("industrials", "equity", "INDU", 6, 0.78, (0.18, 0.30), (0.02, 0.10), {"market": 0.45}),
    _Group("base metals", "metal", "BASE", 3, 0.78, (0.20, 0.28), (-0.04, 0.02), {"metals": 0.20, "market": 0.20}),
    _Group("real estate", "equity", "REIT", 5, 0.79, (0.18, 0.26), (-0.02, 0.06), {"market": 0.36, "rates": 0.05}),
    _Group("inflation linked", "government bond", "TIPS", 3, 0.84, (0.05, 0.07), (0.01, 0.02), {"rates": 0.35}),
    _Group("materials", "equity", "MATR", 5, 0.77, (0.22, 0.34), (0.00, 0.08), {"market": 0.40, "metals": 0.08}),
)


@dataclass(frozen=True)
class _Asset:
    """Member number `member` of group number `group`; the groups repeat the table in further economies."""

    group: int
    member: int

    @property
    def row(self) -> _Group:
        return _TABLE[self.group % len(_TABLE)]

    @property
    def economy(self) -> int:
        """1 for the table itself, then 2, 3, ..."""
        return self.group // len(_TABLE) + 1

    @property
    def symbol(self) -> str:
        label = f"venue{chr(ord('A') + self.member)}" if self.row.asset_class == "crypto" else f"{self.member + 1}"
        return f"{self.row.stem}{'' if self.economy == 1 else self.economy}.{label}"

    @property
    def group_name(self) -> str:
        return self.row.name if self.economy == 1 else f"{self.row.name} {self.economy}"

    @property
    def position(self) -> float:
        """The place in its group, 0 for the first member and 1 for the last."""
        return self.member / (self.row.size - 1)

    @property
    def volatility(self) -> float:
        low, high = self.row.volatility
        return low * (high / low) ** self.position

    @property
    def drift(self) -> float:
        low, high = self.row.drift
        return low + (high - low) * self.position

    @property
    def common_share(self) -> float:
        """The share of variance that is not the asset's own noise: s_i of the model."""
        return 1.0 - (1.0 - self.row.rho) * _NOISE_PATTERN[self.member % len(_NOISE_PATTERN)]


def synthetic_market(
    n_assets: int = 60,
    n_observations: int = 756,
    seed: int = 0,
    *,
    start: str | pd.Timestamp = "2021-01-04",
) -> pd.DataFrame:
    """Draw the simple daily returns of a synthetic multi-asset market.

    The factor model is in this module's docstring; `describe_market` gives each asset's class, group and parameters.
    With average linkage on sqrt((1 - rho) / 2), cut at 0.4, a year of returns falls into 9 clusters at 20
    assets, about 19 at 60 and 27 to 30 at 100.

    The same arguments give the same returns: bit for bit with the same NumPy on the same kind of machine, and elsewhere
    up to the last digits of exp, log and cos. The first columns and rows of a larger market are the smaller market with
    the same seed.

    Args:
        n_assets: number of columns, at least 1. In a large market about half of the assets are shares.
        n_observations: number of business days, at least 2.
        seed: non-negative integer. It changes the draws, but not the assets.
        start: the first day; if it is on a weekend, the Monday after it.

    Returns:
        Frame (n_observations, n_assets) of float64: simple returns per day (0.01 is one per cent), each above -1, with
        no missing value. The index is a business-day DatetimeIndex named "date", the columns are the symbols.

    Raises:
        InputError: an argument is out of range.

    Example:
        >>> from jaxalloc.datasets import synthetic_market
        >>> returns = synthetic_market(n_assets=8, n_observations=252, seed=1)
        >>> returns.shape
        (252, 8)
        >>> list(returns.columns)[:4]
        ['TECH.1', 'BTC.venueA', 'GOV.1', 'GOLD.1']
        >>> round(float(returns["BTC.venueA"].corr(returns["BTC.venueB"])), 2)
        0.99
    """
    n_assets = _integer("n_assets", n_assets, 1)
    n_observations = _integer("n_observations", n_observations, 2)
    seed = _integer("seed", seed, 0)
    if n_assets * n_observations > MOST_RETURNS:
        raise InputError(
            f"n_assets={literal(n_assets)} times n_observations={literal(n_observations)} must be at most "
            f"{MOST_RETURNS:,} returns"
        )
    dates = _business_days(start, n_observations)

    assets = _assets(n_assets)
    draws = _Draws(seed, n_observations)
    values = np.empty((n_observations, n_assets))
    for column, asset in enumerate(assets):
        daily_drift = (asset.drift - asset.volatility**2 / 2) / _DAYS_PER_YEAR
        daily_volatility = asset.volatility / math.sqrt(_DAYS_PER_YEAR)
        log_return = daily_drift + daily_volatility * draws.volatility * draws.shock(asset)
        values[:, column] = np.expm1(np.tanh(log_return))
    return pd.DataFrame(values, index=dates, columns=[asset.symbol for asset in assets])


def describe_market(n_assets: int = 60) -> pd.DataFrame:
    """Describe the assets of `synthetic_market`: their class, and the group that each was built to belong to.

    Args:
        n_assets: number of assets, at least 1; row k describes column k of `synthetic_market(n_assets)`, for any seed.

    Returns:
        Frame of n_assets rows, indexed by "symbol", with the columns

        - asset_class: "equity", "government bond", "corporate bond", "currency", "metal", "crypto" or "hedge";
        - group: the name of the group, the assets that share a factor: the cluster that is to be found;
        - group_correlation: the average correlation between the group's members. Below 0.68 (distance 0.4) the members
          are not one cluster at the default threshold: "biotech" is such a group, and "consumer" is close to it;
        - annual_volatility: the target of the volatility of daily returns times sqrt(252) (0.2 is 20 per cent);
        - annual_drift: the target of the mean daily return times 252;
        - degrees_of_freedom: those of the Student-t group factor and own noise;
        - skew: the sign of the skewness by design, 1 or -1; 0 where the group's own components are symmetric (then the
          market's factor and compounding add a little skewness of either sign).

    Raises:
        InputError: n_assets is out of range.

    Example:
        >>> from jaxalloc.datasets import describe_market
        >>> market = describe_market(20)
        >>> market.loc["BTC.venueA", ["asset_class", "group"]].tolist()
        ['crypto', 'bitcoin']
        >>> market["group"].nunique()
        9
    """
    assets = _assets(_integer("n_assets", n_assets, 1))
    rows = [
        {
            "asset_class": asset.row.asset_class,
            "group": asset.group_name,
            "group_correlation": asset.row.rho,
            "annual_volatility": asset.volatility,
            "annual_drift": asset.drift,
            "degrees_of_freedom": _DEGREES_OF_FREEDOM[asset.row.asset_class],
            "skew": (asset.row.xi > 1) - (asset.row.xi < 1),
        }
        for asset in assets
    ]
    return pd.DataFrame(rows, index=pd.Index([asset.symbol for asset in assets], name="symbol"))


def _assets(n_assets: int) -> list[_Asset]:
    """The first assets of the sequence.

    Member j of group g stands at g + j (0.7 + 20 / (6 + g)), ties in the order of the groups. So the first groups take
    long to fill, and a small market has many groups; later groups follow each other, so that a large market has full
    groups.
    """
    candidates = [
        _Asset(group, member) for group in range(n_assets) for member in range(_TABLE[group % len(_TABLE)].size)
    ]
    candidates.sort(key=lambda asset: (asset.group + asset.member * (0.7 + 20 / (6 + asset.group)), asset.group))
    return candidates[:n_assets]


class _Draws:
    """The components of one market's shocks, each drawn from its own stream when it is first used."""

    def __init__(self, seed: int, n_observations: int) -> None:
        self._seed = seed
        self._n_observations = n_observations
        self._world: dict[str, np.ndarray] = {}
        self._groups: dict[int, np.ndarray] = {}
        self.volatility = self._draw_volatility()

    def shock(self, asset: _Asset) -> np.ndarray:
        """Z of the model: (T,), mean 0 and variance 1 in population."""
        noise = self._student((_ASSET, asset.group, asset.member), asset.row)
        common = self._common(asset.row, asset.group, asset.common_share)
        return common + math.sqrt(1.0 - asset.common_share) * noise

    def _common(self, row: _Group, group: int, share: float) -> np.ndarray:
        """The world's and the group's part of the shock: (T,), variance `share`."""
        world_share = sum(abs(part) for part in row.world.values())
        common = math.sqrt(share - world_share) * self._group_factor(row, group)
        for name, part in row.world.items():
            common = common + math.copysign(math.sqrt(abs(part)), part) * self._world_factor(name)
        return common

    def _group_factor(self, row: _Group, group: int) -> np.ndarray:
        if group not in self._groups:
            if row.inverse_of:
                position = [other.name for other in _TABLE].index(row.inverse_of)
                basket = _TABLE[position]
                basket_group = group - group % len(_TABLE) + position
                factor = -self._common(basket, basket_group, basket.rho) / math.sqrt(basket.rho)
            else:
                factor = self._student((_GROUP, group), row)
            self._groups[group] = factor
        return self._groups[group]

    def _world_factor(self, name: str) -> np.ndarray:
        if name not in self._world:
            degrees_of_freedom, xi = _WORLD_FACTORS[name]
            rng = self._stream(_WORLD, list(_WORLD_FACTORS).index(name))
            self._world[name] = _two_piece_t(rng, self._n_observations, degrees_of_freedom, xi)
        return self._world[name]

    def _student(self, key: tuple[int, ...], row: _Group) -> np.ndarray:
        return _two_piece_t(self._stream(*key), self._n_observations, _DEGREES_OF_FREEDOM[row.asset_class], row.xi)

    def _draw_volatility(self) -> np.ndarray:
        """(T,) v of the model: the exponential of a stationary AR(1), with E v^2 = 1."""
        innovations = _VOLATILITY_SPREAD * self._stream(_VOLATILITY).standard_normal(self._n_observations)
        weight = math.sqrt(1.0 - _VOLATILITY_PERSISTENCE**2)
        state = float(innovations[0])
        log_volatility = [state]
        for innovation in innovations[1:].tolist():
            state = _VOLATILITY_PERSISTENCE * state + weight * innovation
            log_volatility.append(state)
        return np.exp(np.array(log_volatility) - _VOLATILITY_SPREAD**2)

    def _stream(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._seed, spawn_key=key)))


def _two_piece_t(rng: np.random.Generator, size: int, degrees_of_freedom: float, xi: float) -> np.ndarray:
    """Draw a skewed Student-t variable of mean 0 and variance 1 (Bailey's polar form; Fernandez and Steel's skew).

    Each draw takes three uniform numbers from one block, so that the first draws do not depend on `size`.
    """
    nu = degrees_of_freedom
    uniform = rng.random((size, 3))
    radius = np.sqrt(nu * np.expm1(-2.0 / nu * np.log1p(-uniform[:, 0])))
    magnitude = radius * np.abs(np.cos(2.0 * np.pi * uniform[:, 1]))
    signed = np.where(uniform[:, 2] < xi**2 / (1.0 + xi**2), magnitude * xi, -magnitude / xi)

    mean_magnitude = 2.0 * math.sqrt(nu / math.pi) * math.gamma((nu + 1) / 2) / (math.gamma(nu / 2) * (nu - 1))
    mean = mean_magnitude * (xi - 1.0 / xi)
    second_moment = nu / (nu - 2.0) * (xi**3 + xi**-3) / (xi + 1.0 / xi)
    return (signed - mean) / math.sqrt(second_moment - mean**2)


def _business_days(start: str | pd.Timestamp, n_observations: int) -> pd.DatetimeIndex:
    try:
        return pd.bdate_range(start, periods=n_observations, name="date")
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"start={literal(start)} is not a date from which {n_observations} business days follow"
        ) from None


def _integer(name: str, value: int, minimum: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)) or number < minimum:
        raise InputError(f"{name}={literal(value)} must be an integer of at least {minimum}")
    return number
