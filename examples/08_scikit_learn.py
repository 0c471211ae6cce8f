# %% [markdown]
# # Inside scikit-learn and skfolio
# `ja.skfolio.ClusterAllocation` is an estimator: it fits, predicts, and goes wherever skfolio's own optimizers go
# (`pip install 'jaxalloc[skfolio]'`).

# %%
from skfolio import Population, RatioMeasure
from skfolio.metrics import make_scorer
from skfolio.model_selection import WalkForward, cross_val_predict
from skfolio.optimization import EqualWeighted, HierarchicalRiskParity
from sklearn.model_selection import GridSearchCV

import jaxalloc as ja

market = ja.datasets.synthetic_market(n_assets=20)
train, test = market[:504], market[504:]

# %% [markdown]
# Fit on two years, hold over the third.

# %%
model = ja.skfolio.ClusterAllocation(profile="risk_parity", cluster_cap=0.25)
model.fit(train)
print(f"{model.n_clusters_} clusters, led by", ", ".join(model.feature_names_in_[model.lead_assets_]))
portfolio = model.predict(test)
risk, worst = portfolio.annualized_standard_deviation, -portfolio.worst_realization
print(f"third year: volatility {risk:.1%}, worst day {worst:.1%}")

# %% [markdown]
# Walk forward: a year to fit, a month to hold, and again. Every window has as many rows, so one program serves them
# all.

# %%
months = WalkForward(train_size=252, test_size=21)
rivals = {"clusters": model, "hierarchical risk parity": HierarchicalRiskParity(), "equal weights": EqualWeighted()}
population = Population(
    [cross_val_predict(rival, market, cv=months, portfolio_params={"name": name}) for name, rival in rivals.items()]
)

# %% [markdown]
# Out of sample, side by side: look at the risk before the Sharpe ratio, of which 500 days say little.

# %%
measures = ["Annualized Standard Deviation", "CVaR at 95%", "MAX Drawdown", "Annualized Sharpe Ratio"]
print(population.summary().loc[measures].to_string())

# %% [markdown]
# skfolio's figures take it from here; in a notebook `figure.show()`.

# %%
figure = population.plot_cumulative_returns()
print("a figure of", ", ".join(line.name for line in figure.data))

# %% [markdown]
# Which cap would have served best? A grid search over folds in time. Look at how little the scores differ between caps
# against how much they differ between months: that is not a choice the data make for you.

# %%
search = GridSearchCV(
    model, {"cluster_cap": [0.15, 0.2, 0.25, 0.35]}, cv=months, scoring=make_scorer(RatioMeasure.SHARPE_RATIO)
)
search.fit(market)
found = zip(search.cv_results_["param_cluster_cap"], search.cv_results_["mean_test_score"], strict=True)
for cap, score in found:
    print(f"cap {cap:.0%}: mean daily Sharpe ratio {score:.3f}")
print(f"standard deviation of a month's: {search.cv_results_['std_test_score'].mean():.3f}")
