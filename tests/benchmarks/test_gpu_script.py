"""What benchmarks/gpu.py makes of a profile and of its results; what it measures needs a GPU."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAM = """HloModule jit__solve_tiles, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  ROOT %mul.1 = f32[8]{0} multiply(%p, %p), metadata={op_name="jit(_solve_tiles)/while/body/vmap(asset_weights)/mul"}
}

ENTRY %main {
  %loop_add_fusion.2 = f32[8]{0} fusion(%p), kind=kLoop, metadata={op_name="jit(_solve_tiles)/body/within_clusters/add"}
  %copy.3 = f32[8]{0} copy(%loop_add_fusion.2)
}
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location("gpu_script", BENCHMARKS / "gpu.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "gpu_script", module)
        spec.loader.exec_module(module)
    return module


def test_kernels_belong_to_the_stage_that_asked_for_them(script: ModuleType) -> None:
    scopes = script.scopes_of([PROGRAM, PROGRAM.replace("_solve_", "_estimate_").replace("within_clusters", "moments")])
    assert set(scopes) == {"jit__solve_tiles", "jit__estimate_tiles"}
    assert script.stage_of("loop_add_fusion_2", scopes["jit__solve_tiles"]) == "clusters' covariances"
    assert script.stage_of("loop_add_fusion_2", scopes["jit__estimate_tiles"]) == "moments"
    assert script.stage_of("mul_1", scopes["jit__solve_tiles"]) == "asset weights"
    assert script.stage_of("MemcpyD2D", scopes["jit__solve_tiles"]) == "copies"
    assert script.stage_of("sm80_xmma_gemm_f32f32", {}) == "matrix products"
    assert script.stage_of("copy_3", scopes["jit__solve_tiles"]) == "other"


def test_pages_are_made_of_the_results_beside_them(script: ModuleType) -> None:
    files = sorted((BENCHMARKS / "results").glob("gpu-*.json"))
    assert files
    for file in files:
        page = script.page(json.loads(file.read_text(encoding="utf-8")))
        assert file.with_suffix(".md").read_text(encoding="utf-8") == page
