"""Allocation: the portfolios of one universe, or of many."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.core import Tracer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, cut, per_cent
from jaxalloc.settings.status import Status


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Allocation:
    """Portfolios of one universe, or of many with a leading batch axis; a JAX pytree whose names are static.

    P profiles in the order of ``config.profiles``, N assets in the order of the returns' columns. Entries by cluster
    are padded to N. Of an `Status.INVALID` universe the numbers are NaN, labels and leads -1, counts 0.

    Attributes:
        weights: (..., P, N) weight of each asset, a fraction; at least 0, sum 1, 0 for an inactive asset.
        cluster_labels: (..., N) int, 0..K-1 in order of each cluster's first asset; -1 for an inactive asset.
        n_clusters: (...) int K.
        cluster_weights: (..., P, N) weight of each cluster, a fraction; 0 past K.
        lead_assets: (..., P, N) int, each cluster's asset of highest weight (in a barbell's sleeve, the aggressor) as a
            column index; -1 past K.
        aggressors: (..., N) bool, the assets of the barbell's sleeve; False if no barbell was asked for.
        antifragility: (..., N) score of each asset, 0 to 2; 0 for an inactive asset.
        volatility: (..., P) annual volatility of the portfolio, a fraction.
        expected_return: (..., P) annual mean return of the portfolio, a fraction.
        risk_contributions: (..., P, N) share of each asset in the variance, sum 1; the weights if there is no variance.
        asset_bound: (..., P) largest weight that an asset may have; in a barbell outside the sleeve, to which no bound
            applies.
        cluster_bound: (..., P) largest weight that a cluster may have, as far as its assets' bounds let it; likewise.
        optimality_gap: (..., P) how far the solution across clusters (the barbell's core) is from optimal, scale-free.
        iterations: (..., P) int, solver iterations: blocks of projected gradient, or sweeps of risk parity.
        status: (..., P) int, bit field of `Status`.
        symbols: tuple of the N assets' names, where the returns had names; else None.
        profiles: tuple of the P profiles' names; None where nobody gave them.
    """

    weights: Any
    cluster_labels: Any
    n_clusters: Any
    cluster_weights: Any
    lead_assets: Any
    aggressors: Any
    antifragility: Any
    volatility: Any
    expected_return: Any
    risk_contributions: Any
    asset_bound: Any
    cluster_bound: Any
    optimality_gap: Any
    iterations: Any
    status: Any
    symbols: Any = None
    profiles: Any = None

    def to_frame(self, assets: Any = None, profiles: tuple[str, ...] | None = None) -> pd.DataFrame:
        """Return the weights as a frame, one column a profile, and the status of profiles where it is not 0.

        Args:
            assets: N names; `symbols` by default, or where there are none the column numbers 0..N-1.
            profiles: P names; `profiles` by default, or where there are none 0..P-1.

        Returns:
            One universe: frame with the index "asset" and the columns "profile". A batch of B: the same below each
            other, B N rows with the index ("universe", "asset"). Weights are fractions, NaN in an invalid universe. A
            profile that has a status other than 0 in any universe has one more column after the weights, named like
            ``risk_parity.status``: the universe's bit field of `Status`, in the row of each of its assets.

        Raises:
            InputError: the names are not as many as the assets or profiles, or there is more than one batch axis.
        """
        frame = weights_frame(self, assets, profiles)
        status = np.asarray(self.status).reshape(-1, frame.shape[1])
        of_rows = np.repeat(status, len(frame) // max(len(status), 1), axis=0)
        flagged = {f"{frame.columns[p]}.status": of_rows[:, p] for p in np.flatnonzero(status.any(axis=0))}
        return frame.assign(**flagged).rename_axis(columns="profile") if flagged else frame

    def __repr__(self) -> str:
        """At most five lines: sizes, profiles, volatilities (medians of a batch) and status."""
        if not _is_concrete(self):
            return f"Allocation(weights={cut(' '.join(repr(self.weights).split()))})"
        table: Any = _overview(self)
        sizes = np.asarray(self.weights).shape
        first = f"Allocation: {counted(sizes[-2], 'profile')}, {counted(sizes[-1], 'asset')}"
        if len(sizes) == 3:
            n_valid = int(valid_universes(self.status).sum()) if sizes[0] else 0
            first += f", {counted(sizes[0], 'universe')}, {n_valid:,} of them valid"
        else:
            first += f" in {counted(int(self.n_clusters), 'cluster')}"
        lines = [first, f"profiles: {', '.join(map(str, table.index))}"]
        lines += [f"volatility: {', '.join(table['volatility'])} a year", f"status: {_flags(self, table.index)}"]
        return "\n".join(map(cut, lines))

    def _repr_html_(self) -> str:
        """A row for each profile; names are escaped."""
        return _overview(self).to_html() if _is_concrete(self) else f"<pre>{html.escape(repr(self))}</pre>"


RESULT_FIELDS = tuple(f.name for f in dataclasses.fields(Allocation) if f.name not in ("symbols", "profiles"))


_UNIVERSE_FIELDS = ("cluster_labels", "n_clusters", "aggressors", "antifragility")


PROFILE_FIELDS = tuple(name for name in RESULT_FIELDS if name not in _UNIVERSE_FIELDS)  # with an axis P


BY_ASSET_FIELDS = (  # whose last axis is N
    *("weights", "cluster_labels", "cluster_weights", "lead_assets", "aggressors", "antifragility"),
    "risk_contributions",
)

jax.tree_util.register_dataclass(Allocation, data_fields=RESULT_FIELDS, meta_fields=("symbols", "profiles"))


def valid_universes(status: np.ndarray) -> np.ndarray:
    """(...) bool from status (..., P): True where the universe has portfolios."""
    return (np.asarray(status)[..., 0] & Status.INVALID.value) == 0


def universe_of(allocation: Allocation, index: int) -> Allocation:
    """Return one universe of a batch of NumPy arrays."""
    return dataclasses.replace(allocation, **{name: getattr(allocation, name)[index] for name in RESULT_FIELDS})


def weights_frame(
    allocation: Allocation, assets: Sequence[Any] | pd.Index | None = None, profiles: Sequence[str] | None = None
) -> pd.DataFrame:
    """Weights as a frame, without the status; see `Allocation.to_frame`."""
    weights = np.asarray(allocation.weights)
    if weights.ndim not in (2, 3):
        raise InputError(f"weights must have shape (P, N) or (B, P, N) to make a frame, not {weights.shape}")
    n_profiles, n_assets = weights.shape[-2:]
    index = _names("asset", "assets", allocation.symbols if assets is None else assets, n_assets)
    columns = _names("profile", "profiles", allocation.profiles if profiles is None else profiles, n_profiles)
    if weights.ndim == 3:
        index = pd.MultiIndex.from_product([range(len(weights)), index], names=["universe", "asset"])
    values = np.swapaxes(weights, -1, -2).reshape(-1, n_profiles)
    return pd.DataFrame(values, index=index, columns=columns)


def _is_concrete(allocation: Allocation) -> bool:
    """Whether there are numbers to show: JAX also makes records of tracers, shapes and axes."""
    arrays = all(isinstance(getattr(allocation, name), np.ndarray | np.generic | jax.Array) for name in RESULT_FIELDS)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(allocation))
    return arrays and not traced and allocation.weights.ndim in (2, 3)


def _flags(allocation: Allocation, profiles: pd.Index) -> str:
    """The bits that are set in any universe, with the profiles that have them, unless all have."""
    flags = np.bitwise_or.reduce(np.asarray(allocation.status).reshape(-1, len(profiles)), axis=0)
    words = []
    for bit in Status:
        those = [str(profile) for profile, value in zip(profiles, flags, strict=True) if int(value) & bit]
        if those:
            words.append(str(bit.name) if len(those) == len(profiles) else f"{bit.name} ({', '.join(those)})")
    return ", ".join(words) or "all well"


def _overview(allocation: Allocation) -> pd.DataFrame:
    """A row of text for each profile: volatility and expected return (medians of a batch), heaviest asset, status."""
    weights = np.asarray(allocation.weights)
    n_profiles, n_assets = weights.shape[-2:]
    valid = valid_universes(allocation.status).reshape(-1)
    symbols = _names("asset", "assets", allocation.symbols, n_assets)
    mean = weights.reshape(-1, n_profiles, n_assets)[valid].mean(axis=0) if valid.any() else None
    columns: dict[str, list[str]] = {}
    for name in ("volatility", "expected_return"):
        numbers = np.asarray(getattr(allocation, name)).reshape(-1, n_profiles)[valid]
        typical = np.median(numbers, axis=0) if valid.any() else np.full(n_profiles, np.nan)
        columns[name.replace("_", " ")] = [per_cent(float(value), 2, "-") for value in typical]
    heaviest = [] if mean is None else mean.argmax(axis=1)
    columns["heaviest asset"] = [
        f"{symbols[i]}, {per_cent(float(mean[p, i]), 1, '-')}" for p, i in enumerate(heaviest) if mean is not None
    ] or ["-"] * n_profiles
    bits = np.bitwise_or.reduce(np.asarray(allocation.status).reshape(-1, n_profiles), axis=0)
    columns["status"] = [", ".join(str(bit.name) for bit in Status if int(flags) & bit) for flags in bits]
    return pd.DataFrame(columns, index=_names("profile", "profiles", allocation.profiles, n_profiles))


def _names(name: str, argument: str, values: Any, count: int) -> pd.Index:
    if values is None:
        return pd.RangeIndex(count, name=name)
    if len(values) != count:
        raise InputError(f"{argument} must hold {count} names, not {len(values)}")
    return pd.Index(values, name=name)
