"""From a covariance to clusters of assets, and to portfolios of each cluster."""
