"""What benchmarks/gpu.py makes of a profile and of its results; what it measures needs a GPU."""

from __future__ import annotations

import json

import gpu

PROGRAM = """HloModule jit__solve_tiles, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  ROOT %mul.1 = f32[8]{0} multiply(%p, %p), metadata={op_name="jit(_solve_tiles)/while/body/vmap(asset_weights)/mul"}
}

ENTRY %main {
  %loop_add_fusion.2 = f32[8]{0} fusion(%p), kind=kLoop, metadata={op_name="jit(_solve_tiles)/body/within_clusters/add"}
  %copy.3 = f32[8]{0} copy(%loop_add_fusion.2)
}
"""


def test_kernels_belong_to_the_stage_that_asked_for_them() -> None:
    scopes = gpu.scopes_of([PROGRAM, PROGRAM.replace("_solve_", "_estimate_").replace("within_clusters", "moments")])
    assert set(scopes) == {"jit__solve_tiles", "jit__estimate_tiles"}
    assert gpu.stage_of("loop_add_fusion_2", scopes["jit__solve_tiles"]) == "clusters' covariances"
    assert gpu.stage_of("loop_add_fusion_2", scopes["jit__estimate_tiles"]) == "moments"
    assert gpu.stage_of("mul_1", scopes["jit__solve_tiles"]) == "asset weights"
    assert gpu.stage_of("MemcpyD2D", scopes["jit__solve_tiles"]) == "copies"
    assert gpu.stage_of("sm80_xmma_gemm_f32f32", {}) == "matrix products"
    assert gpu.stage_of("copy_3", scopes["jit__solve_tiles"]) == "other"


def test_pages_are_made_of_the_results_beside_them() -> None:
    files = sorted(gpu.RESULTS.glob("gpu-*.json"))
    assert files
    for file in files:
        page = gpu.page(json.loads(file.read_text(encoding="utf-8")))
        assert file.with_suffix(".md").read_text(encoding="utf-8") == page
