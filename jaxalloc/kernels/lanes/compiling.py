"""Options with which XLA compiles the programs of this package, and no others of the process."""

from __future__ import annotations

import enum
import functools
from typing import Any

import jax
import jax.numpy as jnp

# XLA repeats its passes over a program until nothing changes. These two took a third of the time to compile: they look
# through a hundred nested loops for what could be moved out of them. What they move out of a loop is carried through it
# instead, and solve tiles are 2 to 3 % faster without them (measured on a CPU).
_PASSES = "simplify-while-loops,while-loop-invariant-code-motion"

# XLA would share the larger loops out over all cores. A batch has a part for each core already, and handing over takes
# a tenth of the time of small universes.
_SHARING = "cpu-parallel-task-assigner"

# A tile runs on one core. So XLA orders a program's kernels to need little memory, not so that many could run at once.
# That saves 3 to 4 % of the time of a tile.
_ORDER = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"

# On a GPU a loop becomes a graph that the device goes through by itself. Otherwise the host asks after each turn
# whether there is another, which takes a fifth of the time of a solve tile on an H200. JAX before 0.11 does not get the
# option: its XLA may abort the process when it runs such a loop for the second time
# (https://github.com/openxla/xla/pull/35760).
_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
_LEAST_GRAPHS = (0, 11)


class Emitter(enum.Enum):
    """Which part of XLA makes the kernels of a program on a CPU.

    Its newer one takes a fusion at a time and vectorises nearly everything; its older one goes element by element. A
    program of the older one takes two thirds of the time to compile. Where kernels look up, compare and select, it runs
    as fast or faster, by a quarter at best; where they multiply, add up and divide, up to three times as long (measured
    on a CPU, stage by stage).
    """

    FUSIONS = "fusions"
    ELEMENTS = "elements"


@functools.cache
def compiler_options(emitter: Emitter = Emitter.FUSIONS) -> dict[str, Any]:
    """Options of XLA for programs on a CPU or a GPU, as far as this XLA knows them; none on other devices.

    With region analysis loops on a CPU copy less of what they carry, as loops on other devices do anyway: that saves 5
    to 10 % of the time of a tile.
    """
    platform = jax.default_backend()
    if platform != "cpu":
        graphs = {"xla_gpu_enable_command_buffer": _GRAPHS}
        return graphs if platform == "gpu" and jax.__version_info__ >= _LEAST_GRAPHS and _are_known(graphs) else {}
    wanted: dict[str, Any] = {
        "xla_cpu_copy_insertion_use_region_analysis": True,
        "xla_disable_hlo_passes": f"{_PASSES},{_SHARING}",
        "xla_cpu_scheduler_type": _ORDER,
    }
    if emitter is Emitter.ELEMENTS:
        wanted["xla_cpu_use_fusion_emitters"] = False
    if _are_known(wanted):  # as a rule, so that one program is compiled to find out, not one for each option
        return wanted
    return {name: value for name, value in wanted.items() if _are_known({name: value})}


def _are_known(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(jnp.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
