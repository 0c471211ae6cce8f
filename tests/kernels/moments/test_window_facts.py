"""What the host finds out about windows of a panel, against the kernels that see each window's returns alone."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from jaxalloc.kernels.moments.sample import is_constant
from jaxalloc.kernels.moments.tails import sample_tail_gain
from jaxalloc.kernels.moments.windows import facts_of, ranks_of

LENGTH, ASSETS, PADDED, ROWS = 700, 5, 6, 96
FIRST = np.array([0, 3, 100, 250, LENGTH - 60, 400, 500, 600])


def panel(dtype: Any) -> np.ndarray:
    """Returns with ties, a column that stands still for a while, and missing values."""
    x = np.random.default_rng(0).standard_t(3, (LENGTH, ASSETS)) * 0.01
    x[:, 1] = np.round(x[:, 1], 2)
    x[90:220, 2] = 0.003
    x[5, 3] = np.nan
    return x.astype(dtype)


def weights(kind: str, dtype: Any) -> np.ndarray:
    rng = np.random.default_rng(1)
    c = {
        "ones": np.ones((len(FIRST), ROWS)),
        "counts": rng.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=len(FIRST)),
        "fractions": rng.uniform(0, 2, (len(FIRST), ROWS)) * (rng.uniform(size=(len(FIRST), ROWS)) < 0.7),
        "few": np.tile(np.arange(ROWS) % 40 == 7, (len(FIRST), 1)),
    }[kind].astype(dtype)
    c[FIRST[:, None] + np.arange(ROWS) >= LENGTH] = 0
    c[-1] = 0
    return c


@pytest.mark.parametrize("kind", ["ones", "counts", "fractions", "few"])
def test_tails_of_windows_are_those_of_their_rows_alone(kind: str, x64: Any) -> None:
    x, c = panel(np.float64), weights(kind, np.float64)
    facts = facts_of(ranks_of(x), FIRST, c, PADDED)
    filled = np.vstack([np.where(np.isnan(x), 0, x), np.zeros((ROWS, ASSETS))])
    own = np.stack([filled[first : first + ROWS] for first in FIRST])
    tail = jax.vmap(lambda x, c: sample_tail_gain(x, c, np.ones(ASSETS, bool)))(own, c)
    np.testing.assert_allclose(facts.tail.mean[:, :ASSETS], tail.mean, rtol=1e-13, atol=0)
    np.testing.assert_array_equal(facts.tail.exists[:, :ASSETS], tail.exists)
    constant = jax.vmap(is_constant)(own, c > 0)
    np.testing.assert_array_equal(facts.constant[:, :ASSETS], constant)
    assert facts.constant[2, 2]
    assert not facts.constant[0, :ASSETS].any() or kind == "few"
    assert facts.constant[:, ASSETS:].all()
    assert not facts.tail.exists[:, ASSETS:].any()


def test_a_window_has_the_same_bits_whatever_its_neighbours() -> None:
    x, c = panel(np.float32), weights("fractions", np.float32)
    c[1] *= 1e-3  # needs more rows from the top than the others
    c[1, 0] = 5
    ranks = ranks_of(x)
    together = facts_of(ranks, FIRST, c, PADDED)
    for i in range(len(FIRST)):
        alone = facts_of(ranks, FIRST[i : i + 1], c[i : i + 1], PADDED)
        for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(one[0], many[i])


def test_weights_that_are_no_weights_count_as_none() -> None:
    x, c = panel(np.float64), weights("ones", np.float64)
    bad = c.copy()
    bad[0, :3], c[0, :3] = (np.nan, -1, np.inf), 0
    found, wanted = (facts_of(ranks_of(x), FIRST, each, PADDED) for each in (bad, c))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)
