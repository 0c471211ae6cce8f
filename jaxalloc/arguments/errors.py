"""The errors jaxalloc raises on purpose, one line each."""


class InputError(ValueError):
    """The input is at fault: the message is one line that says what, where, and what to do (CLI exit status 2)."""
