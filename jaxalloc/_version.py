"""The version, which the build and the records of studies read."""

__version__ = "0.1.0"
