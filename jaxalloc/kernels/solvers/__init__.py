"""Weights across clusters: minimum variance, maximum Sharpe ratio, risk parity."""
