"""What benchmarks/gpu.py makes of a profile and of its results; what it measures needs a GPU."""

from __future__ import annotations

import json
import re
from typing import Any

import gpu
import jax


def test_kernels_belong_to_the_stage_whose_program_they_are_of() -> None:
    names = {gpu.module_of(name): name for name in ("observe", "mean variance, face of 12")}
    for module, name in names.items():  # as JAX names it

        def function(x: Any) -> Any:
            return x + 1

        function.__name__ = name
        assert re.search(rf"module @{module}\b", jax.jit(function).lower(1.0).as_text())
    assert gpu.stage_of("loop_add_fusion_2", "jit_observe", names) == "observe"
    assert gpu.stage_of("mul_1", "jit_mean_variance__face_of_12", names) == "mean variance, face of 12"
    assert gpu.stage_of("MemcpyD2D", "jit_observe", names) == "copies"
    assert gpu.stage_of("copy_3", "jit_step", names) == "other"


def test_pages_are_made_of_the_results_beside_them() -> None:
    files = sorted(gpu.RESULTS.glob("gpu-*.json"))
    assert files
    for file in files:
        page = gpu.page(json.loads(file.read_text(encoding="utf-8")))
        assert file.with_suffix(".md").read_text(encoding="utf-8") == page
