"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import jaxalloc

MODULES = sorted(
    f"jaxalloc.{module.name}"
    for module in pkgutil.iter_modules(jaxalloc.__path__)
    if module.name not in ("__main__", "demo")
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
