"""The embedded market at its default size, alone and in a batch: what `make demo` shows."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxalloc as ja


@pytest.mark.slow
@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
def test_alone_as_in_a_batch(x64):
    """`allocate` pads clusters to N and a batch to the bucket: two programs, and one portfolio."""
    returns = ja.datasets.synthetic_market().to_numpy()
    with jax.enable_x64(x64):
        alone = jax.tree.map(np.asarray, ja.allocate(returns))
        batch = ja.allocate_batch(returns, None, np.ones((1, len(returns))))
    np.testing.assert_array_equal(alone.cluster_labels, batch.cluster_labels[0])
    np.testing.assert_array_equal(alone.aggressors, batch.aggressors[0])
    np.testing.assert_array_equal(alone.lead_assets, batch.lead_assets[0])
    np.testing.assert_allclose(alone.weights, batch.weights[0], atol=1e-10 if x64 else 1e-3)
    np.testing.assert_allclose(alone.weights.sum(axis=1), 1, atol=1e-12 if x64 else 1e-6)
    assert alone.aggressors.sum() == 5
    assert alone.weights[3][alone.aggressors].sum() == pytest.approx(0.1)
