"""What XLA is asked to do otherwise when it compiles a program of ours; it holds for nothing else in the process."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Of XLA's passes over a program, repeated until nothing changes, these two took a third of the time to compile, looking
# through a hundred nested loops for what could be taken out of them. Nothing can that matters: what XLA takes out of a
# loop is carried through it, and solve tiles are 2 to 3 % faster without (measured on a CPU).
_PASSES = "simplify-while-loops,while-loop-invariant-code-motion"

# XLA orders a program's kernels so that they need little memory, not so that many could run at once: a tile runs on one
# core, and what is in a line needs no queue. 3 to 4 % of the time of a tile, a tenth of a lone universe's.
_ORDER = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"

# On a GPU a loop is a graph that the device goes through by itself. Otherwise the host looks after each turn whether
# there is another: a fifth of the time of a solve tile on an H200. (Not before JAX 0.11: an older XLA that has the
# option may abort the process when it runs such a loop for the second time, https://github.com/openxla/xla/pull/35760.)
_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
_LEAST_GRAPHS = (0, 11)


@functools.cache
def compiler_options(lone: bool = False) -> dict[str, Any]:
    """Options of XLA for programs on a CPU or a GPU, as far as this XLA knows them; none on other devices.

    Unless its CPU backend looks at where a value lives, as the others do anyway, loops copy more of what they carry
    than they need to: 5 to 10 % of the time of a tile.

    Args:
        lone: the program is for one universe, and takes a thousand times longer to compile than to run. Then kernels
            are emitted the older way: four fifths of the time to compile, for 1.1 to 1.3 times the time to run.
    """
    platform = jax.default_backend()
    if platform != "cpu":
        graphs = {"xla_gpu_enable_command_buffer": _GRAPHS}
        return graphs if platform == "gpu" and jax.__version_info__ >= _LEAST_GRAPHS and _are_known(graphs) else {}
    wanted: dict[str, Any] = {
        "xla_cpu_copy_insertion_use_region_analysis": True,
        "xla_disable_hlo_passes": _PASSES,
        "xla_cpu_scheduler_type": _ORDER,
    }
    if lone:
        wanted["xla_cpu_use_fusion_emitters"] = False
    if _are_known(wanted):  # as a rule: a program compiled to find out, not one an option
        return wanted
    return {name: value for name, value in wanted.items() if _are_known({name: value})}


def _are_known(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(jnp.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
