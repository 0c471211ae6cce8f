"""Which of a study's profiles to hold, by stated rules, and the figures that profiles are compared by.

The rules, in order:

1. A profile takes part if the panel's own portfolio exists and its solver converged.
2. Profiles are compared by their Sharpe ratios on the rows that each resample leaves out. One is *above* another if it
   has the higher ratio in at least nine of ten resamples. A profile that is above every other one is recommended.
3. Otherwise those that none is above remain. One of them that has the lower volatility out of bag than each other one,
   in at least nine of ten resamples, is recommended, unless another one's Sharpe ratio is higher in three of four.
4. Otherwise they cannot be told apart, and none is recommended. The one is shown whose weights move least from the
   panel's own to those of the resamples.

Universes that leave no rows out, such as windows and simulated returns, cannot tell how a portfolio does on other data:
of them rule 4 alone is applied.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.words import joined, plain_name
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import MEASURES, UNIVERSE_MEASURE, Measure
from jaxalloc.settings.status import Status
from jaxalloc.studies.measures import measure_estimate

SURE = 0.9  # share of resamples in which a profile must be above another
LIKELY = 0.75  # in which it need only be so for lower risk not to decide against it
FEWEST = 20  # resamples that can tell
_SHARPE, _VOLATILITY = "out_of_bag_sharpe", "out_of_bag_volatility"

# what profiles are compared by; of the measures of universes the panel's own value, or the mean over the universes
LARGEST = (
    Measure("largest_cluster", "Largest cluster", heading="largest cluster", kind="percent", better=-1),
    Measure("largest_asset", "Largest asset", heading="largest asset", kind="percent", better=-1),
)
COMPARED = (
    *(UNIVERSE_MEASURE[name] for name in ("expected_return", "volatility", "sharpe", _SHARPE, _VOLATILITY)),
    *(UNIVERSE_MEASURE[name] for name in ("effective_bets", "turnover")),
    *LARGEST,
)
COMPARED_MEASURE = {measure.name: measure for measure in COMPARED}
OVER_UNIVERSES = (_SHARPE, _VOLATILITY, "turnover")


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """Which profile to hold.

    Attributes:
        profile: the one to hold or, where they cannot be told apart, to look at first; None if none has a portfolio.
        told_apart: whether a rule sets it apart from the others.
        why: the reason, in sentences.
        contenders: the profiles that none of the others is above.
    """

    profile: str | None
    told_apart: bool
    why: str
    contenders: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the profiles of a study are compared by, at one point of its grid.

    Attributes:
        profiles: the P profiles.
        n: the number of universes.
        estimate: the panel's own portfolios.
        summary: their `jaxalloc.Study.profile_summary`.
        columns: returns columns of the universes' tables; None if the study keeps no universes.
    """

    profiles: tuple[str, ...]
    n: int
    estimate: Allocation
    summary: Any
    columns: Callable[..., dict[str, np.ndarray]] | None


def compare(study: Evidence) -> pd.DataFrame:
    """Figures of the profiles side by side.

    Args:
        study: what there is of the study.

    Returns:
        Frame with a row for each measure of `COMPARED` that any profile has (index "measure"), a column a profile. The
        ratios and volatilities out of bag and the turnover are means over the universes, the others the panel's own.
    """
    rows: dict[str, list[float]] = {}
    for measure in COMPARED:
        if measure in LARGEST:
            table = study.estimate.cluster_weights if measure.name == "largest_cluster" else study.estimate.weights
            rows[measure.name] = [float(np.max(weights)) for weights in np.asarray(table)]
        else:
            column = "mean" if measure.name in OVER_UNIVERSES else "point"
            rows[measure.name] = [study.summary.loc[(profile, measure.name), column] for profile in study.profiles]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=pd.Index(study.profiles, name="profile"))
    if study.n < 2:  # its one universe is the panel, or has nothing to be compared with
        frame = frame.drop(index=list(OVER_UNIVERSES))
    return frame.rename_axis("measure").dropna(how="all")


def compare_own(estimate: Allocation, config: AllocationConfig) -> pd.DataFrame:
    """`compare` for the portfolios of one panel, without universes: NumPy arrays without a batch axis."""
    profiles = tuple(config.profiles)
    rows = measure_estimate(estimate, config)
    parts = [pd.DataFrame({"point": row, "mean": np.nan}, index=pd.Index(MEASURES)) for row in rows]
    summary = pd.concat(parts, keys=profiles, names=["profile", "measure"])
    return compare(Evidence(profiles=profiles, n=1, estimate=estimate, summary=summary, columns=None))


def best_of(frame: pd.DataFrame) -> dict[str, str | None]:
    """The profile that is best by each measure of `compare`; None where two show the same, or there is one alone."""
    best: dict[str, str | None] = {}
    row: Any
    for name, row in frame.iterrows():
        measure = COMPARED_MEASURE[str(name)]
        values = (measure.better * row).dropna().sort_values(ascending=False)
        shown = [measure.write(float(row[profile])) for profile in values.index]
        unique = len(shown) > 1 and shown[0] != shown[1]
        best[str(name)] = str(values.index[0]) if unique and measure.better else None
    return best


