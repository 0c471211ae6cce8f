"""Status bits: what happened to a universe, one message each that says what to do."""

from __future__ import annotations

from enum import IntFlag


class Status(IntFlag):
    """Bit field of one universe and profile; 0 means that nothing needs saying.

    Each member carries ``message``, one line for a person. Decode a value of `Allocation.status` with
    ``Status(int(value))`` or `explain`.
    """

    message: str

    INVALID = (
        1,
        (
            "no allocation: a missing or infinite return in use, fewer than two observations, a negative or missing "
            "observation weight, a variance that is not positive, or no active asset; clean or mask the data"
        ),
    )
    ASSET_DROPPED = 2, "an asset whose returns are all equal in this universe got weight 0; remove or mask it"
    CLUSTER_CAP_RELAXED = (
        4,
        (
            "too few clusters for the cluster cap: it was widened to slack / clusters; lower distance_threshold to get "
            "more clusters, or raise cluster_cap"
        ),
    )
    ASSET_BOUND_RAISED = (
        8,
        ("the asset bound was raised because the clusters could not hold a whole portfolio under it; raise asset_cap"),
    )
    SHARPE_FALLBACK = (
        16,
        (
            "no portfolio within the bounds has a positive excess return: minimum variance was used; check the mean "
            "returns and risk_free_rate"
        ),
    )
    RISK_REGULARIZED = (
        32,
        (
            "some long-only mix has no variance, so equal risk contributions, or a hedged cluster's share, need not "
            "exist: the variances were raised by a hair; look for perfectly opposed assets"
        ),
    )
    FEWER_AGGRESSORS = 64, "fewer clusters than the barbell's sleeve asks for: it holds fewer aggressors"
    NOT_CONVERGED = (
        128,
        (
            "the solver stopped above its tolerance: the weights are feasible, see optimality_gap; the covariance is "
            "probably close to singular, use more observations"
        ),
    )

    def __new__(cls, value: int, message: str = "") -> Status:
        """Attach the message to the member."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.message = message
        return member


def explain(status: int) -> list[str]:
    """Return the messages of the bits set in ``status``, lowest bit first.

    Example:
        >>> explain(0)
        []
        >>> explain(Status.FEWER_AGGRESSORS)
        ["fewer clusters than the barbell's sleeve asks for: it holds fewer aggressors"]
    """
    return [bit.message for bit in Status if int(status) & bit.value]
