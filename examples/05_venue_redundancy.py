# %% [markdown]
# # The same coin five times
# A coin quoted on five venues is one bet with five tickers. An allocation by ticker gives it five votes; clusters give
# it one.

# %%
import jax
import numpy as np
import pandas as pd

import jaxalloc as ja

others = ["TECH.1", "ENRG.1", "FIN.1", "HLTH.1", "GOLD.1", "SILV.1", "ETH.venueA", "DOGE.venueA"]
market = ja.datasets.synthetic_market(n_assets=60)
basis = np.random.default_rng(0).normal(0, 0.001, (len(market), 5))  # venues quote some basis points apart
venues = pd.DataFrame(basis, market.index, [f"BTC.venue{letter}" for letter in "ABCDE"])
venues = venues.add(market["BTC.venueA"], axis=0)
print(f"correlation between venues: at least {venues.corr().to_numpy().min():.3f}")
market = venues.join(market[others])

# %% [markdown]
# Five universes of one panel: the coin on one venue, on two, ..., on five. A mask says which assets take part.

# %%
mask = np.ones((5, market.shape[1]), bool)
mask[:, :5] = np.tri(5, dtype=bool)
config = ja.AllocationConfig(profiles=("risk_parity", "min_variance"), asset_cap=0.25)
with jax.enable_x64(True):
    batch = ja.allocate_batch(market.to_numpy(), config, asset_mask=mask)

# %% [markdown]
# What the coin holds in all, in per cent of the portfolio: by ticker (equal weights, inverse variance), and by cluster.
# Look down each column: the first two grow with every listing, inverse variance nearly in proportion; the last stays
# where it is.

# %%
inverse = np.where(mask, 1 / market.var().to_numpy(), 0)
weights = {
    "equal weights": mask / mask.sum(axis=1, keepdims=True),
    "inverse variance": inverse / inverse.sum(axis=1, keepdims=True),
    "clusters, risk parity": batch.weights[:, 0],
}
coin = pd.DataFrame({name: 100 * w[:, :5].sum(axis=1) for name, w in weights.items()})
coin.index = pd.RangeIndex(1, 6, name="venues")
print(coin.round(2))
print("five venues over one:", (coin.loc[5] / coin.loc[1]).round(2).to_dict())

# %% [markdown]
# And the risk it brings: the coin's share of the portfolio's variance with five listings.

# %%
covariance = market.cov().to_numpy()
for name, w in weights.items():
    held = w[-1]
    share = (held * (covariance @ held))[:5].sum() / (held @ covariance @ held)
    print(f"{name:21} {share:.0%} of the variance")
