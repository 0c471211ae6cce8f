# %% [markdown]
# # Which cap, which threshold?
# Two settings shape the portfolio most: how much one cluster may hold, and how alike assets must be to share one. A
# sweep allocates the same resamples at every point of a grid, so that points differ by the settings and not by luck.

# %%
import os

import jaxalloc as ja

n_resamples = int(os.environ.get("JAXALLOC_EXAMPLE_UNIVERSES", "500"))
market = ja.datasets.synthetic_market(n_assets=20)
config = ja.AllocationConfig(profiles=("risk_parity",))
grid = ja.sweep(config, cluster_cap=[0.1, 0.15, 0.25, 0.35], distance_threshold=[0.2, 0.3, 0.4, 0.5])

# %% [markdown]
# Numbers are traced: sixteen points are one batch, and compile no more than one does.

# %%
resamples = ja.Bootstrap(n=n_resamples, method="circular", block_length=21)
study = ja.run_study(market, resamples, grid, seed=0, keep="summary")
figures = study.profile_summary()["mean"].unstack("measure").droplevel("profile")

# %% [markdown]
# Volatility on the days that a resample left out, in per cent a year: the honest price of a cap.

# %%
print((100 * figures["out_of_bag_volatility"]).unstack("distance_threshold").round(2))

# %% [markdown]
# Effective number of clusters, 1 / (sum of squared cluster weights): a looser cut joins assets, and there is less to
# spread over.

# %%
print(figures["effective_clusters"].unstack("distance_threshold").round(2))

# %% [markdown]
# Where clusters are so few that the cap cannot hold, it is widened, and the status says so: the share of universes.

# %%
relaxed = study.status_counts()["CLUSTER_CAP_RELAXED"].droplevel("profile") / study.n
print(relaxed.unstack("distance_threshold").round(2))

# %% [markdown]
# How well the clusters of each cut hold together over the resamples, 1 being always. A threshold at which this dips
# cuts through a group of assets.

# %%
for point, (cap, threshold) in enumerate(grid.points):
    if cap == config.cluster_cap:
        stability = study.cluster_stability(at=point)["stability"]
        print(f"threshold {threshold}: {len(stability):2} clusters, stability {stability.mean():.2f}, ", end="")
        print(f"the least stable {stability.min():.2f}")
