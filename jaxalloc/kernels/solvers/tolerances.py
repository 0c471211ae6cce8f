"""What counts as solved, and as rounding, in each precision."""

from __future__ import annotations

from typing import Any

import numpy as np


def tolerance(dtype: Any) -> float:
    """Optimality gap at which a solver stops: 1e-11 in float64, 3e-6 in float32."""
    return 1e-11 if np.dtype(dtype) == np.float64 else 3e-6


def accepted(dtype: Any) -> float:
    """Optimality gap that counts as solved: 5e-10 in float64, 8e-6 in float32."""
    return 5e-10 if np.dtype(dtype) == np.float64 else 8e-6


def rounding(dtype: Any) -> float:
    """Relative error that a multiplier or an entry of y may have: 64 units in the last place, in float32 8."""
    return (64 if np.dtype(dtype) == np.float64 else 8) * float(np.finfo(dtype).eps)
