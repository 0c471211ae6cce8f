# %% [markdown]
# # Clusters that mean something
# Single stocks move with the market, and hardly differ in how far they are from each other. A cut of their tree then
# leaves nearly all of them alone, or nearly all in one cluster. Take the market out, and let the silhouette say into
# how many clusters to cut.

# %%
import os

import numpy as np
import pandas as pd

import jaxalloc as ja

n_resamples = int(os.environ.get("JAXALLOC_EXAMPLE_UNIVERSES", "100"))

# %% [markdown]
# Thirty stocks of six sectors, made up: the market is most of what they do, the sector a little, the rest their own.

# %%
rng = np.random.default_rng(0)
sectors = ["BANK", "OIL", "CHIP", "DRUG", "SHOP", "POWER"]
market, sector, own = rng.normal(size=(504, 1)), rng.normal(size=(504, 6)), rng.normal(size=(504, 30))
returns = 0.0006 + 0.01 * (1.2 * market + 0.5 * np.repeat(sector, 5, axis=1) + own)
names = [f"{name}.{k}" for name in sectors for k in range(1, 6)]
stocks = pd.DataFrame(returns, columns=names, index=pd.bdate_range("2023-01-02", periods=504))

# %% [markdown]
# The default cut leaves nearly all of them alone.

# %%
plain = ja.allocate(ja.read_returns(stocks))
print(f"default cut: {plain.n_clusters} clusters of {len(names)} stocks")

# %% [markdown]
# Every cut is judged: how far its clusters are apart for their width, and how well resamples of the data agree with it.

# %%
choice = ja.cluster_choice(stocks, sampler=ja.Bootstrap(n=n_resamples))
print(choice)
for group in choice.groups:
    print("  " + ", ".join(group))
print(choice.table.loc[choice.clusters - 2 : choice.clusters + 2].round(2).to_string())

# %% [markdown]
# The settings that make these clusters, in a study. It says which profile to hold, or that they cannot be told apart.

# %%
study = ja.run_study(stocks, ja.Bootstrap(n=n_resamples), choice.config)
print(study.comparison().round(3).to_string())
print(study.recommendation().why)
