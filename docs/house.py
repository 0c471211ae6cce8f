"""An extension of griffe, which reads the package for mkdocstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe


class House(griffe.Extension):
    """Adapts what griffe reads to the conventions of the package."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section Example of a docstring to Examples, its name in Google's style."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Remove the private fields of records from their signatures."""
        modules = [pkg]
        while modules:
            module = modules.pop()
            modules += [inner for inner in module.modules.values() if not inner.is_alias]
            for record in module.classes.values():
                start = None if record.is_alias else record.members.get("__init__")
                if isinstance(start, griffe.Function):
                    public = [parameter for parameter in start.parameters if not parameter.name.startswith("_")]
                    start.parameters = griffe.Parameters(*public)
