"""What may be chosen: settings, grids of them, and the status bits of a result."""
