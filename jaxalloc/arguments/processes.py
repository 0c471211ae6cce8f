"""Processes forked after JAX has run: JAX's threads do not live on in them, so that its first call would hang."""

from __future__ import annotations

import os
import sys

from jaxalloc.arguments.errors import InputError


class _Process:
    """What is known of this process.

    Attributes:
        about_to_fork: whether JAX had run when this process, or the one that it was forked from, last forked.
        forked: whether JAX had run in the process that this one was forked from.
    """

    about_to_fork = False
    forked = False


def check_process() -> None:
    """Raise `InputError` if JAX would hang here, because it has run in the process that this one was forked from."""
    if _Process.forked:
        raise InputError(
            "this process was forked after JAX had run, and JAX would hang in it: start processes with "
            "multiprocessing.get_context('spawn')"
        )


def _before_fork() -> None:  # the child must not ask: another thread may have held JAX's lock, and is not there
    _Process.about_to_fork = _jax_has_run()


def _in_child() -> None:
    _Process.forked = _Process.forked or _Process.about_to_fork


def _jax_has_run() -> bool:
    """Whether JAX has devices in use; False with a version of JAX that does not tell."""
    bridge = sys.modules.get("jax._src.xla_bridge")  # JAX has no public way to ask that does not itself start devices
    ask = getattr(bridge, "backends_are_initialized", None)
    return bool(ask is not None and ask())


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)
