"""How universes are drawn from a panel."""
