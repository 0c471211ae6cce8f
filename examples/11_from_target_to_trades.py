# %% [markdown]
# # From target to trades
# A target asks for many small trades. A band leaves those out that are not worth their cost, and orders are whole lots.

# %%
import jaxalloc as ja

prices = 100 * (1 + ja.datasets.synthetic_market(n_assets=12, n_observations=756)).cumprod()
panel = ja.read_returns(prices, kind="prices")
config = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe"))

# %% [markdown]
# Four bands and two costs: the portfolios are decided once, and held with each of them. The turnover is one-way:
# replacing the whole portfolio is 100 %. A wider band trades less; whether it earns more after costs depends on them.

# %%
walk = ja.walk_forward(panel, config, window=252, step=21, band=[0, 0.005, 0.01, 0.02], costs_bps=[10, 50])
print(walk.summary()[["sharpe", "turnover", "traded", "cost"]].unstack("costs_bps").round(3).to_string())

# %% [markdown]
# What is decided and what is bought are two things: with a band of 2 % most assets keep the weight that they have.

# %%
wide = walk.settings.points.index((0.02, 10))
print(walk.target("max_sharpe", at=wide).round(3).to_string())

# %% [markdown]
# Whole shares for 25,000 at the last prices, some of which is held already. The band is that around what is held.

# %%
held = {"GOV.1": 20, "TECH.1": 15}
placed = walk.orders("max_sharpe", panel.last_prices, capital=25_000, held=held, at=wide)
print(placed)
print(placed.frame[placed.frame["shares"] + placed.frame["held"] > 0].round(3).to_string())
