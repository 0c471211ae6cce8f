"""The error that jaxalloc raises on purpose."""


class InputError(ValueError):
    """The input is at fault. The message is one line: what, where, and what to do. The CLI's exit status is 2."""
