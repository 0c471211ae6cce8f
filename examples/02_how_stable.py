# %% [markdown]
# # How stable is it?
# One portfolio is an estimate from one sample. Draw the sample anew, in calm and in a crisis, and see what of the
# portfolio stays.

# %%
import jaxalloc as ja

market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
config = ja.AllocationConfig(profiles=("min_variance", "risk_parity"))

# %% [markdown]
# Sixty resamples of the year in blocks of a month, each in two scenarios: as it is, and with every volatility up by
# half and every correlation half of its way to one. A product of samplers makes every combination; its last factor
# changes fastest.

# %%
scenarios = ja.Stress(volatility=(1.0, 1.5), correlation=(0.0, 0.5), names=("calm", "crisis"))
resamples = ja.Bootstrap(n=60, method="circular", block_length=21)
study = ja.run_study(market, resamples * scenarios, config, seed=0)

# %% [markdown]
# The point estimate, and where each figure of the portfolios lies in 90 % of the universes. Turnover is what it would
# take to get from the estimate to the universe's own portfolio.

# %%
columns = ["point", "mean", "q05", "q95"]
measures = ["volatility", "effective_assets", "turnover"]
print(study.profile_summary().loc[(slice(None), measures), columns].round(3).to_string())

# %% [markdown]
# Universe by universe, the two scenarios apart.

# %%
universes = study.universes()
universes["scenario"] = [("calm", "crisis")[universe % 2] for universe in universes["universe"]]
table = universes.groupby(["profile", "scenario"])[["volatility", "n_clusters", "turnover"]].mean()
print(table.round(3).to_string())

# %% [markdown]
# Which weights can be relied on: those whose spread is small, and assets that lead their cluster nearly always.

# %%
assets = study.summary().loc["risk_parity"].sort_values("mean", ascending=False)
print(assets[["point", "mean", "q05", "q95", "frequency_lead"]].head(8).round(3).to_string())

# %% [markdown]
# And the clusters: how often two assets that the estimate puts in one cluster share one in a universe; for a cluster of
# one asset, how rarely it joins another.

# %%
stability = study.cluster_stability().sort_values("stability")
print(stability.round(2).to_string())

# %% [markdown]
# Would another cut hold better? A sweep allocates the same universes at every point of a grid.

# %%
grid = ja.sweep(config, distance_threshold=[0.3, 0.4])
swept = ja.run_study(market, resamples * scenarios, grid, seed=0, keep="summary")
for point, (threshold,) in enumerate(grid.points):
    mean = swept.cluster_stability(at=point)["stability"].mean()
    turnover = swept.profile_summary(at=point)["mean"]["risk_parity", "turnover"]
    print(f"threshold {threshold}: stability {mean:.2f}, turnover of risk parity {turnover:.1%}")
