"""The panel that universes share, on the devices. What is made of it is made when the first universe asks for it.

Universes that hold a small piece of a long panel ask for other things than the rest: they need no table of outer
products, which takes longer to make than hundreds of windows take to be observed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxalloc.engine.shapes import MAX_OUTER_BYTES, ROWS, canonical
from jaxalloc.kernels.moments.panel import SharedPanel, in_groups, share_panel
from jaxalloc.kernels.moments.windows import Ranks, Rows, ranks_of, rows_of

_KEPT_BYTES = 2**25  # of all that was made of a panel and is kept for the next call


class Shared:
    """A panel, and what is made of it. Any thread may ask."""

    def __init__(self, returns: np.ndarray, n_assets: int, devices: Iterable[Any]) -> None:
        """Take returns (T, N) in the precision that is computed in, what N is padded to, and the devices."""
        self._returns, self._sizes = returns.copy(order="K"), (canonical(len(returns), ROWS), n_assets)
        self._devices = set(devices)
        self._made: dict[str, Any] = {}
        self._bytes: dict[str, int] = {}  # of what was made; JAX's arrays take long to tell
        self._turn = threading.Lock()

    def is_of(self, returns: np.ndarray, n_assets: int, devices: Iterable[Any]) -> bool:
        """Tell whether it was made of the same bits."""
        own, others = self._returns, returns
        if (own.shape, own.dtype) != (others.shape, others.dtype):
            return False
        if (self._sizes[1], self._devices) != (n_assets, set(devices)):
            return False
        whole = np.dtype(f"i{own.itemsize}")  # the bits of NaN and of zeros count; single bytes would take long
        return np.array_equal(own.view(whole), others.view(whole))

    def shrink(self) -> bool:
        """Forget what takes most memory, until the rest takes 32 MiB at most; tell whether the panel itself does."""
        with self._turn:
            for name in ("table", "rows", "ranks", "columns"):
                if sum(self._bytes.values()) > _KEPT_BYTES:
                    self._made.pop(name, None)
                    self._bytes.pop(name, None)
        return self._returns.nbytes <= _KEPT_BYTES

    def table(self, device: Any) -> SharedPanel:
        """What universes need that hold any rows, on a device."""
        make = functools.partial(share_panel, self._returns, MAX_OUTER_BYTES, *self._sizes)
        return self._once("table", self._placed, make)[device]

    def rows(self, device: Any) -> Rows:
        """What windows need, on a device."""
        return self._once("rows", self._placed, lambda: rows_of(self._returns, *self._sizes))[device]

    def ranks(self) -> Ranks:
        """What windows need, on the host."""
        return self._once("ranks", lambda make: make(), lambda: ranks_of(self._returns))

    def columns(self, group: int) -> SharedPanel:
        """What scalar kernels need, on the host: no products, columns in groups of so many."""

        def make() -> SharedPanel:
            panel = share_panel(self._returns, 0, len(self._returns), self._sizes[1])
            return panel._replace(
                centred=in_groups(panel.centred, group),
                cubed=None,
                outer=None,
                missing=panel.missing if panel.missing.any() else panel.missing[:0],
                order=np.ascontiguousarray(panel.order.T),
                descending=np.ascontiguousarray(panel.descending.T),
                most_repeated=int(panel.most_repeated),
            )

        return self._once("columns", lambda make: make(), make)

    def _placed(self, make: Callable[[], Any]) -> dict[Any, Any]:
        made = make()
        return {device: jax.device_put(made, device) for device in self._devices}

    def _once(self, name: str, keep: Callable[[Callable[[], Any]], Any], make: Callable[[], Any]) -> Any:
        made = self._made.get(name)
        if made is None:
            with self._turn:
                made = self._made.get(name)
                if made is None:
                    made = self._made[name] = keep(make)
                    held = list(made.values()) if isinstance(made, dict) else made
                    self._bytes[name] = sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(held))
        return made


_LAST: list[Shared] = []


def share(returns: np.ndarray, n_assets: int, devices: Iterable[Any]) -> Shared:
    """A panel to share: the one that was kept, where it has the same bits."""
    kept = _LAST[0] if _LAST else None
    return kept if kept is not None and kept.is_of(returns, n_assets, devices) else Shared(returns, n_assets, devices)


def keep(shared: Shared) -> None:
    """Keep a panel for the next call, which often is of the same; in place of the last one."""
    _LAST[:] = [shared] if shared.shrink() else []
