# %% [markdown]
# # A first allocation
# The embedded market holds the same coins on several venues, stocks of several sectors, bonds, currencies and metals.
# Fifty tickers of one thing should not get fifty votes: see what the clusters make of them.

# %%
import jax
import pandas as pd

import jaxalloc as ja
from jaxalloc.portfolios.tables import asset_table, cluster_table

market = ja.datasets.synthetic_market(n_assets=20)
described = ja.datasets.describe_market(n_assets=20)
config = ja.AllocationConfig()

# %% [markdown]
# JAX computes in float32 unless its x64 mode is on.

# %%
with jax.enable_x64(True):
    result = ja.allocate(market, config)

# %% [markdown]
# The clusters, and the lead asset of each. Venues of one coin share a cluster, and a cluster's weight does not grow
# with its number of tickers. Look at the risk contributions: in risk parity every cluster below its cap brings the
# same, whatever its weight.

# %%
print(cluster_table(result, "risk_parity", config, list(market.columns)).to_string(index=False))

# %% [markdown]
# By asset class, which nobody told the engine.

# %%
assets = asset_table(result, "risk_parity", config, list(market.columns))
by_class = (
    assets.assign(asset_class=assets["symbol"].map(described["asset_class"])).groupby("asset_class")["weight"].sum()
)
print(by_class.round(3).to_string())

# %% [markdown]
# The four profiles side by side: the barbell's sleeve are the five assets that hold 2 % each.

# %%
weights = result.to_frame()[list(config.profiles)]  # without the status of those that have one
with pd.option_context("display.width", 120):
    print(weights.round(3))
