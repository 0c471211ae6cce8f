"""What the figures share: Plotly where it is installed, colours for light and dark pages, and harmless labels."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal
from jaxalloc.settings.config import PROFILE_NAMES

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.studies.study import Study

# One a profile, in the order of the registry. They are mid-tones, which stand out from white and from near-black, and
# neighbours differ without red against green.
_COLOURS = (
    *("#2f7fd6", "#d9772b", "#2a9d74", "#a267d6"),
    *("#8f7a5a", "#c2a21f", "#4aa8c0", "#c95b8b", "#6d78c9", "#7fa33a", "#b5543c", "#3f8f8f", "#b48ad0", "#5f7f9f"),
)
_PROFILE_COLOURS: dict[str, str] = dict(zip(PROFILE_NAMES, itertools.cycle(_COLOURS), strict=False))
ACCENT = "#2f7fd6"
MUTED = "#8a94a3"

_MODES: dict[str, dict[str, Any]] = {
    "light": {
        "text": "#1d2330",
        "grid": "#e3e7ec",
        "line": "#b7bec9",
        "box": "#ffffff",
        "sequential": ["#f3f6fa", "#b9d5f0", "#6aa6de", "#2a6fb8", "#0b3a70"],
        "diverging": ["#0b4f9e", "#6aa6de", "#f4f4f2", "#e8945a", "#a63603"],
    },
    "dark": {
        "text": "#e4e8ee",
        "grid": "#2c333d",
        "line": "#4a5462",
        "box": "#1f252d",
        "sequential": ["#1b2129", "#1c3d63", "#2566ab", "#3f8fe0", "#8fc4fa"],
        "diverging": ["#8cc0ff", "#2f6fb8", "#20262e", "#c2612a", "#ffb27d"],
    },
}


def graph_objects() -> Any:
    """Return `plotly.graph_objects`.

    Raises:
        InputError: Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise InputError("figures and reports need the package plotly: pip install 'jaxalloc[report]'") from None
    return go


def template(mode: str) -> dict[str, Any]:
    """Return Plotly's template for ``"light"`` or ``"dark"`` pages: every colour that depends on the background."""
    colours = _MODES[mode]
    axis = {
        "gridcolor": colours["grid"],
        "linecolor": colours["line"],
        "zerolinecolor": colours["line"],
        "zerolinewidth": 1,
        "ticks": "",
        "automargin": True,
        "ticklabelstandoff": 4,
        "title": {"standoff": 10},
    }
    sequential = _scale(colours["sequential"])
    return {
        "layout": {
            "autotypenumbers": "strict",
            "font": {"color": colours["text"], "size": 12, "family": "system-ui, sans-serif"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
            "hoverlabel": {
                "align": "left",
                "bgcolor": colours["box"],
                "bordercolor": colours["line"],
                "font": {"color": colours["text"]},
            },
            "xaxis": axis,
            "yaxis": axis,
            "colorway": list(_COLOURS),
            "colorscale": {
                "sequential": sequential,
                "sequentialminus": _scale(colours["sequential"][::-1]),
                "diverging": _scale(colours["diverging"]),
            },
            "shapedefaults": {"line": {"color": colours["text"]}},
            "annotationdefaults": {"font": {"color": colours["text"]}},
        }
    }


def _scale(colours: Sequence[str]) -> list[list[Any]]:
    return [[k / (len(colours) - 1), colour] for k, colour in enumerate(colours)]


def canvas(height: int, **layout: Any) -> go.Figure:
    """Return an empty figure, ``height`` pixels high."""
    figure = graph_objects().Figure()
    style(figure, height, **layout)
    return figure


def style(figure: go.Figure, height: int, **layout: Any) -> None:
    """Give a figure its height, narrow margins and the light template."""
    figure.update_layout(
        template=template("light"),
        height=height,
        margin={"l": 8, "r": 12, "t": 12, "b": 8},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )
    figure.update_layout(**layout)


def colour_of(profile: str) -> str:
    """Return the profile's colour."""
    return _PROFILE_COLOURS.get(profile, ACCENT)


def faded(colour: str, opacity: float) -> str:
    """Return a colour ``#rrggbb`` with an opacity of 0 to 1."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def label(symbol: object, longest: int | None = None) -> str:
    """Return a user's text, escaped because Plotly reads some HTML as markup, and cut to ``longest`` characters."""
    text = "".join(c if c.isprintable() else " " for c in str(symbol))
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return html.escape(text, quote=False)


def point_of(study: Study, at: int | None) -> int:
    """Return the number of the point that a figure shows.

    Raises:
        InputError: the study has no such point.
    """
    number = study.settings.home if at is None else at
    study.estimate(number)
    return number


def check_profile(study: Study, profile: str) -> int:
    """Return the profile's position; raise `InputError` if the study has none of that name."""
    if profile not in study.profiles:
        raise InputError(f"the study has no profile {literal(profile)}; it has {', '.join(study.profiles)}")
    return study.profiles.index(profile)
