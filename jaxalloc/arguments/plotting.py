"""Pictures on demand: a result draws itself without its package knowing that of the figures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BACKEND = "jaxalloc.figures.by_name"  # loaded where first used, as pandas loads its backend for `DataFrame.plot`


class Drawable:
    """A result of which `jaxalloc.figures` has figures; `jaxalloc.figures.by_name` lists them."""

    def plot(self, name: str | None = None, *arguments: Any, **options: Any) -> go.Figure:
        """Draw a figure of `jaxalloc.figures` (extra ``report``).

        Args:
            name: of a function there that takes such a result, as in ``study.plot("weights", "risk_parity")``. By
                default a study draws its ``"boxes"``, a walk-forward its ``"wealth"``, a cross-validation its
                ``"path_boxes"``, a choice of clusters its ``"cuts"``, bagged portfolios their ``"bagged_weights"``, a
                sensitivity its ``"estimates"``.
            arguments: what the function takes after the result.
            options: likewise, by name.

        Raises:
            InputError: there is no such figure, the arguments are not those that it takes, or Plotly is not
                installed.
        """
        return importlib.import_module(_BACKEND).draw(self, name, *arguments, **options)
