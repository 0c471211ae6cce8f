"""Which profiles and which choices read a setting, and what is to be said of one that nothing reads.

`READERS` has a line for each setting. `unread` says, in Python's words, which of the settings that a caller has set
change nothing, or do not change the weights of some of the profiles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxalloc.arguments.words import joined, literal
from jaxalloc.settings.config import CLUSTER_CHOICES, CLUSTER_PROFILES, PROFILE_NAMES, AllocationConfig

# profiles whose weights depend on the clusters, on the tree, on the asset cap, on the mean returns, on the moments
ON_CLUSTERS = (*CLUSTER_PROFILES, "herc", "nco")
ON_TREE = (*ON_CLUSTERS, "hrp")
CAPPED = (*CLUSTER_PROFILES, "asset_min_variance", "asset_max_sharpe", "asset_risk_parity", "max_diversification")
REWARDED = ("max_sharpe", "asset_max_sharpe")
ESTIMATED = tuple(name for name in PROFILE_NAMES if name != "equal_weight")

OF_ALLOCATION = ("volatility", "expected_return")  # figures that an `Allocation` has


@dataclasses.dataclass(frozen=True)
class Reader:
    """What reads one setting.

    Attributes:
        profiles: those whose weights it can change.
        under: the choice without which nothing reads it: a setting, and the values of which it must have or hold one.
        figures: measures that it is set for as well, whatever the profile.
    """

    profiles: tuple[str, ...]
    under: tuple[str, *tuple[str, ...]] | None = None
    figures: tuple[str, ...] = ()

    def applies(self, config: AllocationConfig) -> bool:
        """Whether the choices of ``config`` let anything read the setting."""
        if self.under is None:
            return True
        name, *wanted = self.under
        chosen = getattr(config, name)
        return not set(wanted).isdisjoint(chosen if isinstance(chosen, (tuple, list)) else (chosen,))

    def condition(self) -> str:
        """The choice in Python's words, such as ``criterion='maxclust'``."""
        assert self.under is not None
        name, *wanted = self.under
        return f"{name}={' or '.join(map(repr, wanted))}"


READERS: dict[str, Reader] = {
    "linkage": Reader(ON_TREE),
    "criterion": Reader(ON_CLUSTERS),
    "distance": Reader(ON_TREE),
    "detone": Reader(ON_CLUSTERS),
    "covariance": Reader(ESTIMATED),
    "ewma_decay": Reader(ESTIMATED, under=("covariance", "ewma")),
    "distance_threshold": Reader(ON_CLUSTERS, under=("criterion", "distance")),
    "max_clusters": Reader(ON_CLUSTERS, under=("criterion", "maxclust", "silhouette")),
    "cluster_cap": Reader(CLUSTER_PROFILES),
    "asset_cap": Reader(CAPPED),
    "slack": Reader(CAPPED),
    "risk_free_rate": Reader(REWARDED, figures=("sharpe",)),
    "periods_per_year": Reader(REWARDED, figures=(*OF_ALLOCATION, "sharpe")),
    "n_aggressors": Reader(("barbell",), under=("profiles", "barbell")),
    "aggressor_weight": Reader(("barbell",), under=("profiles", "barbell")),
}
# what makes the clusters: where lead assets are held, every profile's holdings depend on it
CLUSTERING = (*CLUSTER_CHOICES, "covariance", "ewma_decay", "distance_threshold", "max_clusters")


def unread(
    config: AllocationConfig, swept: Sequence[str] = (), figures: Sequence[str] = OF_ALLOCATION, *, leads: bool = False
) -> list[str]:
    r"""Say which of the settings that a caller has set change no weights, and of which profiles.

    Set is what differs from its default or is swept. A setting of the barbell's own, such as ``n_aggressors``, is not
    said to be unread by the profiles beside the barbell.

    Args:
        config: the settings, checked, as Python's numbers.
        swept: names of the settings that vary.
        figures: the measures that are shown beside the weights; a setting that is set for one of them is not unread.
        leads: whether lead assets alone are held.

    Returns:
        A sentence for each setting whose choice is not made, and one for each group of profiles that ignore settings.

    Example:
        >>> config = AllocationConfig(profiles=("risk_parity", "hrp"), asset_cap=0.1, max_clusters=5)
        >>> print(*unread(config), sep="\n")
        max_clusters=5 changes nothing: it is read under criterion='maxclust' or 'silhouette' only.
        asset_cap=0.1 does not change the weights of hrp.
    """
    default = AllocationConfig()
    notes: list[str] = []
    ignored: dict[tuple[str, ...], list[str]] = {}
    for name, reader in READERS.items():
        value = getattr(config, name)
        if name not in swept and value == getattr(default, name):
            continue
        words = f"the sweep of {name}" if name in swept else f"{name}={literal(value)}"
        if reader.under is not None and reader.under[0] not in swept and not reader.applies(config):
            notes.append(_sentence(f"{words} changes nothing: it is read under {reader.condition()} only"))
        elif not (set(reader.figures) & set(figures) or (leads and name in CLUSTERING) or _is_own(reader)):
            profiles = tuple(profile for profile in config.profiles if profile not in reader.profiles)
            if profiles:
                ignored.setdefault(profiles, []).append(words)
    for profiles, settings in ignored.items():
        verb = "does" if len(settings) == 1 else "do"
        notes.append(_sentence(f"{joined(settings)} {verb} not change the weights of {joined(profiles)}"))
    return notes


def _is_own(reader: Reader) -> bool:
    """Whether a setting is about one profile alone."""
    return reader.under is not None and reader.under[0] == "profiles"


def _sentence(text: str) -> str:
    """A sentence, which begins with a capital letter unless it begins with the name of a setting."""
    return f"{text.replace('the sweep', 'The sweep', 1) if text.startswith('the sweep') else text}."
