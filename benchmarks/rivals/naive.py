"""JAX as one would first write it: one universe in jax.numpy, everything under one vmap.

It does the whole job, in float32 or float64. What is naive is what an engine must not be: the resampled rows are
gathered and `jnp.cov` sees each universe anew; the tree is N - 1 steps of an argmin over all pairs; across clusters,
the problem is padded to N clusters and solved by `jaxopt.ProjectedGradient` at its defaults with
`projection_box_section`. So the accuracy is what those leave: a tolerance of 1e-3 on the projected gradient, plain
Euclidean steps, and a projection whose bisection ends early. Risk parity is the least sum of squared differences of the
contributions' shares under the caps; where a cap binds, that is another portfolio than the engine's. Where no portfolio
has a positive excess return it takes the largest ratio all the same. Cluster weights are scaled to sum 1; an asset over
its bound then loses what is over.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rivals.common import Array, Ints

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its end-of-life notice
    from jaxopt import ProjectedGradient
    from jaxopt.projection import projection_box_section

PERIODS = 252
THRESHOLD = 0.4
CLUSTER_CAP, ASSET_CAP, SLACK = 0.25, 0.2, 1.1
N_AGGRESSORS, AGGRESSOR_WEIGHT = 5, 0.1


def find_clusters(covariance: jax.Array) -> jax.Array:
    """Labels (N,) of average linkage, cut at the threshold."""
    n = len(covariance)
    deviation = jnp.sqrt(jnp.diag(covariance))
    rho = jnp.clip(covariance / jnp.outer(deviation, deviation), -1, 1)
    distance = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, jnp.sqrt((1 - rho) / 2))

    def merge(_: int, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        distance, size, name = state
        i, j = jnp.unravel_index(jnp.argmin(distance), distance.shape)
        near = distance[i, j] <= THRESHOLD
        row = (size[i] * distance[i] + size[j] * distance[j]) / (size[i] + size[j])
        merged = distance.at[i].set(row).at[:, i].set(row).at[i, i].set(jnp.inf)
        merged = merged.at[j].set(jnp.inf).at[:, j].set(jnp.inf)
        return (
            jnp.where(near, merged, distance),
            jnp.where(near, size.at[i].add(size[j]), size),
            jnp.where(near & (name == j), i, name),
        )

    state = (distance, jnp.ones(n, distance.dtype), jnp.arange(n))
    _, _, name = jax.lax.fori_loop(0, n - 1, merge, state)
    return (jnp.cumsum(name == jnp.arange(n)) - 1)[name]


def bounds(sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Bounds on the clusters (0 for an empty one) and on an asset; the latter rises until the former leave slack."""
    kappa = jnp.maximum(CLUSTER_CAP, SLACK / jnp.sum(sizes > 0))
    beta = jnp.maximum(ASSET_CAP, SLACK / jnp.sum(sizes))
    descending = jnp.sort(sizes)[::-1]
    rest = jnp.cumsum(descending[::-1])[::-1]
    raised = (SLACK - jnp.arange(len(sizes)) * kappa) / jnp.where(rest > 0, rest, 1)
    raised = raised[jnp.argmax(raised * descending <= kappa)]
    beta = jnp.where(jnp.minimum(kappa, sizes * beta).sum() < 1, raised, beta)
    return jnp.minimum(kappa, sizes * beta), beta


def solve(objective: Callable[[jax.Array], jax.Array], upper: jax.Array) -> jax.Array:
    """Argmin over 0 <= w <= upper, sum w = 1, by projected gradient at its defaults."""
    solver = ProjectedGradient(objective, projection_box_section)
    box = (jnp.zeros_like(upper), upper, jnp.ones_like(upper), jnp.ones((), upper.dtype))
    w = jnp.clip(solver.run(upper / upper.sum(), hyperparams_proj=box).params, 0, upper)
    return w / w.sum()


def share_out(w: jax.Array, v: jax.Array, membership: jax.Array, beta: jax.Array) -> jax.Array:
    """Asset weights, none above ``beta``: what is over goes to the others of the cluster, in proportion."""
    x = membership @ w * v

    def step(_: int, x: jax.Array) -> jax.Array:
        bounded = x >= beta
        left = w - beta * (membership.T @ bounded)
        free = membership.T @ jnp.where(bounded, 0, v)
        theta = jnp.where(free > 0, left / jnp.where(free > 0, free, 1), 0)
        return jnp.where(bounded, beta, membership @ theta * v)

    return jax.lax.fori_loop(0, 8, step, x)


def minmax(z: jax.Array) -> jax.Array:
    """From 0 to 1; 0 where all are equal."""
    spread = z.max() - z.min()
    return jnp.where(spread > 0, (z - z.min()) / jnp.where(spread > 0, spread, 1), 0)


