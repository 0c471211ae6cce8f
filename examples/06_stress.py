# %% [markdown]
# # Stress
# What would the portfolio do if volatility rose by half, if everything fell together, if one market broke? And what
# would a portfolio made for that day look like?

# %%
import numpy as np
import pandas as pd

import jaxalloc as ja

market = ja.datasets.synthetic_market(n_assets=20)
classes = ja.datasets.describe_market(n_assets=20)["asset_class"]
config = ja.AllocationConfig(profiles=("risk_parity",))

# %% [markdown]
# Four scenarios. A correlation of 0.7 moves every correlation 70 % of its way to one. Volatility and mean take one
# number a scenario, or one an asset: in the last scenario coins alone are three times as volatile and lose half in a
# year.

# %%
names = ["calm", "volatile", "all together", "coins break"]
coins = (classes == "crypto").to_numpy()
volatility, mean = np.ones((4, 20)), np.zeros((4, 20))
volatility[1:3] = 1.5
volatility[3, coins] = 3
mean[2], mean[3, coins] = -0.1, -0.5
correlation = np.array([0, 0, 0.7, 0])
stress = ja.Stress(volatility=volatility, correlation=correlation, mean=mean, names=names)
study = ja.run_study(market, stress, config)

# %% [markdown]
# Two portfolios in each scenario: the calm one, held through, and the one that knows of the scenario. Look at what
# holding costs, and at the turnover that would have saved it. Where all rise alike (volatile), nothing is to be
# changed; where all fall together, clusters merge and little is left to spread over.

# %%
rows = []
weights = study.weights("risk_parity").to_numpy()
table = study.universes().set_index("universe")
for j in range(4):
    sigma = market.std().to_numpy() * np.sqrt(252) * volatility[j]
    moved = (1 - correlation[j]) * market.corr().to_numpy() + correlation[j]
    covariance = sigma[:, None] * moved * sigma[None, :]
    held = np.sqrt(weights[0] @ covariance @ weights[0])
    rows.append((held, table.at[j, "volatility"], table.at[j, "turnover"], table.at[j, "n_clusters"]))
print(pd.DataFrame(rows, names, ["held", "reallocated", "turnover", "clusters"]).round(3).to_string())

# %% [markdown]
# Where the weight goes.

# %%
by_class = study.weights("risk_parity").T.groupby(classes).sum().set_axis(names, axis=1)
print(by_class.round(3).to_string())

# %% [markdown]
# And what the settings could not keep: bits of the status, and what they say.

# %%
for name, status in zip(names, table["status"], strict=True):
    print(f"{name}:", *ja.explain(status) or ["nothing to report"])
