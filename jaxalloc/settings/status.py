"""Status bits: what happened to a universe, each with a message that says what to do."""

from __future__ import annotations

from enum import IntFlag

from jaxalloc.settings.config import AllocationConfig


class Status(IntFlag):
    """Bit field of one universe and profile; 0 means that all went well.

    Each member carries ``message``, one line for a person. Decode a value of `Allocation.status` with
    ``Status(int(value))`` or `explain`.
    """

    message: str

    INVALID = (
        1,
        (
            "no allocation: a return in use is missing or infinite, there are fewer than two observations, an "
            "observation weight is negative or missing, a variance is not positive or past what the precision computes "
            "with, or there is no active asset; clean or mask the data"
        ),
    )
    ASSET_DROPPED = 2, "an asset whose returns are all equal in this universe got weight 0; remove or mask it"
    CLUSTER_CAP_RELAXED = (
        4,
        (
            "too few clusters for the cluster cap, which was widened to slack / clusters; lower distance_threshold to "
            "get more clusters, or raise cluster_cap"
        ),
    )
    ASSET_BOUND_RAISED = (
        8,
        ("the clusters could not hold a whole portfolio under the asset bound, which was raised; raise asset_cap"),
    )
    SHARPE_FALLBACK = (
        16,
        (
            "no portfolio within the bounds has a positive excess return, so minimum variance was used instead; check "
            "the mean returns and risk_free_rate"
        ),
    )
    RISK_REGULARIZED = (
        32,
        (
            "some long-only portfolio has zero variance, so equal risk contributions, or the share of a hedged "
            "cluster, may not exist: a tiny amount was added to the variances; look for perfectly opposed assets"
        ),
    )
    FEWER_AGGRESSORS = 64, "there are fewer clusters than n_aggressors, so the barbell's sleeve holds fewer aggressors"
    NOT_CONVERGED = (
        128,
        (
            "the solver stopped before it reached its tolerance: the weights are feasible, see optimality_gap for how "
            "good they are; the covariance is probably close to singular, so use more observations"
        ),
    )

    BAGGED_OVER_CAP = (
        256,
        (
            "the mean of the resamples' portfolios gives a cluster of the whole panel more than its cap, which holds "
            "in every resample for the clusters of its own; lower cluster_cap if that is too much"
        ),
    )

    def __new__(cls, value: int, message: str = "") -> Status:
        """Attach the message to the member."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.message = message
        return member


def explain(status: int, config: AllocationConfig | None = None) -> list[str]:
    """Return the messages of the bits set in ``status``, lowest bit first.

    Args:
        status: of one universe and profile.
        config: the settings that it was computed with, for advice that suits them.

    Example:
        >>> explain(0)
        []
        >>> explain(Status.FEWER_AGGRESSORS)
        ["there are fewer clusters than n_aggressors, so the barbell's sleeve holds fewer aggressors"]
    """
    return [_message(bit, config) for bit in Status if int(status) & bit.value]


def _message(bit: Status, config: AllocationConfig | None) -> str:
    """A bit's message; settings that nothing reads under the criterion give way to those that are read."""
    if config is None or config.criterion == "distance":
        return bit.message
    instead = "raise max_clusters" if config.criterion == "maxclust" else "choose criterion='maxclust'"
    return bit.message.replace("lower distance_threshold", instead)
