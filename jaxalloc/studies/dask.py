"""A study's chunks as tasks for Dask workers: the workers compute, and the process that runs the study writes.

A task carries all that it needs, so the scheduler gives the chunks of a lost worker to another one. Use one worker with
one thread for each GPU; in a worker with more threads chunks wait for each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import reason, unquoted
from jaxalloc.portfolios.result import Allocation
from jaxalloc.studies.chunks import ChunkResult, Runner, device_name
from jaxalloc.studies.plan import Plan

if TYPE_CHECKING:
    from distributed import Client

_TIMEOUT = 30.0  # seconds to reach a scheduler, and to wait for its first worker
_LOST = ("FutureCancelledError", "CommClosedError", "ClosedClientError")  # what clients raise then, by version
_AHEAD = 2  # chunks given out to each worker: one in work, and the next one


class SchedulerLostError(ConnectionError):
    """The scheduler does not answer any more, or has forgotten the study's tasks."""


@contextlib.contextmanager
def dask_workers(plan: Plan, dask: Client | str) -> Iterator[DaskWorkers]:
    """Yield the workers of a Dask cluster, ready to compute a plan.

    Args:
        plan: the study.
        dask: a client, which stays open, or the address of a scheduler.

    Raises:
        InputError: Dask is not installed, the scheduler cannot be reached, or has no workers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a Dask cluster needs the package distributed; install jaxalloc[dask]") from None
    with contextlib.ExitStack() as stack:
        if isinstance(dask, str):
            try:
                client = stack.enter_context(Client(dask, timeout=_TIMEOUT, set_as_default=False))
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(f"dask: no scheduler answers at {dask!r} ({reason(error)})") from None
        elif isinstance(dask, Client):
            client = dask
        else:
            raise InputError(f"dask must be a distributed.Client or a scheduler's address, not {dask!r}")
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT)
        except TimeoutError:
            raise InputError(f"dask: the scheduler has had no worker for {_TIMEOUT:.0f} seconds; start one") from None
        yield DaskWorkers(plan, client)


class DaskWorkers:
    """Computes a plan's chunks on the workers of a Dask cluster.

    Attributes:
        chunk_size: universes of a chunk.
        device: what the workers compute on.
    """

    def __init__(self, plan: Plan, client: Client) -> None:
        """Ask a worker for the chunk size that suits its device."""
        self._client = client
        self._run = uuid.uuid4().hex  # no run takes the tasks of another one, even of the same plan
        with self._connected():
            self.chunk_size, self.device = self._submit(_device_of, plan, "describe").result()
        self._plan = dataclasses.replace(plan, chunk_size=self.chunk_size)

    def estimate(self) -> Allocation:
        """Return the panel's own portfolios, leading axis G."""
        with self._connected():
            return self._submit(_estimate, self._shared(), "estimate").result()

    def correlation(self) -> np.ndarray:
        """Return the whole panel's correlations."""
        with self._connected():
            return self._submit(_correlation, self._shared(), "correlation").result()

    def run(
        self, numbers: list[int], consume: Callable[[int, ChunkResult], None], progress: Callable[[int], None]
    ) -> None:
        """Compute chunks and hand them over, in this order."""
        waiting, todo, plan = deque[tuple[int, Any]](), iter(numbers), None
        try:
            while True:
                with self._connected():
                    plan = self._shared() if plan is None else plan
                    # counted anew each time, because workers come and go
                    ahead = _AHEAD * max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))
                    for number in todo:
                        task = self._submit(_chunk, plan, number, number, self.chunk_size, self.device)
                        waiting.append((number, task))
                        if len(waiting) >= ahead:
                            break
                    if not waiting:
                        return
                    number, task = waiting.popleft()
                    result = task.result()
                consume(number, result)
                progress(min(self.chunk_size, self._plan.n_universes - number * self.chunk_size))
        finally:
            if waiting:
                with contextlib.suppress(Exception):  # the scheduler itself may be gone
                    self._client.cancel([task for _, task in waiting])

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Within it, an error that comes of a lost scheduler says so; one of a worker is raised as it is."""
        try:
            yield
        except Exception as error:
            if type(error).__name__ not in _LOST and self._client.status == "running":
                raise
            where = unquoted(self._client.scheduler.address if self._client.scheduler else "its address")
            raise SchedulerLostError(f"dask: the scheduler at {where} is lost ({type(error).__name__})") from None

    def _shared(self) -> Any:
        """The plan as a task of its own: sent once, and sent again where the worker that held it is lost."""
        return self._submit(_same, self._plan, "plan")

    def _submit(self, function: Callable[..., Any], plan: Any, name: Any, *arguments: Any) -> Any:
        key = f"jaxalloc-{self._run}-{name}"
        return self._client.submit(function, plan, *arguments, key=key, pure=False)


# ---- on a worker ----------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_ready: list[tuple[Plan, Runner]] = []  # the last plan; its programs and panel are on the devices


def _same(plan: Plan) -> Plan:
    return plan


@contextlib.contextmanager
def _runner(plan: Plan) -> Iterator[Runner]:
    with _lock, jax.enable_x64(plan.precision == 64):
        if not _ready or _ready[0][0] is not plan:
            _ready[:] = [(plan, Runner(plan))]
        yield _ready[0][1]


def _device_of(plan: Plan) -> tuple[int, str]:
    with jax.enable_x64(plan.precision == 64):
        return Runner(plan).chunk_size, device_name()


def _estimate(plan: Plan) -> Allocation:
    with _runner(plan) as runner:
        return runner.estimate


def _correlation(plan: Plan) -> np.ndarray:
    with _runner(plan) as runner:
        return runner.correlation


def _chunk(plan: Plan, number: int, chunk_size: int, device: str) -> ChunkResult:
    with _runner(plan) as runner:
        if (runner.chunk_size, device_name()) != (chunk_size, device):
            raise RuntimeError(
                f"workers differ: one computes {chunk_size} universes at once on {device}, another {runner.chunk_size} "
                f"on {device_name()}; use workers of one kind, or give a smaller chunk_size"
            )
        return runner.finish(runner.start(number))
