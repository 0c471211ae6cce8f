"""A study or a walk-forward on one page: HTML that holds all it needs, read without a network, by day and by night."""
