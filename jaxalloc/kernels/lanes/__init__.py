"""Many universes side by side: how a kernel of one universe is batched, and what a device makes of it."""
