"""Studies: equal to allocate_batch bit for bit, their folder there whole or not at all, whatever interrupts them.

One market of 12 assets and one set of choices throughout, so that little is compiled.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import count_compilations

from jaxalloc import study as study_module
from jaxalloc.allocation import RESULT_FIELDS, Allocation
from jaxalloc.batch import allocate_batch
from jaxalloc.config import AllocationConfig
from jaxalloc.data import Panel, read_returns
from jaxalloc.datasets import synthetic_market
from jaxalloc.errors import InputError
from jaxalloc.status import Status
from jaxalloc.study import Study, data_hash, run_study
from jaxalloc.universes import Bootstrap

N, T, CHUNK = 12, 252, 64
MARKET = synthetic_market(N, T, seed=1)
CONFIG = AllocationConfig(profiles=("risk_parity", "barbell"))
SAMPLER = Bootstrap(150, "circular", 21)
ARRAYS = [field.name for field in dataclasses.fields(Study) if field.type == "np.ndarray"]
FILES = {
    *("weights_risk_parity.parquet", "weights_barbell.parquet", "clusters.parquet", "universes.parquet"),
    *("summary.csv", "profiles.csv", "point_assets.csv", "point_clusters.csv", "study.json"),
}


def run(panel: Panel | pd.DataFrame = MARKET, **changes: Any) -> Study:
    arguments: dict[str, Any] = {"sampler": SAMPLER, "config": CONFIG, "seed": 5, "chunk_size": CHUNK}
    return run_study(panel, **(arguments | changes))


def with_gaps(*gaps: tuple[int, int]) -> Panel:
    """The market with gaps at (row, column)."""
    frame = MARKET.copy()
    for row, column in gaps:
        frame.iloc[row, column] = np.nan
    return read_returns(frame, missing="mask")


def assert_is_batch(study: Study, batch: Allocation) -> None:
    """Every bit of the study's arrays is the batch's."""
    for name in set(ARRAYS) & set(RESULT_FIELDS):
        assert np.array_equal(getattr(study, name), getattr(batch, name), equal_nan=True), name
    assert np.array_equal(study.asset_weights, batch.weights, equal_nan=True)
    assert study.asset_weights.dtype == batch.weights.dtype
    leads = batch.lead_assets[..., None] == np.arange(N)
    assert np.array_equal(study.is_lead, leads.any(axis=2))


def assert_same_bits(one: Study, other: Study) -> None:
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    for name in RESULT_FIELDS:
        assert np.array_equal(getattr(one.point, name), getattr(other.point, name), equal_nan=True), name


@pytest.fixture(scope="module")
def study() -> Study:
    return run()


# What it computes


def test_study_is_allocate_batch_of_the_counts(study: Study) -> None:
    counts = SAMPLER.counts(T, 5, 0, SAMPLER.n)
    with jax.enable_x64(True):
        batch = allocate_batch(MARKET.to_numpy(), CONFIG, observation_weights=counts)
        point = allocate_batch(MARKET.to_numpy(), CONFIG, observation_weights=np.ones((1, T)))
    assert_is_batch(study, batch)
    assert study.asset_weights.dtype == np.float64
    for name in RESULT_FIELDS:
        assert np.array_equal(getattr(study.point, name), getattr(point, name)[0]), name


def test_results_are_numpy_and_pandas_only(study: Study) -> None:
    assert len(ARRAYS) == 8
    for name in ARRAYS:
        assert type(getattr(study, name)) is np.ndarray
        assert len(getattr(study, name)) == study.n == SAMPLER.n
    assert not any(isinstance(getattr(study.point, name), jax.Array) for name in RESULT_FIELDS)
    assert study.symbols == list(MARKET.columns)
    assert study.dates.equals(MARKET.index)
    assert (study.seed, study.precision, study.sampler) == (5, 64, SAMPLER)


def test_settings_come_back_as_python_numbers() -> None:
    config = CONFIG.replace(cluster_cap=jnp.float32(0.5), max_clusters=np.int64(10))
    kept = run(config=config, sampler=Bootstrap(1)).config
    assert (kept.cluster_cap, type(kept.cluster_cap)) == (0.5, float)
    assert (kept.max_clusters, type(kept.max_clusters)) == (10, int)
    assert kept.profiles == CONFIG.profiles


def test_chunks_change_no_bit(study: Study) -> None:
    assert_same_bits(run(chunk_size=None), study)


def test_fewer_universes_are_the_first_of_more(study: Study) -> None:
    few = run(sampler=dataclasses.replace(SAMPLER, n=70))
    for name in ARRAYS:
        assert np.array_equal(getattr(few, name), getattr(study, name)[:70]), name


def test_another_study_compiles_nothing(study: Study) -> None:
    with count_compilations() as compiled:
        again = run(config=CONFIG.replace(cluster_cap=0.3))
    assert compiled.count == 0
    assert not np.array_equal(again.asset_weights, study.asset_weights)


def test_precision_of_32_draws_the_same_universes(study: Study) -> None:
    low = run(precision=32)
    assert low.asset_weights.dtype == low.volatility.dtype == np.float32
    assert low.precision == 32
    same = low.n_clusters == study.n_clusters
    assert same.mean() > 0.95
    assert np.abs(low.volatility - study.volatility)[same].max() < 1e-4


@pytest.mark.parametrize("x64", [False, True])
def test_callers_precision_is_left_alone(x64: bool, study: Study) -> None:
    with jax.enable_x64(x64):
        assert_same_bits(run(), study)
        with pytest.raises(InputError):
            run(chunk_size=0)
        assert jax.config.values["jax_enable_x64"] is x64


def test_progress_adds_up() -> None:
    steps: list[int] = []
    run(progress=steps.append)
    assert sum(steps) == SAMPLER.n
    assert min(steps) > 0
    assert len(steps) > 2


# Gaps


def test_assets_are_active_where_their_rows_are_complete() -> None:
    gaps = [(3, 2), (100, 7), (101, 7), (200, 0)]
    panel, sampler = with_gaps(*gaps), Bootstrap(150)
    study = run(panel, sampler=sampler)
    counts = sampler.counts(T, 5, 0, sampler.n)
    masks = np.array([[all(row[r] == 0 for r, c in gaps if c == column) for column in range(N)] for row in counts])
    assert np.array_equal(study.active, masks)
    assert 0 < masks[:, 7].sum() < masks[:, 2].sum() < sampler.n
    with jax.enable_x64(True):
        assert_is_batch(study, allocate_batch(panel.values, CONFIG, observation_weights=counts, asset_mask=masks))
    assert (study.asset_weights.transpose(0, 2, 1)[~masks] == 0).all()
    table = study.summary()
    for column, symbol in enumerate(MARKET.columns):
        assert (table.xs(symbol, level="symbol")["n_universes"] == masks[:, column].sum()).all()
    assert (study.point.cluster_labels[[2, 7, 0]] == -1).all()
    assert (table.xs(MARKET.columns[7], level="symbol")["point"] == 0).all()


def test_invalid_universes_are_counted_and_disturb_nobody(study: Study, tmp_path: Path) -> None:
    panel = with_gaps(*[(3, column) for column in range(N)])  # row 3 leaves no asset active
    broken = run(panel, out=tmp_path / "study")
    without = SAMPLER.counts(T, 5, 0, SAMPLER.n)[:, 3] == 0
    assert 0 < without.sum() < SAMPLER.n
    assert np.array_equal(broken.valid, without)
    # not bit for bit: another panel has other medians, about which its moments are taken
    np.testing.assert_allclose(broken.asset_weights[without], study.asset_weights[without], rtol=0, atol=1e-7)
    assert np.isnan(broken.asset_weights[~without]).all()
    assert (broken.status_counts()["INVALID"] == (~without).sum()).all()
    assert (broken.profile_summary()["valid_share"] == without.mean()).all()
    assert (broken.summary()["n_universes"] == without.sum()).all()
    assert broken.summary()["point"].isna().all()
    assert {path.name for path in (tmp_path / "study").iterdir()} == FILES
    assert len(pd.read_csv(tmp_path / "study/point_assets.csv")) == 0
    record = json.loads((tmp_path / "study/study.json").read_text(encoding="utf-8"))
    assert record["point_status"] == {"risk_parity": ["INVALID"], "barbell": ["INVALID"]}


def test_a_frame_with_gaps_is_refused() -> None:
    with pytest.raises(InputError, match="missing='mask'"):
        run(MARKET.where(MARKET.to_numpy() < 0.03))


# The folder

HOSTILE = ["universe", "=1+1", "profile", "symbol", "-x", "__index_level_0__", "a,b", "ü", "index", "@", "0", 'q"']


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("saved") / "not" / "there yet" / "study"
    return run(MARKET.set_axis(HOSTILE, axis=1), out=folder), folder


def test_folder_holds_what_it_says_and_nothing_else(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["study"]
    assert "".join(sorted(FILES)).count("weights_") == len(study.profiles)


def test_tables_of_universes_come_back_bit_for_bit(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    frames = {f"weights_{profile}": study.weights(profile) for profile in study.profiles}
    frames |= {"clusters": study.clusters(), "universes": study.universes()}
    for name, frame in frames.items():
        back = pd.read_parquet(folder / f"{name}.parquet")
        pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert list(pd.read_parquet(folder / "weights_barbell.parquet").columns) == HOSTILE


def test_summaries_come_back(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    for name, frame in (("summary", study.summary()), ("profiles", study.profile_summary())):
        back = pd.read_csv(folder / f"{name}.csv", dtype={"symbol": str})
        pd.testing.assert_frame_equal(back[frame.columns], frame.reset_index(drop=True), check_dtype=False)
    symbols = pd.read_csv(folder / "summary.csv", dtype={"symbol": str})["symbol"]
    assert list(symbols[:N]) == [f"'{s}" if s in ("=1+1", "-x", "@") else s for s in HOSTILE]


def test_point_estimate_comes_back(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    assets = pd.read_csv(folder / "point_assets.csv", dtype={"symbol": str})
    clusters = pd.read_csv(folder / "point_clusters.csv")
    for p, profile in enumerate(study.profiles):
        found = assets[assets["profile"] == profile].set_index("symbol")["weight"].rename(lambda s: s.removeprefix("'"))
        assert np.allclose(found[HOSTILE], study.point.weights[p], rtol=1e-15)
        sizes = clusters[clusters["profile"] == profile].set_index("cluster")["size"].sort_index()
        assert np.array_equal(sizes, np.bincount(study.point.cluster_labels))


def test_record_says_what_it_was_made_from(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    record = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert record["symbols"] == HOSTILE
    assert AllocationConfig(**record["config"] | {"profiles": tuple(record["config"]["profiles"])}) == CONFIG
    assert record["sampler"] == {"sampler": "Bootstrap", "n": 150, "method": "circular", "block_length": 21}
    assert (record["seed"], record["precision"]) == (5, 64)
    assert set(record["versions"]) == {"jaxalloc", "jax", "jaxlib", "numpy"}
    assert (record["data"]["first"], record["data"]["last"]) == ("2021-01-04", "2021-12-21")
    assert record["data"]["sha256"] == data_hash(Panel(MARKET.set_axis(HOSTILE, axis=1)))
    assert record["status_counts"]["barbell"] == study.status_counts().loc["barbell"].to_dict()
    assert set(record["point_status"]["barbell"]) == {b.name for b in Status(int(study.point.status[1]))}
    assert {name: record[name] for name in study.record} == json.loads(json.dumps(study.record))


def test_hash_sees_every_change() -> None:
    gap = with_gaps((3, 2))
    panels = [
        Panel(MARKET),
        Panel(MARKET.iloc[1:]),
        Panel(MARKET.set_axis(HOSTILE, axis=1)),
        Panel(MARKET * 1.0001),
        gap,
    ]
    panels.append(Panel(MARKET.set_axis(MARKET.index + pd.Timedelta(days=1), axis=0)))
    assert len({data_hash(panel) for panel in panels}) == len(panels)
    assert data_hash(Panel(MARKET.copy())) == data_hash(panels[0])
    other_gap = gap.returns.copy()
    other_gap.iloc[3, 2] = -np.float64("nan")  # a gap is a gap, whatever its bits
    assert data_hash(Panel(other_gap)) == data_hash(gap)


class Explosive:
    """A sampler that must not be asked to draw."""

    n = 10

    def check(self, n_rows: int) -> None:
        assert n_rows == T

    def counts(self, n_rows: int, seed: int, start: int, stop: int) -> np.ndarray:
        raise AssertionError("the universes were drawn")

    def settings(self) -> dict[str, Any]:
        return {}


def make_file(folder: Path) -> Path:
    (folder / "study").write_text("mine")
    return folder / "study"


def make_full_folder(folder: Path) -> Path:
    (folder / "study").mkdir()
    (folder / "study/mine").write_text("mine")
    return folder / "study"


def make_link(folder: Path) -> Path:
    (folder / "link").symlink_to(make_full_folder(folder))
    return folder / "link"


def make_file_with_line_break(folder: Path) -> Path:
    (folder / "a\nb").write_text("mine")
    return folder / "a\nb"


def make_path_through_file(folder: Path) -> Path:
    return make_file(folder) / "below"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_file, "is a file; nothing is overwritten: choose another folder, or delete it"),
        (make_full_folder, "is a folder with files in it; nothing is overwritten"),
        (make_link, "is a folder with files in it"),
        (make_file_with_line_break, "is a file"),
        (make_path_through_file, r"cannot write there \(Not a directory\); choose another folder"),
        (lambda folder: folder / ("x" * 300), "cannot write there .*; choose another folder"),
    ],
)
def test_a_folder_that_cannot_be_had_is_refused_before_computing(
    make: Callable[[Path], Path], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def explode(*_: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(study_module, "Engine", explode)
    with pytest.raises(InputError, match=message) as error:
        run(out=out, sampler=Explosive())
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("linked", [False, True])
def test_an_empty_folder_is_filled_and_stays_the_same_folder(linked: bool, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    if linked:
        (tmp_path / "link").symlink_to(folder)
    inode = folder.stat().st_ino
    run(sampler=Bootstrap(3), out=tmp_path / "link" if linked else folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert folder.stat().st_ino == inode
    assert len(list(tmp_path.iterdir())) == 1 + linked


def fail_in_progress(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> dict[str, Any]:
    seen: list[int] = []

    def progress(done: int) -> None:
        seen.append(done)
        if sum(seen) > SAMPLER.n / 2:
            raise error

    return {"progress": progress}


def fail_in_writing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> dict[str, Any]:
    write = pd.DataFrame.to_parquet

    def to_parquet(self: pd.DataFrame, path: Path, **options: Any) -> None:
        if path.name.startswith("universes"):
            raise error
        write(self, path, **options)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", to_parquet)
    return {}


def fail_in_moving(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> dict[str, Any]:
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.suffix == ".partial" or self.name == "study.json":  # as a whole, or the last file
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    return {}


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("fail", [fail_in_progress, fail_in_writing, fail_in_moving])
@pytest.mark.parametrize("out", ["study", "a/b/study", "empty"])
def test_whatever_stops_it_leaves_nothing_behind(
    fail: Callable[..., dict[str, Any]],
    error: BaseException,
    out: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = fail(monkeypatch, error)
    with pytest.raises(type(error)) as raised:
        run(out=tmp_path / out, **arguments)
    assert raised.value is error
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_what_others_put_beside_it_stays(tmp_path: Path) -> None:
    def progress(_: int) -> None:
        (tmp_path / "new" / "mine").write_text("mine")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "new" / "study", progress=progress)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["new", "new/mine"]


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def progress(_: int) -> None:
        os.makedirs(tmp_path / "study", exist_ok=True)
        (tmp_path / "study/mine").write_text("mine")

    with pytest.raises(OSError, match="not empty"):
        run(out=tmp_path / "study", progress=progress)
    assert [path.name for path in tmp_path.rglob("*")] == ["study", "mine"]


# Arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": 16}, "precision must be 32 or 64 bits, not 16"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"chunk_size": 0}, "chunk_size must be a whole number, at least 1, not 0"),
        ({"sampler": 1000}, r"sampler must draw universes, such as Bootstrap\(n=1000\), not be 1000"),
        ({"sampler": Bootstrap}, "sampler must draw universes"),
        ({"sampler": Bootstrap(10, "moving", T + 1)}, "block_length must be a whole number from 1 to 252"),
        ({"config": CONFIG.replace(cluster_cap=2)}, "cluster_cap must be"),
        ({"panel": MARKET.to_numpy()}, "expected a Panel or a pandas DataFrame"),
    ],
)
def test_bad_arguments_are_errors_and_leave_no_folder(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        run(**changes, out=tmp_path / "a/study")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
