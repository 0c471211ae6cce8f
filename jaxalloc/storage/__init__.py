"""A folder of files that is whole whenever it is looked at."""
