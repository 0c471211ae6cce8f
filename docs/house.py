"""What griffe, which reads the package for mkdocstrings, is told about it."""

from __future__ import annotations

import re
from typing import Any

import griffe


class House(griffe.Extension):
    """The habits of the package that griffe does not know."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename a docstring's section Example, as the package calls it, to Examples, as Google's style does."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Leave the private fields of records out of their signatures."""
        modules = [pkg]
        while modules:
            module = modules.pop()
            modules += [inner for inner in module.modules.values() if not inner.is_alias]
            for record in module.classes.values():
                start = None if record.is_alias else record.members.get("__init__")
                if isinstance(start, griffe.Function):
                    public = [parameter for parameter in start.parameters if not parameter.name.startswith("_")]
                    start.parameters = griffe.Parameters(*public)
