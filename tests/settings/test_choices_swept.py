"""Sweeps over choices: every point is the study of its own settings, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja

MARKET = ja.datasets.synthetic_market(12, 120)
BASE = ja.AllocationConfig(profiles=("risk_parity", "hrp"))
DRAWS = ja.Bootstrap(n=30)


def test_choices_come_first_and_points_of_one_choice_follow_each_other() -> None:
    grid = ja.sweep(BASE, cluster_cap=[0.2, 0.3], linkage=["average", "ward"], detone=[False, True])
    assert grid.names == ("linkage", "detone", "cluster_cap")
    assert grid.points[1] == ("average", False, 0.3)
    assert grid.at(5).linkage == "ward"
    assert grid.at(5).cluster_cap == 0.3
    assert not grid.at(5).detone
    assert grid.home == 0


def test_every_point_is_the_study_of_its_settings() -> None:
    grid = ja.sweep(BASE, distance_threshold=[0.3, 0.5], linkage=["average", "complete"], detone=[False, True])
    study = ja.run_study(MARKET, DRAWS, grid, seed=2, chunk_size=64)  # chunks hold parts of several points
    for point in range(len(grid)):
        alone = ja.run_study(MARKET, DRAWS, grid.at(point), seed=2)
        for profile in BASE.profiles:
            np.testing.assert_array_equal(study.weights(profile, at=point), alone.weights(profile))
        np.testing.assert_array_equal(study.clusters(at=point), alone.clusters())
        np.testing.assert_array_equal(study.estimate(point).weights, alone.point.weights)
        pd.testing.assert_frame_equal(study.profile_summary(at=point), alone.profile_summary())
    said = [note for note in study.record["notes"] if "compiles" in note]
    assert said == [
        "The sweep of linkage and detone compiles the programs that depend on it for 4 combinations of choices."
    ]


def test_a_criterion_can_vary_with_what_it_reads(tmp_path: Path) -> None:
    grid = ja.sweep(BASE, criterion=["distance", "silhouette"], max_clusters=[5, 8])
    study = ja.run_study(MARKET, DRAWS, grid, out=tmp_path / "study")
    again = ja.load_study(tmp_path / "study")
    assert again.settings == grid or again.settings.points == grid.points
    pd.testing.assert_frame_equal(again.profile_summary(), study.profile_summary())
    assert list(again.universes().columns[:2]) == ["criterion", "max_clusters"]
    assert study.estimate(3).n_clusters <= 8
    figure = pytest.importorskip("plotly") and ja.figures.sweep_heatmap(study, "volatility", "risk_parity")
    assert figure.data[0].z is not None
    ja.write_report(study, tmp_path / "report.html")


def test_covariances_can_vary_in_a_walk_forward() -> None:
    grid = ja.sweep(BASE, covariance=["sample", "oas"])
    walk = ja.walk_forward(MARKET, grid, window=60, step=30)
    for point in range(2):
        alone = ja.walk_forward(MARKET, grid.at(point), window=60, step=30)
        np.testing.assert_array_equal(walk.summary(point), alone.summary())


def test_what_cannot_vary_is_refused() -> None:
    with pytest.raises(ja.InputError, match="profiles cannot be swept; what can be: ewma_decay"):
        ja.sweep(profiles=[("hrp",)])
    with pytest.raises(ja.InputError, match="unknown linkage 'centroid'"):
        ja.sweep(linkage=["average", "centroid"])
    with pytest.raises(ja.InputError, match="detone must be True or False"):
        ja.sweep(detone=[0, 1])
    with pytest.raises(ja.InputError, match="linkage must be a list"):
        ja.sweep(linkage="ward")
    with pytest.raises(ja.InputError, match="is read under criterion"):
        ja.sweep(max_clusters=[3, 4], linkage=["ward"])
