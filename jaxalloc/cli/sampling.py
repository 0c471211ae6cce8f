"""The options that say how universes are drawn, and the sampler that they make."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Literal

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote
from jaxalloc.cli.options import MaxMissing
from jaxalloc.markets.holes import MAX_MISSING
from jaxalloc.markets.periods import CALENDAR
from jaxalloc.studies.run import run_study
from jaxalloc.universes.bootstrap import Bootstrap, Method
from jaxalloc.universes.samplers import Product, RandomSubsets, RollingWindows, Sampler
from jaxalloc.universes.scenarios import Distribution, Parametric, Stress

_PANEL = "Universes"
_SEED = inspect.signature(run_study).parameters["seed"].default
_NO_STRESS: dict[str, Any] = {name: getattr(Stress, name) for name in ("volatility", "correlation", "mean")}
DRAWS = 1000  # where nothing says how many
PERIODS = "week, month-end, quarter-end or year-end"


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How universes are drawn. An option that is not given is None."""

    n: Annotated[
        int | None,
        typer.Option("--n", metavar="COUNT", help="Number of resamples or of simulations.", rich_help_panel=_PANEL),
    ] = None
    method: Annotated[
        Method | None,
        typer.Option(
            metavar="NAME",
            help="Bootstrap: draw rows one by one (iid, the default), or in blocks (circular, stationary or moving).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    block: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS",
            help="Length of a block, such as 21 for a month of days; the mean length with stationary. auto: chosen by "
            "the rule of Politis and White.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    simulate: Annotated[
        Distribution | None,
        typer.Option(
            metavar="NAME",
            help="Simulate returns with the file's means and covariances instead of resampling: gaussian or student_t.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    degrees_of_freedom: Annotated[
        float | None,
        typer.Option(
            metavar="NU",
            help=f"Degrees of freedom of --simulate student_t, above 2. By default {Parametric.degrees_of_freedom:g}.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    window: Annotated[
        int | None,
        typer.Option(
            metavar="ROWS",
            help="Draw rolling windows of ROWS rows; with --n, the windows of each resample.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    step: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS|PERIOD",
            help=f"Rows from one window to the next, by default a month of rows; or {PERIODS}: a window ends on the "
            "last row of each.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    expanding: Annotated[
        bool, typer.Option("--expanding", help="Let every window begin at the first row.", rich_help_panel=_PANEL)
    ] = False
    subset: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE", help="Draw a random subset of SIZE assets for each universe.", rich_help_panel=_PANEL
        ),
    ] = None
    stress: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCENARIO",
            help="Stress every universe, for example by volatility=2,mean=-0.1. volatility multiplies the "
            "volatilities, correlation moves correlations by a fraction of their way to 1, mean shifts the annual mean "
            "returns. Repeat the option for several scenarios; volatility=1 is the scenario without stress.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            metavar="NUMBER", help="Seed of the draws; the same seed draws the same universes.", rich_help_panel=_PANEL
        ),
    ] = _SEED

    max_missing: MaxMissing = MAX_MISSING

    def sampler(self, resample: bool) -> Product:
        """Return the sampler that the options make.

        Args:
            resample: whether to draw a bootstrap where no option asks for another way.

        Raises:
            InputError: options contradict each other, or cannot be read.
        """
        n = self.n
        if n is None and (self.simulate or (resample and self.window is None)):
            n = DRAWS
        self._check_fit(n)
        parts: list[Sampler] = []
        if self.simulate:
            freedom = Parametric.degrees_of_freedom if self.degrees_of_freedom is None else self.degrees_of_freedom
            parts.append(Parametric(n, distribution=self.simulate, degrees_of_freedom=freedom))
        elif n is not None:
            method = self.method or Bootstrap.method
            parts.append(Bootstrap(n, method=method, block_length=block_length(self.block)))
        if self.window is not None:
            parts.append(RollingWindows(self.window, step=step_of(self.step), expanding=self.expanding))
        if self.subset is not None:
            parts.append(RandomSubsets(self.subset))
        if self.stress:
            parts.append(_stress(self.stress))
        return Product(tuple(parts))

    def _check_fit(self, n: int | None) -> None:
        for flag, value in (("--method", self.method), ("--block", self.block)):
            if value is not None and self.simulate:
                raise InputError(f"{flag} is about resamples, which --simulate replaces: leave one of them out")
            if value is not None and n is None:
                raise InputError(f"{flag} is about resamples: give --n, how many")
        for flag, given in (("--step", self.step is not None), ("--expanding", self.expanding)):
            if given and self.window is None:
                raise InputError(f"{flag} is about rolling windows: give --window, their rows")
        if self.degrees_of_freedom is not None and self.simulate != "student_t":
            raise InputError("--degrees-of-freedom is about the t distribution: say --simulate student_t")
        if self.subset is not None and n is None and self.window is None:
            raise InputError("--subset draws assets for each universe: give --n, how many")


def step_of(text: str | None) -> int | str | None:
    """Read a step: a number of rows, or a word of the calendar; None where there is none."""
    if text is None or text in CALENDAR:
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--step {quote(text)}: give a number of rows, or one of {', '.join(CALENDAR)}") from None


def block_length(text: str | None, flag: str = "--block") -> float | Literal["auto"] | None:
    """Read the rows of a block, given by the option ``flag``: a number, an int where it is whole, or "auto"."""
    if text is None or text == "auto":
        return None if text is None else "auto"
    try:
        number = float(text)
    except ValueError:
        raise InputError(f"{flag} {quote(text)}: give a number of rows, or auto") from None
    return int(number) if number.is_integer() else number


def _stress(texts: list[str]) -> Stress:
    scenarios = [_NO_STRESS | _scenario(text) for text in texts]
    values: dict[str, Any] = {name: tuple(scenario[name] for scenario in scenarios) for name in _NO_STRESS}
    return Stress(**values)


def _scenario(text: str) -> dict[str, float]:
    """Read ``volatility=1.5,correlation=0.5``."""
    numbers: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise InputError(f"--stress {quote(text)}: write it as volatility=1.5,correlation=0.5,mean=-0.1")
        if name not in _NO_STRESS:
            raise InputError(f"--stress {quote(text)}: there is no {quote(name)}; choose from {', '.join(_NO_STRESS)}")
        if name in numbers:
            raise InputError(f"--stress {quote(text)}: it names {name} twice")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise InputError(f"--stress {quote(text)}: {quote(value)} is not a number") from None
    return numbers
