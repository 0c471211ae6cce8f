"""The error that jaxalloc raises on purpose, and the warning that it gives."""


class InputError(ValueError):
    """The input is at fault. The message is one line: what, where, and what to do. The CLI's exit status is 2."""


class AllocationWarning(UserWarning):
    """Nothing could be allocated, or an asset was left out. The message names the assets and rows that are at fault."""
