#!/usr/bin/env python3
"""Compiles the scalar kernels, so that not every worker of the tests does so for itself.

usage: .ci/compile_kernels.py PRECISION...

numba keeps them in __pycache__ beside their sources. What else a test needs it compiles when it comes to it.
"""

from __future__ import annotations

import sys

import jax
import numpy as np

import jaxalloc as ja
from jaxalloc.settings.config import PROFILE_NAMES

ja.keep_programs(None)
market = ja.datasets.synthetic_market(n_assets=12, n_observations=60)
config = ja.AllocationConfig(profiles=PROFILE_NAMES)
resamples = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), 4)
for precision in map(int, sys.argv[1:]):
    with jax.enable_x64(precision == 64):
        ja.allocate_batch(market, config, resamples)
        ja.allocate_batch(np.stack([market.to_numpy()] * 4), config)
        ja.allocate_batch(market, config.replace(covariance="ewma", criterion="maxclust"), resamples)
    ja.run_study(market, ja.Bootstrap(4), config, precision=precision)
