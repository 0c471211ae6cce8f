"""What arithmetic of a precision can and cannot tell: the constants that several kernels share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

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
