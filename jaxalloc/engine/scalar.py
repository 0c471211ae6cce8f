"""The stages of a CPU's universes that scalar kernels compute: one universe after the other, compiled by numba.

In lanes, as XLA computes, the matrices of many universes are gone through together, and fit no cache once they are
large. Where numba is installed, a CPU's universes are resampled, observed, clustered, solved and described by scalar
kernels, as far as there are such kernels: XLA draws in other ways, observes whatever is shocked or shrunk, finds
clusters of detoned or scored trees, and weighs by formula. What the scalar solvers leave unsolved goes to the lanes.
Which problems those are follows from each universe alone, so that the same bits come out whatever its neighbours.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxalloc.engine.calls import Work
from jaxalloc.engine.drawing import Resampling
from jaxalloc.engine.identity import available_cores
from jaxalloc.engine.solving import Solutions
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.precision import NEGLIGIBLE, jitter, sum_tolerance
from jaxalloc.kernels.solvers.capped_simplex import Bounds
from jaxalloc.kernels.solvers.risk_parity.solve import RISK_PARITY
from jaxalloc.portfolios.barbell import Sleeve
from jaxalloc.portfolios.describing import kinds_of
from jaxalloc.portfolios.estimates import Estimates
from jaxalloc.portfolios.posing import Clustered, Posed
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.universe import Drawn

if TYPE_CHECKING:
    from jaxalloc.kernels.scalar import across

_OFF = "off"
_ANY_SIZE = sys.maxsize


@functools.cache
def _objection() -> str | None:
    """Why the scalar kernels cannot be used, if they cannot."""
    try:
        for name in ("across", "clusters", "describing", "draws", "moments"):
            importlib.import_module(f"jaxalloc.kernels.scalar.{name}")
    except ImportError as error:  # no numba, or one that is not made for this NumPy
        return str(error)
    except RuntimeError as error:  # numba finds no folder for what it compiles
        return f"numba cannot keep what it compiles: {error}"
    return None


def objection() -> str | None:
    """Why a CPU's universes are not computed by scalar kernels; None if they are.

    The environment variable ``JAXALLOC_NUMBA``, where it is ``off``, says that they shall not be.
    """
    if os.environ.get("JAXALLOC_NUMBA", "").lower() == _OFF:
        return "JAXALLOC_NUMBA=off"
    return _objection()


def is_scalar(backend: Backend) -> bool:
    """Whether universes on this kind of device are computed by scalar kernels."""
    return backend is Backend.CPU and objection() is None


def is_by_universe(work: Work) -> bool:
    """Whether a part takes as long as it has universes: programs, which take whole groups, only do what is rare."""
    observed = work.panel is None or observes(work)
    return work.scalar and observed and (work.drawing is None or work.drawing.resampling is not None)


def observes(work: Work) -> bool:
    """Whether scalar kernels, where there are any, observe universes: of a shared panel, by covariances not shrunk."""
    return work.panel is not None and work.config.covariance in ("sample", "ewma")


class Unsolved(NamedTuple):
    """Problems that the scalar solvers have left.

    Attributes:
        n_problems: of each universe, solved or not.
        which: (F,) universes of the group that have any.
        wanted: (P, F) bool, which profiles' they are.
        posed: leading axis F; None where they are over assets, and there is nothing to pose.
    """

    n_problems: int
    which: np.ndarray
    wanted: np.ndarray
    posed: Posed | None


class Scalar:
    """The scalar stages of a part's universes."""

    def __init__(self, work: Work, solutions: Solutions) -> None:
        """Take what all parts on the device have in common, and where to put solutions."""
        from jaxalloc.kernels.scalar import across, clusters, describing, draws, moments, posing

        self._across, self._clusters, self._describing, self._posing = across, clusters, describing, posing
        self._draws, self._moments = draws, moments
        across.begin(work.dtype, available_cores() - 1)
        self._work = work
        self._solutions = across.Solutions(**solutions.fields()._asdict())
        self._names = work.config.profiles

    # ---- draws ------------------------------------------------------------------------------------------------------

    def draw(self, resampling: Resampling, index: np.ndarray, count: int) -> Drawn:
        """The first ``count`` universes of a group ``index`` (U,): weights (count, T), and (U, A) masks."""
        work, (method, *numbers) = self._work, resampling
        weights = np.empty((count, work.n_rows), work.dtype)
        masks = np.zeros((len(index), work.sizes.assets), bool)
        masks[:, : work.n_assets] = True
        self._draws.draw(self._draws.METHODS[method], *numbers, index[:count], weights, masks)
        masks[count:] = masks[count - 1]
        return Drawn(weights=weights, mask=masks, returns=None, shock=None)  # type: ignore[arg-type]

    # ---- moments ----------------------------------------------------------------------------------------------------

    def observe(self, weights: Any, masks: Any, config: AllocationConfig, universes: int, count: int) -> Estimates:
        """Estimates of a group, not yet clustered, from the rows that its universes hold.

        Args:
            weights: of the rows, (count, T) or more.
            masks: (U, A) bool.
            config: settings, leading axis of the group.
            universes: U, of the group.
            count: those that are not padding.
        """
        work, sizes = self._work, self._work.sizes
        assert work.panel is not None
        dtype = work.dtype
        shared = work.panel.columns(self._moments.lanes(dtype))
        fields = {name: getattr(shared, name) for name in self._moments.Panel._fields}
        covariance = work.room.on_host((universes, sizes.assets, sizes.assets), dtype)
        made = self._moments.Observed(
            mean=np.zeros((universes, sizes.assets), dtype),
            covariance=covariance,
            active=np.zeros((universes, sizes.assets), bool),
            antifragility=np.zeros((universes, sizes.assets), dtype),
            dropped=np.zeros(universes, bool),
            valid=np.zeros(universes, bool),
        )
        limits, rows = np.finfo(dtype), work.room.on_host(self._moments.room(sizes.assets, dtype), dtype)
        self._moments.observe(
            self._moments.Panel(**fields),
            _read(weights),
            _read(masks),
            _float64(config.periods_per_year),
            _float64(config.ewma_decay),
            work.config.covariance == "ewma",
            float(limits.tiny / limits.eps),
            float(limits.max * limits.eps),
            count,
            work.n_assets,
            rows,
            made,
        )
        work.room.give_back(rows)
        if not self._all_is_scalar():
            self._moments.mirror(covariance, count)
            for values in made:  # programs may go through some of the padding, which must be harmless
                values[count : count + sizes.few] = values[0]
        return Estimates(
            labels=np.zeros(made.active.shape, np.int32),  # type: ignore[arg-type]
            n_clusters=np.ones(universes, np.int32),  # type: ignore[arg-type]
            **made._asdict(),
        )

    def _all_is_scalar(self) -> bool:
        """Whether no program reads the covariances of a group."""
        profiles = [PROFILES[name] for name in self._names]
        return self.finds_clusters(None) and all(each.clustered for each in profiles) and not self._work.sensitivities

    # ---- clusters ---------------------------------------------------------------------------------------------------

    def finds_clusters(self, labels: Any) -> bool:
        """Whether these kernels find the clusters, unless a caller gives their ``labels``."""
        config = self._work.config
        return labels is None and config.criterion == "distance" and not config.detone

    def cluster(self, estimates: Estimates, config: AllocationConfig, count: int) -> Estimates:
        """The estimates of a group with their clusters; an invalid universe has one."""
        work, active = self._work, _read(estimates.active)
        valid = np.asarray(estimates.valid)
        labels, n_clusters = np.zeros(active.shape, np.int32), np.ones(len(active), np.int32)
        self._clusters.find_clusters(
            _read(estimates.covariance),
            active,
            _float64(config.distance_threshold),
            count,
            self._clusters.LINKAGES[work.config.linkage],
            work.config.distance == "absolute",
            labels,
            n_clusters,
        )
        labels[~valid], n_clusters[~valid] = 0, 1
        return estimates._replace(labels=labels, n_clusters=n_clusters)

    # ---- problems ---------------------------------------------------------------------------------------------------

    def compile(self, estimates: Estimates, config: AllocationConfig, results: dict[str, np.ndarray]) -> None:
        """Compile what solves and describes a group's universes, while other processes still compile the solvers.

        The kernels are called for none of the universes.
        """
        if all(solver.version(self._work.dtype).is_here() for solver in self._across.ALWAYS):
            return
        clustered, _ = self.solve_clusters(estimates, config, 0, 0)
        if any(PROFILES[name].over_assets for name in self._names):
            self.solve_assets(estimates, config, 0, 0)
        self.describe(estimates, clustered, config, 0, 0, results)

    def solve_clusters(
        self, estimates: Estimates, config: AllocationConfig, start: int, count: int
    ) -> tuple[Clustered, Unsolved]:
        """Weigh within the clusters of a group, and solve across them.

        Args:
            estimates: of the group, with clusters.
            config: settings, leading axis of the group.
            start: the part's slot of the first universe.
            count: universes of the group that are not padding.
        """
        universes, settings = self._universes(estimates), self._settings(config)
        places = [place for place, name in enumerate(self._names) if PROFILES[name].clustered]
        posed = self._room()
        excess = np.zeros(posed.inner.shape, self._work.dtype)
        unsolved = np.zeros((count, len(places)), bool)
        scratch, room = self._scratch(), self._posing.make_room(self._work.sizes.assets)
        profiles, solutions = self._profiles(places), self._solutions
        for solvers in self._solvers(int(np.max(universes.n_clusters[:count], initial=0)), unsolved):
            self._across.solve_clusters(
                universes,
                settings,
                profiles,
                solvers,
                start,
                count,
                posed,
                excess,
                solutions,
                unsolved,
                scratch,
                room,
            )
        self._release(scratch)
        which = np.flatnonzero(unsolved.any(axis=1))
        size = universes.active.shape[1]
        covariance: Any = np.empty((len(which), size, size), self._work.dtype)
        if len(which):
            self._across.covariances_of_clusters(universes, settings, which, covariance, room)
        rewards: Any = excess[which, None]
        left = Posed(covariance=covariance, rewards=rewards, uppers=posed.upper[which])
        return _clustered(posed), self._left(which, places, unsolved, left)

    def solve_assets(self, estimates: Estimates, config: AllocationConfig, start: int, count: int) -> Unsolved:
        """Solve the profiles over the assets of a group; the arguments are as in `solve_clusters`."""
        universes, settings = self._universes(estimates), self._settings(config)
        places = [place for place, name in enumerate(self._names) if PROFILES[name].over_assets]
        unsolved = np.zeros((count, len(places)), bool)
        scratch, room = self._scratch(), self._posing.make_room(self._work.sizes.assets)
        profiles, solutions = self._profiles(places), self._solutions
        for solvers in self._solvers(universes.active.shape[1], unsolved):
            self._across.solve_assets(
                universes, settings, profiles, solvers, start, count, solutions, unsolved, scratch, room
            )
        self._release(scratch)
        which = np.flatnonzero(unsolved.any(axis=1))
        return self._left(which, places, unsolved, None)

    def _left(self, which: np.ndarray, places: Sequence[int], unsolved: np.ndarray, posed: Posed | None) -> Unsolved:
        wanted = np.zeros((len(self._names), len(which)), bool)
        wanted[list(places)] = unsolved[which].T
        return Unsolved(n_problems=len(places), which=which, wanted=wanted, posed=posed)

    # ---- portfolios -------------------------------------------------------------------------------------------------

    def describe(
        self,
        estimates: Estimates,
        clustered: Clustered,
        config: AllocationConfig,
        start: int,
        count: int,
        results: dict[str, np.ndarray],
    ) -> None:
        """Describe the portfolios of a group, whose profiles are all solved; the ``results`` are written."""
        self._describing.describe(
            self._universes(estimates),
            _read(estimates.dropped),
            _read(estimates.valid),
            self._settings(config),
            _float64(config.aggressor_weight),
            self._describing.Kinds(**kinds_of(self._names)._asdict()),
            start,
            count,
            self._posed(clustered),
            self._solutions,
            sum_tolerance(self._work.dtype),
            self._describing.Portfolios(**results),
            self._describing.make_room(len(self._names), self._work.sizes.assets),
        )

    # ---- arguments --------------------------------------------------------------------------------------------------

    def _universes(self, estimates: Estimates) -> across.Universes:
        return self._across.Universes(
            mean=_read(estimates.mean),
            covariance=_read(estimates.covariance),
            active=_read(estimates.active),
            labels=_read(estimates.labels),
            n_clusters=_read(estimates.n_clusters),
            scores=_read(estimates.antifragility),
        )

    def _settings(self, config: AllocationConfig) -> across.Settings:
        dtype = self._work.dtype
        return self._across.Settings(
            risk_free_rate=_float64(config.risk_free_rate),
            cluster_cap=_float64(config.cluster_cap),
            asset_cap=_float64(config.asset_cap),
            slack=_float64(config.slack),
            n_aggressors=np.ascontiguousarray(config.n_aggressors, np.int64),
            negligible=NEGLIGIBLE * float(np.finfo(dtype).eps),
            jitter=jitter(dtype),
        )

    def _solvers(self, size: int, unsolved: np.ndarray) -> Iterator[across.Solvers]:
        """The solvers that problems of up to this size want; then all, if some are left unsolved for want of one."""
        solvers = self._across.solvers(self._work.dtype, size) if len(unsolved) else self._across.NOWHERE
        yield solvers
        if unsolved.any() and not all(solvers):
            yield self._across.solvers(self._work.dtype, _ANY_SIZE)

    def _profiles(self, places: Sequence[int]) -> across.Profiles:
        profiles = [PROFILES[self._names[place]] for place in places]
        solver = [
            self._across.RISK_PARITY if each.solver is RISK_PARITY else self._across.MEAN_VARIANCE for each in profiles
        ]
        return self._across.Profiles(
            solver=np.array(solver, np.int64),
            reward=np.array([-1 if each.reward is None else each.reward for each in profiles], np.int64),
            upper=np.array([each.upper for each in profiles], np.int64),
            place=np.array(places, np.int64),
        )

    def _room(self) -> across.Posed:
        universes, assets, dtype = self._work.sizes.group, self._work.sizes.assets, self._work.dtype
        return self._across.Posed(
            inner=np.zeros((universes, assets), dtype),
            upper=np.zeros((universes, 2, assets), dtype),
            cluster=np.zeros((universes, 2), dtype),
            asset=np.zeros((universes, 2), dtype),
            cap_relaxed=np.zeros((universes, 2), bool),
            asset_raised=np.zeros((universes, 2), bool),
            riskless=np.zeros((universes, assets), bool),
            aggressor_clusters=np.zeros((universes, assets), bool),
            aggressors=np.zeros((universes, assets), bool),
            sleeve_size=np.zeros(universes, np.int32),
            fewer=np.zeros(universes, bool),
        )

    def _posed(self, clustered: Clustered) -> across.Posed:
        limits, sleeve = clustered.limits, clustered.sleeve
        return self._across.Posed(
            inner=clustered.inner,
            upper=limits.upper,
            cluster=limits.cluster,
            asset=limits.asset,
            cap_relaxed=limits.cap_relaxed,
            asset_raised=limits.asset_raised,
            riskless=clustered.riskless,
            aggressor_clusters=sleeve.clusters,
            aggressors=sleeve.assets,
            sleeve_size=sleeve.size,
            fewer=sleeve.fewer,
        )

    def _scratch(self) -> across.Scratch:
        """Room for correlations: one matrix in float32, whose precision both are of."""
        square, room = (self._work.sizes.assets**2,), self._work.room.on_host
        float32 = room(square, np.float32)
        own = float32 if self._work.dtype == np.float32 else room(square, np.float64)
        return self._across.Scratch(correlation=own, float32_correlation=float32)

    def _release(self, scratch: across.Scratch) -> None:
        self._work.room.give_back(scratch.float32_correlation)
        if scratch.correlation is not scratch.float32_correlation:
            self._work.room.give_back(scratch.correlation)


def _clustered(posed: across.Posed) -> Clustered:
    limits = Bounds(
        upper=posed.upper,
        cluster=posed.cluster,
        asset=posed.asset,
        cap_relaxed=posed.cap_relaxed,
        asset_raised=posed.asset_raised,
    )
    sleeve = Sleeve(
        clusters=posed.aggressor_clusters, assets=posed.aggressors, size=posed.sleeve_size, fewer=posed.fewer
    )
    return Clustered(inner=posed.inner, limits=limits, riskless=posed.riskless, sleeve=sleeve)


def _read(values: Any) -> np.ndarray:
    """An array of NumPy that is not written to: JAX's cannot be, and numba compiles once for each kind."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view


def _float64(values: Any) -> np.ndarray:
    return np.ascontiguousarray(values, np.float64)
