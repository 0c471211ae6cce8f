"""What a user may choose: settings and grids of them; and the status bits of a result."""
