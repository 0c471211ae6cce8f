"""A study's folder on disk, which is complete and valid whenever it is read."""
