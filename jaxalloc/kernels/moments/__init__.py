"""Means, covariances and tails of one universe."""
