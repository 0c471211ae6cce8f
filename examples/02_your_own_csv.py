# %% [markdown]
# # Your own CSV
# A file of prices, dates down and symbols across, is all it takes. Here the embedded market plays your file: its
# returns become prices, with the two flaws that files of prices have, and are written to a temporary folder.

# %%
import tempfile
from pathlib import Path

import jax
import numpy as np

import jaxalloc as ja
from jaxalloc.portfolios.tables import cluster_table

returns = ja.datasets.synthetic_market(n_assets=16, n_observations=504)
prices = (100 * (1 + returns).cumprod()).round(4)
prices.iloc[100, 3] = np.nan  # a price that is missing ...
prices.iloc[:300, 15] = np.nan  # ... and an asset that was listed later

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "prices.csv"
prices.to_csv(path)
print(path.read_text().splitlines()[0][:60], "...")

# %% [markdown]
# The reader tells prices from returns by itself. Gaps are an error that names the symbols and what kind of gaps they
# are, until you say what is to become of them.

# %%
try:
    ja.read_returns(path)
except ja.InputError as error:
    print(error)

# %% [markdown]
# `drop-assets` leaves out what lacks more than 5 % of its returns, then the rows that the others lack. The notes say
# what was done to the data: read them before the weights.

# %%
panel = ja.read_returns(path, missing="drop-assets")
print(*panel.notes, sep="\n")
print(
    f"{panel.n_observations} days of {panel.n_assets} assets, {panel.dates[0]:%d %b %Y} to {panel.dates[-1]:%d %b %Y}"
)

# %% [markdown]
# The allocation, with at most 20 % in one cluster in place of the default's 25 %. Look at the first two clusters: the
# one at its cap brings less risk than the others, which all bring the same.

# %%
config = ja.AllocationConfig(profiles=("risk_parity",), cluster_cap=0.2)
with jax.enable_x64(True):
    result = ja.allocate(panel.values, config)
print(cluster_table(result, "risk_parity", config, panel.symbols).round(3).to_string(index=False))
print("remarks:", ja.explain(result.status[0]) or "none")

# %% [markdown]
# Back to a file, one column a profile.

# %%
weights = result.to_frame(panel.symbols, config.profiles)
weights.to_csv(path.with_name("weights.csv"))
print(weights.sort_values("risk_parity", ascending=False).head(5).round(3))
folder.cleanup()
