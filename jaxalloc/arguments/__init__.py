"""Arguments from callers: how they are checked, and how an error says what is wrong with them."""
