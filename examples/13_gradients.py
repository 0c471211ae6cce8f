# %% [markdown]
# # Derivatives of a portfolio
# `ja.allocate` can be differentiated. Two uses: a setting is tuned by its gradient, over many windows at once; and
# weights get standard errors without a bootstrap. Both compile a program of their own, which takes most of the time.

# %%
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.optimize import minimize

import jaxalloc as ja

jax.config.update("jax_enable_x64", True)
n_resamples = int(os.environ.get("JAXALLOC_EXAMPLE_UNIVERSES", "2000"))

# %% [markdown]
# ## Tuning settings by gradient
# Minimum variance of 24 assets on three weeks of days: far too few for a covariance. Two numbers tame it, how far the
# covariance is drawn towards its diagonal, and the cap on an asset. What is to be low is the volatility over the next
# month, of all windows of the first half of the market.

# %%
n_past, n_next = 15, 21
market = ja.datasets.synthetic_market(n_assets=24, n_observations=1512).to_numpy()
starts = np.arange(0, len(market) - n_past - n_next + 1, n_next)
past = np.stack([market[s : s + n_past] for s in starts])
after = np.stack([market[s + n_past : s + n_past + n_next] for s in starts])
half = len(starts) // 2
first, second = (past[:half], after[:half]), (past[half : 2 * half], after[half : 2 * half])
config = ja.AllocationConfig(profiles=("asset_min_variance",))


def weights(returns, shrinkage, cap):
    """(N,) weights of one window."""
    sample = 252 * jnp.cov(returns.T)
    shrunk = (1 - shrinkage) * sample + shrinkage * jnp.diag(jnp.diagonal(sample))
    return ja.allocate(returns, config.replace(asset_cap=cap), covariance=shrunk).weights[0]


@jax.jit
@jax.value_and_grad
def volatility(numbers, past, after):
    """Annual volatility, in per cent, of portfolios that are decided on one array of windows and held over another."""
    held = jax.vmap(weights, (0, None, None))(past, *numbers)
    earned = jnp.einsum("btn,bn->bt", after, held)
    return 100 * jnp.sqrt(252 * jnp.mean(earned**2))


before = np.array([0.02, 0.2])  # hardly any shrinkage, and the default cap
began = time.perf_counter()
value, gradient = volatility(before, *first)
print(f"volatility {value:.3f} %, gradient {np.round(gradient, 3)}: {time.perf_counter() - began:.0f} s with compiling")

# %% [markdown]
# Is the gradient right? Central differences say the same. Then a quasi-Newton method takes a few steps with it.

# %%
steps = 1e-6 * np.eye(2)
differences = [(volatility(before + s, *first)[0] - volatility(before - s, *first)[0]) / 2e-6 for s in steps]
print("central differences:", np.round(differences, 3))

began = time.perf_counter()
found = minimize(
    lambda numbers: tuple(map(np.asarray, volatility(numbers, *first))),
    before,
    jac=True,
    bounds=[(0, 1), (0.06, 1)],
    options={"maxiter": 15},
)
took = time.perf_counter() - began
print(f"{found.nit} steps, {found.nfev} gradients of {half} windows, {took:.2f} s")
print(f"shrinkage {found.x[0]:.3f}, cap {found.x[1]:.3f}: {value:.3f} % -> {found.fun:.3f} %")

# %% [markdown]
# A grid of the same two numbers, by the same program, has nothing lower.

# %%
shrinkages, caps = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8), (0.08, 0.1, 0.12, 0.14, 0.16, 0.2, 0.3)
grid = [[float(volatility(np.array([s, cap]), *first)[0]) for cap in caps] for s in shrinkages]
table = pd.DataFrame(grid, pd.Index(shrinkages, name="shrinkage"), pd.Index(caps, name="cap"))
print(table.round(3).to_string())
print(f"lowest of {table.size}: {table.to_numpy().min():.3f} %")

# %% [markdown]
# The half of the market that had no say is the test.

# %%
for name, numbers in (("before", before), ("tuned", found.x)):
    print(f"{name}: {volatility(numbers, *first)[0]:.3f} % first half, {volatility(numbers, *second)[0]:.3f} % second")

# %% [markdown]
# ## Standard errors by the delta method
# The derivative of a weight with respect to the observation weight of a row is the influence of that day. The sum of
# squared influences estimates the variance of the weight (the infinitesimal jackknife). A bootstrap of single rows
# estimates the same, with thousands of portfolios.

# %%
frame = ja.datasets.synthetic_market(n_assets=12)
returns = frame.to_numpy()
config = ja.AllocationConfig(profiles=("risk_parity", "asset_risk_parity"))
influence = jax.jit(jax.jacrev(lambda counts: ja.allocate(returns, config, counts).weights))
began = time.perf_counter()
influences = np.asarray(influence(jnp.ones(len(returns))))
delta = np.sqrt((influences**2).sum(axis=2))
print(f"influences {influences.shape}: {time.perf_counter() - began:.0f} s with compiling")

# %%
study = ja.run_study(frame, ja.Bootstrap(n_resamples), config, seed=0)
own = ja.allocate(frame, config).to_frame()
for p, profile in enumerate(config.profiles):
    errors = {"weight": own[profile], "delta": delta[p], "bootstrap": study.weights(profile).std()}
    print(f"{profile}, per cent")
    print((100 * pd.DataFrame(errors)).round(2).to_string())

# %% [markdown]
# The two agree where weights lie between their bounds. An asset at its cap of 20 % has no influence of any day, for a
# small change leaves it there. The high-yield bond (HY.1) of risk parity over assets is the case to look at: in some
# resamples it falls below its cap, which the bootstrap sees and a derivative does not.

# %%
capped = study.weights("asset_risk_parity")["HY.1"]
print(f"HY.1 below its cap in {(capped < 0.2 - 1e-9).mean():.0%} of the resamples, lowest {capped.min():.1%}")
day = np.abs(influences[0, 0]).argmax()
print(f"the day that counts most for {frame.columns[0]} in risk parity: {frame.index[day].date()}")
