"""Simulated and stressed markets: universes that are not in the data."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import MOST_RETURNS, check_counts, finite_array, one_number, plain, whole_number
from jaxalloc.arguments.words import literal
from jaxalloc.kernels.moments.shock import Shock
from jaxalloc.universes.samplers import Sampler
from jaxalloc.universes.universe import Kernel, Universe

if TYPE_CHECKING:
    from jaxalloc.markets.panel import Panel

Distribution = Literal["gaussian", "student_t"]

_TAIL = 0.05  # of the distribution, beyond the quantile that the tail gain starts from
_GAUSSIAN_FROM = 1e6  # degrees of freedom, from which the quantiles are those of a Gaussian to single precision
_MOST_DEGREES = 1e30  # of freedom: in effect Gaussian, and within the range of float32


class Truth(NamedTuple):
    """The distribution that simulated returns are drawn from; both kinds are symmetric.

    Attributes:
        mean: (N,) annual.
        covariance: (N, N) annual.
        tail_gain: (N,) expectation of the returns per period above their 95 % quantile.
    """

    mean: np.ndarray
    covariance: np.ndarray
    tail_gain: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Parametric(Sampler):
    """Simulated returns: independent rows of a multivariate Gaussian or Student-t distribution.

    Mean and covariance are the panel's, unless they are given. The t distribution has one mixing variable per row, so
    that all assets have their extreme days together. It is scaled to have the covariance:
    x = mean + sqrt((nu - 2) / chi2_nu) L z, with L L' the covariance.

    Attributes:
        n: number of simulated panels, at least 1.
        distribution: ``"gaussian"`` or ``"student_t"``.
        degrees_of_freedom: nu > 2 of the t distribution; the Gaussian ignores it.
        n_observations: rows of a simulated panel; by default as many as the panel has.
        mean: (N,) annual mean returns in place of the panel's.
        covariance: (N, N) annual covariance in place of the panel's; positive semidefinite.

    Example:
        >>> Parametric(1000, "student_t", degrees_of_freedom=4).count(252)
        1000
    """

    once: ClassVar[bool] = True
    first: ClassVar[bool] = True
    leaves_out: ClassVar[bool | None] = False

    n: int | None
    distribution: Distribution = "gaussian"
    degrees_of_freedom: float = 5.0
    n_observations: int | None = None
    mean: Any = None
    covariance: Any = None
    _factor: Any = dataclasses.field(default=None, repr=False)  # L, per period; set by `prepare`

    def __post_init__(self) -> None:
        """Raise `InputError` for more panels or rows than a study takes."""
        check_counts(n=self.n, n_observations=self.n_observations)

    def count(self, n_rows: int) -> int | None:
        """Return the number of simulated panels."""
        return None if self.n is None else int(self.n)

    def rows_after(self, n_rows: int) -> int:
        """Return the rows of a simulated panel."""
        return n_rows if self.n_observations is None else int(self.n_observations)

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> Parametric:
        """Check the settings, estimate the moments, factor the covariance; see `Sampler.prepare`."""
        if self.n is not None:
            whole_number("n, the number of simulated panels,", self.n, 1)
        if self.distribution not in get_args(Distribution):
            choices = ", ".join(get_args(Distribution))
            raise InputError(f"unknown distribution {literal(self.distribution)}; choose from {choices}")
        freedom = one_number("degrees_of_freedom", self.degrees_of_freedom)
        if np.float32(min(freedom, _MOST_DEGREES)) <= 2:
            raise InputError(f"degrees_of_freedom must be greater than 2, not {literal(self.degrees_of_freedom)}")
        rows = panel.n_observations if self.n_observations is None else self.n_observations
        whole_number("n_observations", rows, 2)
        if rows * panel.n_assets > MOST_RETURNS:
            raise InputError(
                f"{rows:,} simulated rows of {panel.n_assets:,} assets are too many for one universe; it takes "
                f"{MOST_RETURNS:,} returns"
            )
        x, n_assets = panel.values, panel.n_assets
        if (self.mean is None or self.covariance is None) and not np.isfinite(x).all():
            raise InputError(
                "simulated returns have the moments of returns without gaps: choose missing='drop-assets', "
                "missing='drop-rows' or missing='zero', or give mean and covariance"
            )
        mean = x.mean(axis=0) * periods_per_year if self.mean is None else finite_array("mean", self.mean, (n_assets,))
        if self.covariance is None:
            covariance = np.atleast_2d(np.cov(x, rowvar=False)) * periods_per_year
        else:
            covariance = finite_array("covariance", self.covariance, (n_assets, n_assets))
        factor = _square_root(covariance) / math.sqrt(periods_per_year)
        ready = dataclasses.replace(self, n_observations=int(rows), _factor=(mean / periods_per_year, factor))
        return ready

    def draw(self) -> tuple[Kernel, Any]:
        """Return the kernel, and mean, factor of the covariance, and degrees of freedom."""
        mean, factor = self._factor
        kernel = _SIMULATE[self.distribution](int(self.rows_after(0)))
        return kernel, (mean, factor, np.float32(min(self.degrees_of_freedom, _MOST_DEGREES)))

    def truth(self, periods_per_year: float) -> Truth:
        """Return the distribution that is drawn from. The sampler must be prepared.

        Args:
            periods_per_year: those that it was prepared with.
        """
        mean, factor = self._factor
        covariance = factor @ factor.T
        gain = _unit_tail_gain(self.distribution, float(self.degrees_of_freedom))
        return Truth(
            mean=mean * periods_per_year,
            covariance=covariance * periods_per_year,
            tail_gain=mean + gain * np.sqrt(np.diagonal(covariance)),
        )

    def settings(self) -> dict[str, Any]:
        """Return the name and the settings as plain values."""
        return {
            "sampler": "Parametric",
            "n": plain(self.n),
            "distribution": self.distribution,
            "degrees_of_freedom": float(self.degrees_of_freedom),
            "n_observations": plain(self.n_observations),
            "mean": None if self.mean is None else np.asarray(self.mean, float).tolist(),
            "covariance": None if self.covariance is None else np.asarray(self.covariance, float).tolist(),
        }


@functools.cache
def _gaussian(n_rows: int) -> Kernel:
    def simulate(numbers: tuple[Array, Array, Array], key: Array, index: Array, universe: Universe) -> Universe:
        mean, factor, _ = numbers
        normal = jax.random.normal(key, (n_rows, mean.shape[0]), jnp.float32)
        return _own(universe, mean, factor, normal, jnp.ones((n_rows, 1), jnp.float32))

    simulate.__qualname__ = f"gaussian_{n_rows}"  # tells its programs from those of other lengths
    return simulate


@functools.cache
def _student(n_rows: int) -> Kernel:
    def simulate(numbers: tuple[Array, Array, Array], key: Array, index: Array, universe: Universe) -> Universe:
        mean, factor, freedom = numbers
        key_normal, key_mixing = jax.random.split(key)
        normal = jax.random.normal(key_normal, (n_rows, mean.shape[0]), jnp.float32)
        mixing = 2 * jax.random.gamma(key_mixing, freedom / 2, (n_rows, 1), jnp.float32)  # chi-square
        return _own(universe, mean, factor, normal, jnp.sqrt((freedom - 2) / mixing))

    simulate.__qualname__ = f"student_{n_rows}"
    return simulate


def _unit_tail_gain(distribution: Distribution, freedom: float) -> float:
    """Expectation beyond the 95 % quantile of a distribution of mean 0 and variance 1.

    Of the Gaussian it is density / 5 % at the quantile; of Student's t (McNeil, Frey and Embrechts 2015, example 2.15)
    that times (nu + q^2) / (nu - 1), scaled like the returns.
    """
    if distribution == "gaussian" or freedom > _GAUSSIAN_FROM:
        normal = NormalDist()
        return normal.pdf(normal.inv_cdf(1 - _TAIL)) / _TAIL
    from scipy.special import stdtrit

    quantile = float(stdtrit(freedom, 1 - _TAIL))
    log_density = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    log_density -= (freedom + 1) / 2 * math.log1p(quantile**2 / freedom)
    gain = math.exp(log_density) / _TAIL * (freedom + quantile**2) / (freedom - 1)
    return gain * math.sqrt((freedom - 2) / freedom)


def _own(universe: Universe, mean: Array, factor: Array, normal: Array, scale: Array) -> Universe:
    """Give the universe returns of its own; the random numbers are float32 in either precision."""
    n_rows = normal.shape[0]
    z = (normal * scale).astype(factor.dtype)
    returns = mean[None, :] + jnp.matmul(z, factor.T, precision=jax.lax.Precision.HIGHEST)
    rows = jnp.arange(n_rows, dtype=jnp.int32)
    return universe._replace(rows=rows, length=jnp.int32(n_rows), returns=returns)


_SIMULATE: dict[Distribution, Callable[[int], Kernel]] = {"gaussian": _gaussian, "student_t": _student}


def _square_root(covariance: np.ndarray) -> np.ndarray:
    """L with L L' = covariance, which may be singular; raise unless that is symmetric and positive semidefinite."""
    if not np.allclose(covariance, covariance.T, rtol=1e-8, atol=1e-12):
        raise InputError("covariance must be symmetric")
    deviation = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    safe = np.where(deviation > 0, deviation, 1)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2 / np.outer(safe, safe))
    if values.min() < -1e-8 * max(values.max(), 1):
        raise InputError("covariance must be positive semidefinite")
    # an asset without variance gets exactly none, where the product of rounded factors would give it a little
    return deviation[:, None] * vectors * np.sqrt(np.maximum(values, 0))


