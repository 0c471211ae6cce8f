"""One universe through both layers: from returns to the portfolios of every profile."""
