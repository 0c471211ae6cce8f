# %% [markdown]
# # A portfolio that hangs on no single stretch of data
# Maximum Sharpe on one sample puts everything on what happened to do well in it. Bagging allocates many resamples of
# the same rows, and holds the mean of their portfolios. What only some of them would hold shrinks.

# %%
import os

import jaxalloc as ja

n_resamples = int(os.environ.get("JAXALLOC_EXAMPLE_UNIVERSES", "200"))
market = ja.datasets.synthetic_market(n_assets=20)
config = ja.AllocationConfig(profiles=("max_sharpe", "risk_parity"))
month = ja.Bootstrap(n_resamples, "circular", block_length=21)
bagged = ja.allocate_bagged(market, config, month, seed=0)
print(bagged)

# %% [markdown]
# The weights, beside those that the data decide on once. A standard error says how far a weight moves from one resample
# to the next.

# %%
table = bagged.to_frame()["max_sharpe"]
print((100 * table.sort_values("weight", ascending=False).head(10)).round(1))
held = (table[["weight", "own"]] > 0.001).sum()
print(f"held: {held['weight']} of 20 with bagging, {held['own']} without")

# %%
bagged.plot("bagged_weights", "max_sharpe", top=15)

# %% [markdown]
# Risk parity hangs on the covariances alone, which a resample moves far less: there is little to gain.

# %%
print((100 * bagged.to_frame()["risk_parity"].sort_values("weight", ascending=False).head(5)).round(1))

# %% [markdown]
# Does it help on rows that no decision saw? A walk-forward bags every window. The same seed draws the same resamples.

# %%
few = ja.Bootstrap(max(2, n_resamples // 10), "circular", block_length=21)
for bagging in (None, few):
    walk = ja.walk_forward(market, config, window=252, step=63, bagging=bagging, costs_bps=10)
    print("bagged" if bagging else "plain")
    print(walk.summary()[["volatility", "sharpe", "turnover"]].round(3))