@dataclasses.dataclass(frozen=True, eq=False)
class Stress(Sampler):
    """Scenarios in which volatilities, correlations and means are not what they were.

    Each setting is one number for all scenarios, or a sequence of S numbers, one for each scenario. Volatility and mean
    may also be arrays (S, N), with a number for each scenario and asset. A scenario with volatility 1, correlation 0
    and mean 0 changes nothing. `jaxalloc.kernels.moments.shock.Shock` says how each acts on moments and scores.

    Attributes:
        volatility: factor on each asset's volatility, greater than 0.
        correlation: c from -1 to 1. A positive c moves each correlation by the fraction c of its way to one, a negative
            c by the fraction -c of its way to zero. Both keep the matrix positive semidefinite.
        mean: annual return added to each asset's mean, a fraction.
        names: S names of the scenarios, for the record; by default they are numbered.

    Example:
        >>> crisis = Stress(volatility=(1.0, 1.5, 2.0), correlation=(0.0, 0.3, 0.6), mean=(0.0, -0.1, -0.3))
        >>> crisis.count(252)
        3
    """

    once: ClassVar[bool] = True

    volatility: Any = 1.0
    correlation: Any = 0.0
    mean: Any = 0.0
    names: Sequence[str] | None = None
    _arrays: Any = dataclasses.field(default=None, repr=False)  # (S, N), (S,), (S, N); set by `prepare`

    def count(self, n_rows: int) -> int:
        """Return the number of scenarios."""
        return max(np.shape(value)[0] if np.ndim(value) else 1 for value in self._values())

    def _values(self) -> tuple[Any, Any, Any]:
        return self.volatility, self.correlation, self.mean

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> Stress:
        """Check the settings; bring them to the shapes (S, N), (S,), (S, N). See `Sampler.prepare`."""
        arrays = []
        lengths = set()
        for name, value in zip(("volatility", "correlation", "mean"), self._values(), strict=True):
            array = finite_array(name, value)
            wanted = "a number or a sequence of S" + ("" if name == "correlation" else ", or an array (S, N)")
            if array.ndim > (1 if name == "correlation" else 2) or 0 in array.shape:
                raise InputError(f"{name} must be {wanted}, not of shape {array.shape}")
            if array.ndim == 2 and array.shape[1] != panel.n_assets:
                raise InputError(f"{name} has {array.shape[1]} columns, the panel {panel.n_assets} assets")
            if array.ndim and len(array) > 1:
                lengths.add(len(array))
            arrays.append(array)
        if len(lengths) > 1:
            raise InputError(f"volatility, correlation and mean name {sorted(lengths)} scenarios: they must be as many")
        volatility, correlation, mean = arrays
        if (volatility <= 0).any():
            raise InputError("volatility multiplies, and must be greater than 0")
        if (np.abs(correlation) > 1).any():
            raise InputError("correlation must be between -1 (all the way to zero) and 1 (all the way to one)")
        count = self.count(n_rows)
        if self.names is not None and len(self.names) != count:
            raise InputError(f"names must be as many as the scenarios, {count}, not {len(self.names)}")
        by_asset = [
            np.broadcast_to(array[:, None] if array.ndim == 1 else array, (count, panel.n_assets)).astype(float)
            for array in (volatility, mean)
        ]
        moved = np.broadcast_to(correlation, (count,)).astype(float)
        return dataclasses.replace(self, _arrays=(by_asset[0], moved, by_asset[1]))

    def draw(self) -> tuple[Kernel, Any]:
        """Return the kernel, and the three arrays."""
        return _stress, self._arrays

    def settings(self) -> dict[str, Any]:
        """Return the name and the settings as plain values."""
        values = zip(("volatility", "correlation", "mean"), self._values(), strict=True)
        plain = {name: np.asarray(value, float).tolist() for name, value in values}
        return {"sampler": "Stress"} | plain | {"names": None if self.names is None else list(self.names)}


def _stress(numbers: tuple[Array, Array, Array], key: Array, index: Array, universe: Universe) -> Universe:
    volatility, correlation, mean = numbers
    shock = Shock(volatility=volatility[index], correlation=correlation[index], mean=mean[index])
    return universe._replace(shock=shock)
