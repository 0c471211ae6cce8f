"""What thousands of universes come to: totals, tables, and the folder that holds them."""
