"""What arithmetic of a precision can and cannot tell: the constants that several kernels share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

NEGLIGIBLE = 32  # units in the last place
_OFF = 8  # likewise


def jitter(dtype: Any) -> float:
    """Share of its gross variance that a portfolio without variance is given: 1e-10 in float64, 1e-5 in float32.

    It lets the variance be divided by. `Status.RISK_REGULARIZED` tells the reader where that matters.
    """
    return 1e-10 if jnp.dtype(dtype) == jnp.float64 else 1e-5


def is_negligible(variance: Array, gross: Array) -> Array:
    """Whether a portfolio has no variance but rounding: at most 32 units in the last place of its gross variance.

    Args:
        variance: (...) w'Sw.
        gross: (...) what the variance would be without any hedging, such as the sum of w_i^2 S_ii.
    """
    return variance <= NEGLIGIBLE * jnp.finfo(variance.dtype).eps * gross


def is_off(total: Array) -> Array:
    """Whether a sum of weights differs from 1 by more than rounding: by more than 8 units in the last place."""
    return jnp.abs(total - 1) > _OFF * jnp.finfo(total.dtype).eps


def sum_tolerance(dtype: Any) -> float:
    """How far from 1 the weights of a portfolio may sum: 1e-12 in float64, 1e-6 in float32."""
    return 1e-12 if jnp.dtype(dtype) == jnp.float64 else 1e-6


def inverse_power_of_two(values: Array) -> Array:
    """1 over the largest power of 2 up to each value, a constant; 1 where that is 0, or no normal number.

    To multiply by it loses no digit. (XLA makes a / s * b / s into a b / (s s), which may be no number.)
    """
    dtype = values.dtype
    width, mantissa, bias = (jnp.int64, 52, 1023) if dtype == jnp.float64 else (jnp.int32, 23, 127)
    exponent = 2 * bias - (lax.bitcast_convert_type(jnp.abs(lax.stop_gradient(values)), width) >> mantissa)
    normal = (exponent > 0) & (exponent < 2 * bias)
    return lax.bitcast_convert_type(jnp.where(normal, exponent, bias) << mantissa, dtype)


def is_computable(variance: Any) -> Any:
    """Whether a variance is neither so small nor so large that sums of its products are no numbers."""
    limits = jnp.finfo(variance.dtype)
    return (variance >= limits.tiny / limits.eps) & (variance <= limits.max * limits.eps)


def flat_below(largest: Any, dtype: Any) -> Any:
    """The standard deviation up to which a series of simple returns is a flat line: rounding is all that moves it.

    A return is a quotient of prices or of wealth, less 1. So it carries the rounding of a number near 1 + r in float64,
    in which panels are read and portfolios held, and the rounding of r itself in the precision of the computation.

    Args:
        largest: (...) the largest absolute return of the series.
        dtype: of the computation.

    Returns:
        (...) 32 units in the last place of both together.
    """
    read, computed = jnp.finfo("float64").eps, jnp.finfo(dtype).eps
    return NEGLIGIBLE * (float(read) * (1 + largest) + float(computed) * largest)