def recommend(study: Evidence) -> Recommendation:
    """Apply the rules."""
    names = _there(study)
    if not names:
        return Recommendation(profile=None, told_apart=False, why="No profile has a portfolio.", contenders=())
    if len(names) == 1:
        return Recommendation(
            profile=names[0], told_apart=False, why="It is the only profile that was computed.", contenders=tuple(names)
        )
    frame = compare(study)
    if study.n < 2 or _SHARPE not in frame.index:
        return _steadiest(frame, names, "No universe leaves rows out, on which portfolios could be compared")
    ratios = _Paired(study, _SHARPE)
    if ratios.fewest < FEWEST:
        return _steadiest(frame, names, f"Fewer than {FEWEST} resamples leave out enough rows to compare portfolios")
    share = f"{SURE:.0%}".replace("%", " %")
    for name in names:
        others = [other for other in names if other != name]
        if all(ratios.above(name, other) >= SURE for other in others):
            mean = UNIVERSE_MEASURE[_SHARPE].write(float(frame.loc[_SHARPE, name]))
            return Recommendation(
                profile=name,
                told_apart=True,
                why=f"Out of bag its Sharpe ratio, {mean} on average, is above that of each other profile in at least "
                f"{share} of the resamples.",
                contenders=(name,),
            )
    left = [name for name in names if not any(ratios.above(other, name) >= SURE for other in names)]
    behind = [name for name in names if name not in left]
    of_these = "" if not behind else f" ({_named(behind)}: another profile's is above)"
    said = f"The Sharpe ratios out of bag of {_named(left)} cannot be told apart{of_these}"
    risks = _Paired(study, _VOLATILITY)
    for name in left:
        others = [other for other in left if other != name]
        behind_them = any(ratios.above(other, name) >= LIKELY for other in others)
        if not behind_them and all(risks.above(other, name) >= SURE for other in others):
            mean = UNIVERSE_MEASURE[_VOLATILITY].write(float(frame.loc[_VOLATILITY, name]))
            lowest = f"Of these it has the lowest volatility out of bag, {mean}, in at least {share} of the resamples."
            return Recommendation(profile=name, told_apart=True, why=f"{said}. {lowest}", contenders=tuple(left))
    return _steadiest(frame, left, said)


def _there(study: Evidence) -> list[str]:
    """The profiles whose own portfolio exists and was solved."""
    bad = Status.INVALID | Status.NOT_CONVERGED
    statuses = np.asarray(study.estimate.status).tolist()
    return [name for name, status in zip(study.profiles, statuses, strict=True) if not int(status) & bad]


def _named(names: Sequence[str]) -> str:
    return joined(list(map(plain_name, names)))


def _steadiest(frame: pd.DataFrame, names: Sequence[str], said: str) -> Recommendation:
    """Rule 4."""
    if "turnover" not in frame.index:
        why = f"{said}. A study of resamples, or a walk-forward, compares them."
        return Recommendation(profile=names[0], told_apart=False, why=why, contenders=tuple(names))
    steady = str(frame.loc["turnover", list(names)].astype(float).idxmin())
    moved = UNIVERSE_MEASURE["turnover"].write(float(frame.loc["turnover", steady]))
    why = f"{said}. Shown is the profile whose weights move least over the universes: {moved} on average."
    return Recommendation(profile=steady, told_apart=False, why=why, contenders=tuple(names))


class _Paired:
    """How often one profile's measure is above another's, in the same universes.

    A study that keeps summaries only has no pairs. The two are then taken to be independent and normal, which tells
    fewer apart.
    """

    def __init__(self, study: Evidence, measure: str) -> None:
        self._values: dict[str, np.ndarray] | None = None
        self._moments = {name: study.summary.loc[(name, measure)] for name in study.profiles}
        if study.columns is not None:
            columns = study.columns(*(f"{name}.{measure}" for name in study.profiles))
            self._values = {name: columns[f"{name}.{measure}"] for name in study.profiles}
        self.fewest = min(int(row["n_universes"]) for row in self._moments.values())

    def above(self, name: str, other: str) -> float:
        """Share of the universes in which the first profile's measure is above the other's."""
        if self._values is None:
            first, second = self._moments[name], self._moments[other]
            spread = math.hypot(first["std"], second["std"])
            gap = first["mean"] - second["mean"]
            return 0.5 * (1 + math.erf(gap / spread / math.sqrt(2))) if spread > 0 else float(gap > 0)
        difference = self._values[name] - self._values[other]
        difference = difference[np.isfinite(difference)]
        return float(np.mean(difference > 0)) if len(difference) else 0.0
