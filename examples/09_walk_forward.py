# %% [markdown]
# # Does it hold out of sample?
# A portfolio is judged on days that it has not seen: decide on the past year, hold for a month, decide again.

# %%
import os

import jaxalloc as ja

n_paths = int(os.environ.get("JAXALLOC_EXAMPLE_UNIVERSES", "100"))  # fewer to try it out
market = ja.datasets.synthetic_market(n_assets=12, n_observations=756)
config = ja.AllocationConfig(profiles=("equal_weight", "risk_parity", "max_sharpe"))

# %% [markdown]
# The market as it happened, and the same months in other orders. Trading costs 5 basis points.

# %%
paths = ja.Bootstrap(n=n_paths, method="stationary", block_length=21)
walk = ja.walk_forward(market, config, window=252, step=21, costs_bps=5, paths=paths, seed=0)
columns = ["annual_return", "volatility", "sharpe", "max_drawdown", "turnover", "effective_bets"]
print(walk.summary()[columns].round(3).to_string())

# %% [markdown]
# Two years say little: the intervals of the differences, over resamples that all profiles share, are wide for returns
# and Sharpe ratios, and narrow for volatilities. Several profiles were tried, so the best one's Sharpe ratio owes
# something to chance: `deflated_sharpe` is the probability that there is skill all the same.

# %%
print(walk.differences(n=500).round(3).to_string())
print(walk.deflated_sharpe()[["sharpe", "expected_maximum", "deflated_sharpe"]].round(3).to_string())

# %% [markdown]
# On how many of the paths each profile does better than equal weights; and what to trade today for risk parity.

# %%
print(walk.beats("equal_weight")[columns[:4]].round(2).to_string())
print(walk.target("risk_parity").round(3).to_string())
