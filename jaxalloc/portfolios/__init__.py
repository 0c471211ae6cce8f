"""One universe, within its clusters and across them: from returns to the portfolios of every profile."""
