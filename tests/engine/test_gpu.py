"""On an accelerator: the same answers as on the CPU, and the same bits whatever a universe's company."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxalloc as ja
from jaxalloc.engine.scheduler import Engine

pytestmark = pytest.mark.gpu
N_ASSETS, ROWS = 100, 252  # a job of the benchmarks: what they compile, a persistent cache has for these tests


@pytest.fixture(scope="module")
def accelerator():
    if jax.default_backend() == "cpu":
        pytest.skip("JAX sees no accelerator")
    return jax.devices()[0]


@pytest.fixture(scope="module")
def universes():
    returns = ja.datasets.synthetic_market(N_ASSETS, ROWS).to_numpy()
    rng = np.random.default_rng(0)
    return returns, rng.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=200)


@pytest.mark.parametrize(("x64", "tolerance"), [(True, 1e-9), (False, 2e-3)])
def test_agrees_with_the_cpu(accelerator, universes, x64, tolerance):
    returns, counts = universes
    with jax.enable_x64(x64):
        here = ja.allocate_batch(returns, None, counts)
        with jax.default_device(jax.devices("cpu")[0]):
            there = ja.allocate_batch(returns, None, counts)
    same = np.all(here.cluster_labels == there.cluster_labels, axis=1)
    assert same.mean() >= (1.0 if x64 else 0.99)
    np.testing.assert_allclose(here.weights[same], there.weights[same], atol=tolerance)
    assert not np.any(here.status & ja.Status.NOT_CONVERGED)


def test_same_bits_whatever_the_company(accelerator, universes):
    returns, counts = universes
    whole = ja.allocate_batch(returns, None, counts)
    part = ja.allocate_batch(returns, None, counts[::-1][:70], chunk_size=64)
    for mine, other in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_array_equal(mine[::-1][:70], other)


def test_studies_are_stored_and_chunked_alike(accelerator, tmp_path):
    market = ja.datasets.synthetic_market(N_ASSETS, ROWS)
    with jax.enable_x64(True):
        block = Engine((ROWS, N_ASSETS), ja.AllocationConfig(), panel=market.to_numpy()).sizes.group
    sampler = ja.Bootstrap(2 * block + 188, "circular", 21)
    whole = ja.run_study(market, sampler, out=tmp_path / "study")
    assert whole.record["device"].startswith(accelerator.platform)
    stored, chunks = ja.load_study(tmp_path / "study"), ja.run_study(market, sampler, chunk_size=block)
    for other in (stored, chunks):
        for profile in whole.profiles:
            assert other.weights(profile).equals(whole.weights(profile))
        assert other.summary().equals(whole.summary())
        assert other.profile_summary().equals(whole.profile_summary())
    thin = ja.run_study(market, sampler, keep="summary", chunk_size=block)
    assert thin.summary().equals(whole.summary())
