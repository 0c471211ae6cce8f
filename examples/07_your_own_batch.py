# %% [markdown]
# # A batch of your own
# Where the universes come from your own model, hand them over as one array (B, T, N): B simulated years of T days of N
# assets. On a machine with a GPU and JAX's CUDA wheels this runs there; without, on the CPU. No line changes.

# %%
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxalloc as ja

n_universes = int(os.environ.get("JAXALLOC_EXAMPLE_UNIVERSES", "4096"))
n_days, n_assets, n_groups = 252, 24, 8
device = jax.devices()[0]
print(f"on {device.platform}: {device.device_kind}")

# %% [markdown]
# The model: assets in groups, a market factor that all share, fat tails, and in each year a volatility of its own. The
# array may be JAX's, as here, or NumPy's; the results are NumPy's.

# %%
key_market, key_group, key_own, key_level = jax.random.split(jax.random.key(0), 4)
group = np.arange(n_assets) % n_groups
shape = (n_universes, n_days)
common = jax.random.t(key_market, 5, (*shape, 1))
sector = jax.random.normal(key_group, (*shape, n_groups))[:, :, group]
own = jax.random.normal(key_own, (*shape, n_assets))
level = jnp.exp(0.3 * jax.random.normal(key_level, (n_universes, 1, 1)))
daily = jnp.asarray(0.005 * (1 + np.arange(n_assets) / 8))[None, None, :]
returns = daily * level * (0.4 * common + 0.8 * sector + 0.55 * own)

# %% [markdown]
# A gap in one universe spoils that one and no other.

# %%
returns = returns.at[7, 100, 3].set(jnp.nan)
print(f"{returns.shape} {returns.dtype}, {returns.nbytes / 2**20:.0f} MiB")

# %% [markdown]
# The first call compiles; the second is what a universe costs. This is float32, JAX's default; under
# `jax.enable_x64(True)` the same call computes in float64.

# %%
config = ja.AllocationConfig(profiles=("risk_parity", "min_variance"))
for call in ("first", "second"):
    start = time.perf_counter()
    batch = ja.allocate_batch(returns, config)
    seconds = time.perf_counter() - start
    print(f"{call} call: {seconds:.2f} s, {n_universes / seconds:,.0f} universes a second")

# %% [markdown]
# What came of them. There are eight groups: see how often a year of data finds them.

# %%
valid = (batch.status[:, 0] & ja.Status.INVALID) == 0
print(f"{valid.sum()} of {n_universes} valid; universe 7: {ja.explain(batch.status[7, 0])[0]}")
found, count = np.unique(batch.n_clusters[valid], return_counts=True)
print("clusters found:", dict(zip(found.tolist(), count.tolist(), strict=True)))

# %% [markdown]
# How far a year's portfolio is from the average one, half the sum of absolute differences: min_variance bets on what
# the sample happens to say, risk_parity less.

# %%
kept = batch.weights[valid]
distance = np.abs(kept - kept.mean(axis=0)).sum(axis=2).mean(axis=0) / 2
for profile, value in zip(config.profiles, distance, strict=True):
    print(f"{profile}: {value:.1%}")