def antifragility(x: jax.Array) -> jax.Array:
    """Skewness and tail gain of the rows (n, N), each from 0 to 1, added."""
    n = len(x)
    centred = x - x.mean(axis=0)
    skewness = (centred**3).mean(axis=0) / (centred**2).mean(axis=0) ** 1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    above = x > jnp.quantile(x, 0.95, axis=0)
    gain = jnp.where(above, x, 0).sum(axis=0) / jnp.maximum(above.sum(axis=0), 1)
    return minmax(skewness) + minmax(gain)


def universe(panel: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weights (4, N), labels (N,) and lead assets (4, N) of the universe of these rows."""
    x = panel[rows]
    n_assets = x.shape[1]
    covariance, mean = PERIODS * jnp.cov(x, rowvar=False), PERIODS * x.mean(axis=0)
    labels = find_clusters(covariance)
    membership = jax.nn.one_hot(labels, n_assets, dtype=x.dtype)
    inverse = 1 / jnp.diag(covariance)
    v = inverse / (membership.T @ inverse)[labels]
    V = membership * v[:, None]
    S, m = V.T @ covariance @ V, V.T @ mean
    sizes = membership.sum(axis=0)

    def risk_parity(kept: jax.Array) -> Callable[[jax.Array], jax.Array]:
        def objective(w: jax.Array) -> jax.Array:
            shares = w * (S @ w) / (w @ S @ w)
            return jnp.sum(jnp.where(kept, shares - 1 / kept.sum(), 0) ** 2)

        return objective

    upper, beta = bounds(sizes)
    variance = solve(lambda w: w @ S @ w, upper)
    parity = solve(risk_parity(sizes > 0), upper)
    sharpe = solve(lambda w: -(w @ m) / jnp.sqrt(w @ S @ w), upper)

    scores = jnp.where(membership > 0, antifragility(x)[:, None], -jnp.inf)
    n_clusters = jnp.sum(sizes > 0)
    count = jnp.minimum(N_AGGRESSORS, jnp.minimum(jnp.maximum(1, n_clusters - 4), n_clusters - 1))
    chosen = jnp.argsort(-scores.max(axis=0))[:N_AGGRESSORS]
    taken = jnp.arange(len(chosen)) < count
    kept = (sizes > 0).at[chosen].set((sizes > 0)[chosen] & ~taken)
    core_upper, core_beta = bounds(jnp.where(kept, sizes, 0))
    core = jnp.where(kept, solve(risk_parity(kept), core_upper), 0)
    sleeve = jnp.where(count > 0, AGGRESSOR_WEIGHT, 0.0)
    barbell = (1 - sleeve) * share_out(core, v, membership, core_beta)
    best = scores.argmax(axis=0)[chosen]
    barbell = barbell.at[best].add(jnp.where(taken, sleeve / jnp.maximum(count, 1), 0))

    weights = jnp.stack([*(share_out(w, v, membership, beta) for w in (variance, parity, sharpe)), barbell])
    leads = jnp.where(membership > 0, weights[:, :, None], -1).argmax(axis=1)
    return weights, labels, jnp.where(sizes > 0, leads, -1)


class Naive:
    """Naive JAX on its default device; ``n_workers`` is ignored, for XLA uses what there is."""

    def __init__(self, panel: Array, n_workers: int = 1, precision: int = 32, chunk: int = 64) -> None:
        """Compile for batches of ``chunk`` universes."""
        self.x64, self.quantum = precision == 64, chunk
        n_rows = len(panel)
        with self._settings():
            self.panel = jnp.asarray(panel, f"float{precision}")
            self._batch = jax.jit(jax.vmap(partial(universe, self.panel)))
            self._draw = jax.jit(lambda key: jax.random.randint(key, (chunk, n_rows), 0, n_rows, dtype="int32"))
        for _ in self.stream(1, 0):
            pass

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """JAX's, as it comes: whoever calls may be stricter."""
        with jax.enable_x64(self.x64), jax.numpy_rank_promotion("allow"):
            yield

    def stream(self, n: int, seed: int) -> Iterator[tuple[Array, Ints]]:
        """Draw ``n`` universes and allocate; weights and lead assets (b, 4, N) come part by part."""
        for number in range(-(-n // self.quantum)):
            with self._settings():
                key = jax.random.fold_in(jax.random.key(seed), number)
                weights, _, leads = self._batch(self._draw(key))
            left = n - number * self.quantum
            yield np.asarray(weights)[:left], np.asarray(leads)[:left]

    def allocate(self, counts: Array) -> tuple[Array, Ints, Ints]:
        """Weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) by cluster, -1 where there is none."""
        n, chunk = len(counts), self.quantum
        rows = np.stack([np.repeat(np.arange(len(c), dtype=np.int32), c.astype(int)) for c in counts])
        rows = np.resize(rows, (-(-n // chunk) * chunk, rows.shape[1]))  # all chunks have one shape
        with self._settings():
            parts = [self._batch(rows[start : start + chunk]) for start in range(0, n, chunk)]
            weights, labels, leads = (np.concatenate([np.asarray(part[i]) for part in parts])[:n] for i in range(3))
        return weights, labels, leads

    def close(self) -> None:
        """Nothing to stop."""
