# %% [markdown]
# # How stable is it?
# One portfolio is an estimate from one sample. Draw the sample anew ten thousand times and see what of the portfolio
# stays.

# %%
import os

import jaxalloc as ja

n_resamples = int(os.environ.get("JAXALLOC_EXAMPLE_UNIVERSES", "10000"))  # fewer to try it out
market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
config = ja.AllocationConfig(profiles=("min_variance", "risk_parity", "max_sharpe"))

# %% [markdown]
# Resamples of the year in blocks of a month, so that what lasts for days in the data lasts in a resample too.

# %%
resamples = ja.Bootstrap(n=n_resamples, method="circular", block_length=21)
study = ja.run_study(market, resamples, config, seed=0)
print(f"{study.n_valid:,} universes of {len(study.symbols)} assets in {study.record['seconds']:.0f} s")

# %% [markdown]
# The point estimate, and where each figure of the portfolios lies in 90 % of the universes. Turnover is what it would
# take to get from the estimate to the universe's own portfolio: the profile of most turnover is the one that the data
# say least about. Compare `sharpe`, in the resample, with `out_of_bag_sharpe`, on the days that the resample left out:
# the difference is what the optimiser only fitted.

# %%
columns = ["point", "mean", "q05", "q95"]
measures = ["volatility", "sharpe", "out_of_bag_sharpe", "effective_assets", "turnover"]
print(study.profile_summary().loc[(slice(None), measures), columns].round(3).to_string())

# %% [markdown]
# Which weights can be relied on: those whose band from q05 to q95 is narrow, of assets that lead their cluster nearly
# always. Beware of a band without any width: `frequency_binding` near 1 says that the asset's bound made that weight,
# not the data.

# %%
assets = study.summary().loc["risk_parity"].sort_values("mean", ascending=False)
print(assets[["point", "mean", "q05", "q95", "frequency_lead", "frequency_binding"]].head(8).round(3).to_string())

# %% [markdown]
# And the clusters: how often two assets that the estimate puts in one cluster share one in a universe; for a cluster of
# one asset, how rarely it joins another. The least stable come first.

# %%
print(study.cluster_stability().sort_values("stability").round(3).to_string())
