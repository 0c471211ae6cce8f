"""A study's folder: whatever stops its writer, what was finished is there, whole, and going on gives the same bytes.

`work` is a small study written in any number of attempts; `FILES` is what it must leave, to the byte.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import make_file, make_file_with_line_break, make_full_folder, make_link, make_path_through_file

from jaxalloc.arguments.errors import InputError
from jaxalloc.storage.manifest import _checksum
from jaxalloc.storage.names import PARTIAL
from jaxalloc.storage.parquet import to_parquet
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.storage.writer import Store

IDENTITY = {
    "data": {"sha256": "ab12cd34" * 8, "n_assets": 4},
    "settings": {"cluster_cap": 0.25, "profiles": ["barbell", "risk_parity"]},
    "seed": 3,
}
N_CHUNKS = 3
FILES = {
    *("manifest.json", "manifest-copy.json", "lock", "summary.csv", "state/000003.parquet"),
    *(f"chunks/{number:06d}.parquet" for number in range(N_CHUNKS)),
}


def fixed_size(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def table(number: int, rows: int = 5) -> pa.Table:
    rng = np.random.default_rng(number)
    weights = rng.random((rows, 4))
    weights[: rows // 2, 0] = np.nan
    weights[rows // 2 :, 1] = -0.0
    return pa.table(
        {
            "universe": pa.array(np.arange(rows) + rows * number),
            "weights": fixed_size(weights),
            "labels": fixed_size(rng.integers(-1, 9, (rows, 4)).astype(np.int32)),
            "is_lead": fixed_size(weights > 0.5),
        }
    )


def summary(n_chunks: int) -> dict[str, np.ndarray]:
    return {"sum": np.arange(4.0) / 3 * n_chunks, "count": np.array(n_chunks)}


SUMMARY = b"asset,mean\nA,0.5\n"


def work(folder: Path, identity: dict[str, Any] = IDENTITY, /, **how: bool) -> None:
    """Do what is still to be done, in an order in which every kind of write follows every other."""
    with Store.open(folder, identity, **(how or {"resume": True})) as store:
        for number in range(N_CHUNKS):
            if number not in store.done:
                store.write_chunk(number, table(number))
            state = store.load_state()
            if state is None or state[0] <= number:
                store.save_state(number + 1, summary(number + 1))
        store.write_result("summary.csv", SUMMARY)
        store.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same_bits(one: pa.Table, other: pa.Table) -> None:
    """Equal, and the numbers to the bit: NaN equals NaN, and -0.0 does not equal 0.0."""
    assert one.schema == other.schema
    for name in one.column_names:
        flat = [t[name].combine_chunks() for t in (one, other)]
        if pa.types.is_fixed_size_list(one.schema.field(name).type):
            flat = [array.flatten() for array in flat]
        a, b = (array.to_numpy(zero_copy_only=False) for array in flat)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "study"
    work(folder)
    return contents(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished study."""
    work(tmp_path / "study")
    return tmp_path / "study"


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    return text


# What it holds


def test_importing_is_cheap() -> None:
    code = "import sys, jaxalloc.storage.writer; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"jax", "pandas", "pyarrow", "filelock"}


def test_folder_holds_what_it_says_and_nothing_else(undisturbed: dict[str, bytes]) -> None:
    assert set(undisturbed) == FILES
    assert all(data[:4] == b"PAR1" for name, data in undisturbed.items() if name.endswith(".parquet"))


def test_two_stores_of_the_same_are_the_same_bytes(undisturbed: dict[str, bytes], folder: Path) -> None:
    assert contents(folder) == undisturbed


def test_resuming_a_finished_study_changes_no_byte(undisturbed: dict[str, bytes], folder: Path) -> None:
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert store.finished
        assert store.done == frozenset(range(N_CHUNKS))
        assert store.damaged == ()
    work(folder)
    assert contents(folder) == undisturbed


def test_chunks_come_back_bit_for_bit(folder: Path) -> None:
    study = StoredStudy.open(folder)
    assert [number for number, _ in study.chunks()] == list(range(N_CHUNKS))
    for number, back in study.chunks():
        assert_same_bits(back, table(number))
    for number, back in study.chunks(iter(["is_lead", "weights"])):
        assert_same_bits(back, table(number).select(["is_lead", "weights"]))
    assert study.manifest.chunks[1].count == 5
    assert study.manifest.finished


def test_plain_parquet_readers_read_the_chunks(folder: Path) -> None:
    assert_same_bits(pq.read_table(folder / "chunks/000001.parquet"), table(1))


@pytest.mark.parametrize("rows", [0, 1, 3000])
def test_chunks_of_any_length(rows: int, tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        store.write_chunk(0, table(0, rows))
        assert_same_bits(store.stored.chunk(0), table(0, rows))


def test_a_tables_bytes_depend_on_its_rows_alone(tmp_path: Path) -> None:
    long = table(0, 100_000)  # several pages
    part = long.slice(10, 60_000)
    pieces = pa.concat_tables([long.slice(10, 33_333), long.slice(33_343, 7), long.slice(33_350, 26_660)])
    for number, same in enumerate((part, pieces, part.take(np.arange(part.num_rows)))):
        with Store.open(tmp_path / str(number), IDENTITY) as store:
            store.write_chunk(5, same)
    first, *others = (contents(tmp_path / str(number))["chunks/000005.parquet"] for number in range(3))
    assert others == [first, first]
    assert to_parquet(part) == to_parquet(pieces)


def test_chunks_in_any_order_are_read_in_theirs(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        for number in (7, 2, 1_000_000, 0):
            store.write_chunk(number, table(number))
        assert store.done == {0, 2, 7, 1_000_000}
    study = StoredStudy.open(tmp_path / "study")
    assert [number for number, _ in study.chunks(["universe"])] == [0, 2, 7, 1_000_000]
    with Store.open(tmp_path / "study", IDENTITY, resume=True) as store:
        assert store.done == {0, 2, 7, 1_000_000}


@pytest.mark.parametrize("number", [0, -1])
def test_a_chunk_is_written_once(number: int, tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        store.write_chunk(0, table(0))
        before = contents(tmp_path / "study")
        with pytest.raises(ValueError, match=f"chunk {number} is finished already, or no chunk's number"):
            store.write_chunk(number, table(1))
    assert contents(tmp_path / "study") == before


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "bool", ">f8", ">i4", "uint8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_state_arrays_come_back_bit_for_bit(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    kind = np.dtype(dtype)
    size = int(np.prod(shape))
    raw = np.random.default_rng(1).integers(0, 2 if kind.kind == "b" else 256, size * kind.itemsize, np.uint8)
    values = raw.view(kind).reshape(shape)  # any bits, NaNs and infinities among them
    state = {"a": values, "b,\n'ü'": values.T, "strided": np.concatenate([values.reshape(-1)] * 2)[::2]}
    with Store.open(tmp_path / "study", IDENTITY) as store:
        store.save_state(12, state)
        n_chunks, back = store.load_state() or pytest.fail("no state")
    assert n_chunks == 12
    assert list(back) == list(state)
    for name, array in state.items():
        assert back[name].shape == array.shape
        assert back[name].dtype == kind.newbyteorder("=")
        assert back[name].astype(array.dtype).tobytes() == array.tobytes()
        assert back[name].flags.writeable


def test_special_numbers_of_a_state_come_back(tmp_path: Path) -> None:
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324])
    with Store.open(tmp_path / "study", IDENTITY) as store:
        store.save_state(0, {"special": special})
        _, back = store.load_state() or pytest.fail("no state")
        store.save_state(1, {})
        assert store.load_state() == (1, {})
    assert back["special"].tobytes() == special.tobytes()


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([None]), np.array([1j]), np.array(["2020"], "M8[Y]")])
def test_a_state_holds_numbers_only(values: np.ndarray, tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store, pytest.raises(TypeError, match="'x' is an array of"):
        store.save_state(0, {"x": values})


def test_only_the_newest_state_is_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        assert store.load_state() is None
        for n_chunks in (1, 5, 3, 3):
            store.save_state(n_chunks, summary(n_chunks))
            assert [path.name for path in (tmp_path / "study/state").iterdir()] == [f"{n_chunks:06d}.parquet"]
    with Store.open(tmp_path / "study", IDENTITY, resume=True) as store:
        assert (store.load_state() or pytest.fail("no state"))[0] == 3


def test_a_reader_gets_the_newer_state_if_the_one_it_knows_is_gone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        store.save_state(1, summary(1))
        reader = StoredStudy.open(tmp_path / "study")
        store.save_state(2, summary(2))
        n_chunks, back = reader.state() or pytest.fail("no state")
    assert n_chunks == 2
    assert np.array_equal(back["sum"], summary(2)["sum"])


def test_results_come_back(folder: Path) -> None:
    assert StoredStudy.open(folder).result("summary.csv") == (folder / "summary.csv").read_bytes()
    with pytest.raises(InputError, match=r"profiles\.csv of .* is not there yet; run the study again") as error:
        StoredStudy.open(folder).result("profiles.csv")
    one_line(error)
    (folder / "summary.csv").write_text("edited")
    with pytest.raises(InputError, match=r"summary\.csv of .* is damaged; run the study again"):
        StoredStudy.open(folder).result("summary.csv")


def test_a_damaged_result_is_written_again(undisturbed: dict[str, bytes], folder: Path) -> None:
    (folder / "summary.csv").unlink()
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert not store.finished
        assert store.done == frozenset(range(N_CHUNKS))
    assert read_manifest(folder).results == {"summary.csv": None}  # type: ignore[union-attr]
    work(folder)
    assert contents(folder) == undisturbed


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "/tmp/x", "manifest.json", "lock", "chunks", "state", "other.csv"]
)
def test_a_results_name_is_a_files_name(name: str, tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store, pytest.raises(ValueError, match="is no name for a result"):
        store.write_result(name, SUMMARY)


def test_a_result_does_not_overwrite_what_others_put_there(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        (tmp_path / "study/summary.csv").write_text("mine")
        with pytest.raises(InputError, match=r"summary\.csv is not the study's; nothing is overwritten: move it away"):
            store.write_result("summary.csv", SUMMARY)
        assert (tmp_path / "study/summary.csv").read_text() == "mine"
        (tmp_path / "study/summary.csv").unlink()
        store.write_result("summary.csv", SUMMARY)


def test_a_closed_store_writes_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        pass
    before = contents(tmp_path / "study")
    for write in (lambda: store.write_chunk(0, table(0)), lambda: store.save_state(0, {}), store.finish):
        with pytest.raises(ValueError, match="is closed"):
            write()
    store.close()
    assert contents(tmp_path / "study") == before


# Damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, lengthen, Path.unlink])
def test_damaged_chunks_are_seen_and_done_again(
    damage: Callable[[Path], None], undisturbed: dict[str, bytes], folder: Path
) -> None:
    damage(folder / "chunks/000001.parquet")
    reader = StoredStudy.open(folder).chunks(["universe"])
    assert next(reader)[0] == 0
    message = r"chunk 1 of .*study is damaged; run the study again with resume=True to redo it"
    with pytest.raises(InputError, match=message) as error:
        next(reader)
    one_line(error)
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert store.done == {0, 2}
        assert store.damaged == (1,)
        assert not store.finished
        assert store.load_state() is not None
    work(folder)
    assert contents(folder) == undisturbed


def test_swapped_chunks_are_seen(undisturbed: dict[str, bytes], folder: Path) -> None:
    one, other = (folder / f"chunks/00000{number}.parquet" for number in (0, 2))
    one.rename(folder / "between")
    other.rename(one)
    (folder / "between").rename(other)
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert store.done == {1}
        assert store.damaged == (0, 2)
    work(folder)
    assert contents(folder) == undisturbed


def test_a_chunk_that_is_not_there_has_a_message(folder: Path) -> None:
    with pytest.raises(InputError, match=r"chunk 9 of .* is not finished; run the study again with resume=True"):
        StoredStudy.open(folder).chunk(9)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, lengthen, Path.unlink])
def test_a_damaged_state_is_none(damage: Callable[[Path], None], undisturbed: dict[str, bytes], folder: Path) -> None:
    damage(folder / "state/000003.parquet")
    assert StoredStudy.open(folder).state() is None
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert store.load_state() is None
        store.save_state(N_CHUNKS, summary(N_CHUNKS))
        assert store.load_state() is not None
    assert contents(folder) == undisturbed


def mended(content: dict[str, Any]) -> str:
    """A manifest with these entries, and the checksum that fits them."""
    content = {name: value for name, value in content.items() if name != "sha256"}
    return json.dumps(content | {"sha256": _checksum(content)})


def bare(folder: Path) -> None:
    """Leave nothing that a manifest could be made from: no copy, no chunk and no state."""
    (folder / "manifest-copy.json").unlink()
    for path in (*folder.glob("chunks/*"), *folder.glob("state/*")):
        path.unlink()


@pytest.mark.parametrize("alone", [False, True])
def test_every_flipped_bit_of_a_manifest_is_seen(alone: bool, folder: Path) -> None:
    path = folder / "manifest.json"
    data, manifest = path.read_bytes(), read_manifest(folder)
    assert manifest is not None
    if alone:
        bare(folder)
    for i in range(len(data) - 1):  # the last byte ends the line
        for bit in range(8):
            path.write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :])
            if alone:
                with pytest.raises(InputError):
                    read_manifest(folder)
            else:
                assert read_manifest(folder) == manifest


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "{}", '{"name": "web page"}', "\x00", "\ufeff{}"])
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"fresh": True}])
def test_a_manifest_that_is_none_is_refused_and_nothing_touched(text: str, how: dict[str, bool], folder: Path) -> None:
    bare(folder)
    (folder / "manifest.json").write_text(text)
    before = contents(folder)
    message = r"its manifest\.json is damaged, or another program's; choose another folder, or delete it"
    for read in (lambda: Store.open(folder, IDENTITY, **how), lambda: StoredStudy.open(folder)):
        with pytest.raises(InputError, match=message) as error:
            read()
        one_line(error)
    assert contents(folder) == before


def test_a_truncated_manifest_is_seen(folder: Path) -> None:
    data, manifest = (folder / "manifest.json").read_bytes(), read_manifest(folder)
    for length in range(0, len(data) - 1, 7):
        (folder / "manifest.json").write_bytes(data[:length])
        assert read_manifest(folder) == manifest
    bare(folder)
    for length in range(0, len(data) - 1, 7):
        (folder / "manifest.json").write_bytes(data[:length])
        with pytest.raises(InputError, match="is damaged"):
            read_manifest(folder)


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"fresh": True}])
def test_a_newer_format_is_refused(how: dict[str, bool], folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(mended(content | {"version": 2, "news": []}))
    before = contents(folder)
    with pytest.raises(
        InputError, match="is a study in format 2, and this version of jaxalloc reads format 1"
    ) as error:
        Store.open(folder, IDENTITY, **how)
    one_line(error)
    assert contents(folder) == before


def test_no_store_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "not there", tmp_path / "file", tmp_path / "file/below"):
        assert read_manifest(path) is None
        with pytest.raises(InputError, match="no study is stored there"):
            StoredStudy.open(path)


# Opening


def test_parents_are_made_and_an_empty_folder_stays_the_same(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inode = (tmp_path / "empty").stat().st_ino
    for path in (tmp_path / "a/b c/study", tmp_path / "empty"):
        work(path, resume=False)
        assert contents(path) == undisturbed
    assert (tmp_path / "empty").stat().st_ino == inode


@pytest.mark.parametrize("how", [{"resume": True}, {"fresh": True}])
def test_resume_and_fresh_start_where_there_is_nothing(
    how: dict[str, bool], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    work(tmp_path / "study", **how)
    assert contents(tmp_path / "study") == undisturbed


def test_a_store_is_neither_resumed_nor_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    message = "holds a finished study: go on with it with resume=True, replace it with fresh=True, or choose another"
    with pytest.raises(InputError, match=message) as error:
        Store.open(folder, IDENTITY)
    one_line(error)
    with pytest.raises(InputError, match="resume=True goes on and fresh=True starts again: choose one of them"):
        Store.open(folder, IDENTITY, resume=True, fresh=True)
    Store.open(tmp_path / "other", IDENTITY).close()
    with pytest.raises(InputError, match="holds an unfinished study"):
        Store.open(tmp_path / "other", IDENTITY)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed 3 (now 4)"),
        ({"seed": True}, "seed 3 (now True)"),
        ({"seed": "3"}, "seed 3 (now '3')"),
        ({"seed": None}, "seed 3 (now None)"),
        ({"keep": "weights"}, "keep absent (now weights)"),
        ({"data": {"n_assets": 4}}, "data.sha256 ab12cd34... (now absent)"),
        (
            {"data": {"sha256": "cd34ab12" * 8, "n_assets": 5}},
            "data.sha256 ab12cd34... (now cd34ab12...), data.n_assets 4 (now 5)",
        ),
        (
            {"seed": 4, "settings": {"cluster_cap": 0.3, "profiles": ["barbell"]}},
            "settings.cluster_cap 0.25 (now 0.3), settings.profiles ['barbell', 'risk_parity'] (now ['barbell']), "
            "seed 3 (now 4)",
        ),
        ({"data": "a\nb\u2028\x1b"}, r"(now a\nb\u2028\x1b)"),
        ({"data": {**IDENTITY["data"], "a\nb": 1}}, r"data.a\nb absent (now 1)"),
    ],
)
def test_every_difference_is_named(changes: dict[str, Any], named: str, folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(InputError) as error:
        Store.open(folder, IDENTITY | changes, resume=True)
    text = one_line(error)
    assert f"{folder} was made with other settings: " in text
    assert f"{named}; take the same ones, choose another folder, or replace it with fresh=True" in text
    assert text.count("(now ") == named.count("(now ")
    assert contents(folder) == before
    work(folder)  # the lock is free, and the store as it was
    assert contents(folder) == before


def test_many_and_long_differences_are_cut_where_they_begin(tmp_path: Path) -> None:
    then = {f"k{i}": i for i in range(9)} | {"long": "x" * 300 + "A end"}
    Store.open(tmp_path / "study", then).close()
    with pytest.raises(InputError) as error:
        Store.open(tmp_path / "study", dict.fromkeys(then, -1), resume=True)
    assert "k5 5 (now -1), and 4 more; take" in one_line(error)
    with pytest.raises(InputError) as error:
        Store.open(tmp_path / "study", then | {"long": "x" * 300 + "B end"}, resume=True)
    assert "long ...xxxxxxxxxxA end (now ...xxxxxxxxxxB end); take" in one_line(error)


def test_an_equal_identity_is_equal_however_it_came(folder: Path) -> None:
    settings = {"profiles": ("barbell", "risk_parity"), "cluster_cap": 0.25}
    with Store.open(folder, {"seed": 3.0, "settings": settings, "data": IDENTITY["data"]}, resume=True) as store:
        assert store.finished


def test_an_identity_is_plain_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Store.open(tmp_path / "study", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def make_chunks_without_manifest(folder: Path) -> Path:
    (folder / "study/chunks").mkdir(parents=True)
    (folder / "study/chunks/000000.parquet").write_text("mine")
    return folder / "study"


def make_lock_folder(folder: Path) -> Path:
    (folder / "study/lock").mkdir(parents=True)
    return folder / "study"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_file, "study is a file; nothing is overwritten: choose another folder, or delete it"),
        (make_full_folder, "study is a folder with files in it; nothing is overwritten: choose another folder, or"),
        (make_link, "study is a folder with files in it"),
        (make_file_with_line_break, r"a\\nb\\u2028 is a file"),
        (make_path_through_file, r"below: cannot write there \(Not a directory\); choose another folder"),
        (make_chunks_without_manifest, "study is a folder with files in it"),
        (
            make_lock_folder,
            "lock is no plain file, where a file of jaxalloc.s must be; move it away, or choose another",
        ),
        (lambda folder: folder / "new" / ("x" * 300), r"cannot write there \(File name too long\); choose another"),
    ],
)
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"fresh": True}])
def test_a_folder_that_cannot_be_had_is_refused_and_nothing_touched(
    make: Callable[[Path], Path], message: str, how: dict[str, bool], tmp_path: Path
) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message) as error:
        Store.open(path, IDENTITY, **how)
    one_line(error)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody can write to")
def test_an_unwritable_place_is_refused() -> None:
    with pytest.raises(InputError, match=r"^/proc/study: cannot write there \(.*\); choose another folder$"):
        Store.open("/proc/study", IDENTITY)


@pytest.mark.parametrize("call", ["mkdir", "write", "replace", "fsync"])
def test_a_forbidden_place_is_refused(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(InputError, match=r"a/study: cannot write there \(Permission denied\); choose another") as error:
        Store.open(tmp_path / "a/study", IDENTITY)
    one_line(error)
    monkeypatch.undo()
    work(tmp_path / "a/study", resume=False)  # whatever is left there counts as empty


def test_a_store_behind_a_link(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere/study")
    for link, real in (("link", "real"), ("dangling", "elsewhere/study")):
        work(tmp_path / link, resume=False)
        work(tmp_path / real)
        assert (tmp_path / link).is_symlink()
        assert contents(tmp_path / real) == undisturbed
    with Store.open(tmp_path / "link", IDENTITY, resume=True), pytest.raises(InputError, match="another process"):
        Store.open(tmp_path / "real", IDENTITY, resume=True)


def test_leftovers_of_a_dead_writer_are_removed(undisturbed: dict[str, bytes], folder: Path) -> None:
    leftovers = [
        *(f".manifest.json{PARTIAL}", f".profiles.csv{PARTIAL}", f"chunks/.000007.parquet{PARTIAL}"),
        *("chunks/000007.parquet", "state/000002.parquet", f"state/.000004.parquet{PARTIAL}"),
    ]
    mine = ["notes.txt", ".download.partial", "chunks/mine.parquet", "chunks/7.parquet", "state/mine"]
    for name in leftovers + mine:
        (folder / name).write_text("left")
    work(folder)
    assert contents(folder) == undisturbed | dict.fromkeys(mine, b"left")


def test_fresh_removes_what_the_store_wrote_and_nothing_else(undisturbed: dict[str, bytes], folder: Path) -> None:
    with Store.open(folder, IDENTITY, resume=True) as store:
        store.write_chunk(17, table(17))
        store.write_result("profiles.csv", SUMMARY)
        store.save_state(18, {})
    (folder / f".summary.csv{PARTIAL}").write_text("left")
    mine = ["notes.txt", "study.json", "report/index.html", "chunks/mine.parquet", "state/mine", ".x.partial"]
    (folder / "report").mkdir()
    for name in mine:
        (folder / name).write_text("mine")
    with Store.open(folder, IDENTITY | {"seed": 4}, fresh=True) as store:
        assert store.done == frozenset()
        assert not store.finished
        assert store.load_state() is None
    assert set(contents(folder)) == {"manifest.json", "manifest-copy.json", "lock", *mine}
    work(folder, fresh=True)
    assert contents(folder) == undisturbed | dict.fromkeys(mine, b"mine")


# Interrupted, killed, out of space


CHANGES = ("mkdir", "rmdir", "write", "fsync", "replace", "unlink")  # of `os`: all that changes the disk


class Stopped(BaseException):
    """What a test stops the writer with."""


@contextlib.contextmanager
def stop_at(monkeypatch: pytest.MonkeyPatch, at: int, dead: bool, after: bool) -> Iterator[None]:
    """Stop at the call number ``at`` of those that change the disk, before it or after it.

    A dead writer changes nothing from there on; one that is not dead may clean up.
    """
    count = 0

    def stopping(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count > at and dead:
                raise Stopped
            if count != at:
                return call(*args, **kwargs)
            if after:
                with contextlib.suppress(FileExistsError):
                    call(*args, **kwargs)
            raise Stopped

        return called

    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, stopping(getattr(os, name)))
        yield


def stop_everywhere(
    monkeypatch: pytest.MonkeyPatch, folders: Iterator[Path], dead: bool, after: bool, **how: bool
) -> Iterator[Path]:
    """Folders in which `work` was stopped at its first change of the disk, its second ... until it comes through."""
    for at, folder in enumerate(folders, start=1):
        with stop_at(monkeypatch, at, dead, after):
            try:
                work(folder, **how)
            except Stopped:
                stopped = True
            else:
                stopped = False
        if not stopped:
            assert at > 30
            return
        yield folder


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dead", [False, True])
def test_a_writer_may_be_stopped_anywhere(
    dead: bool, after: bool, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    folders = (tmp_path / f"{number}" for number in itertools.count())
    for folder in stop_everywhere(monkeypatch, folders, dead, after):
        manifest = read_manifest(folder)
        if manifest is not None:
            seen.add(len(manifest.chunks))
            study = StoredStudy.open(folder)
            for number, back in study.chunks():
                assert_same_bits(back, table(number))
            if manifest.state is not None:
                n_chunks, arrays = study.state() or pytest.fail("the state is damaged")
                assert np.array_equal(arrays["sum"], summary(n_chunks)["sum"])
            with Store.open(folder, IDENTITY, resume=True) as store:
                assert store.damaged == ()
        work(folder)
        assert contents(folder) == undisturbed
    assert seen == set(range(N_CHUNKS + 1))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dead", [False, True])
def test_fresh_may_be_stopped_anywhere(
    dead: bool, after: bool, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = IDENTITY | {"seed": 4}
    work(tmp_path / "old", other)
    (tmp_path / "old/notes.txt").write_text("mine")
    old, new = contents(tmp_path / "old"), undisturbed | {"notes.txt": b"mine"}
    copies = (shutil.copytree(tmp_path / "old", tmp_path / f"{number}") for number in itertools.count())
    seen = set()
    for number, folder in enumerate(stop_everywhere(monkeypatch, copies, dead, after, fresh=True)):
        manifest = read_manifest(folder)
        assert manifest is not None
        is_new = manifest.identity == IDENTITY
        seen.add(is_new)
        # what it names is there
        assert len(list(StoredStudy.open(folder).chunks())) == len(manifest.chunks)
        if number % 2:
            work(folder, fresh=True)
            assert contents(folder) == new
        else:  # it is one of the two, and can be resumed as that
            work(folder, IDENTITY if is_new else other)
            assert contents(folder) == (new if is_new else old)
    assert seen == {False, True}


WRITER = """
import sys
import numpy as np, pyarrow as pa
from jaxalloc.storage.writer import Store
folder, n_chunks = sys.argv[1], int(sys.argv[2])
with Store.open(folder, {"seed": 1}, resume=True) as store:
    print("opened", len(store.damaged), flush=True)
    for number in range(n_chunks):
        if number not in store.done:
            store.write_chunk(number, pa.table({"x": np.arange(100.0) * number}))
            store.save_state(number + 1, {"number": np.full(1000, number)})
            print(number, flush=True)
    store.write_result("summary.csv", b"done")
    store.finish()
"""


def start_writer(folder: Path, n_chunks: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", WRITER, str(folder), str(n_chunks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_writer_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(1)
    total, reached = 150, 0
    for _ in range(10):
        with start_writer(tmp_path / "killed", total) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "opened 0\n"  # nothing that was finished is damaged
            for _ in range(rng.randrange(4)):
                writer.stdout.readline()
            threading.Event().wait(rng.random() * 0.01)
            writer.kill()
        assert writer.returncode == -signal.SIGKILL
        manifest = read_manifest(tmp_path / "killed")
        assert manifest is not None
        assert reached <= len(manifest.chunks) < total
        reached = len(manifest.chunks)
        for number, back in StoredStudy.open(tmp_path / "killed").chunks():
            assert np.array_equal(back["x"].to_numpy(), np.arange(100.0) * number)
    assert reached > 0
    for name in ("killed", "undisturbed"):
        with start_writer(tmp_path / name, total) as writer:
            writer.communicate()
        assert writer.returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


HOLDER = """
import sys
from jaxalloc.storage.writer import Store
with Store.open(sys.argv[1], {"seed": 1}):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["kill", "close"])
def test_there_is_one_writer_and_its_lock_dies_with_it(end: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", HOLDER, str(tmp_path / "study")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        before = contents(tmp_path / "study")
        for how in ({"resume": True}, {"fresh": True}):
            with pytest.raises(InputError, match=r"another process is writing to .*study; wait for it, or") as error:
                Store.open(tmp_path / "study", {"seed": 1}, **how)
            one_line(error)
        assert contents(tmp_path / "study") == before
        assert StoredStudy.open(tmp_path / "study").manifest.identity == {"seed": 1}
        if end == "kill":
            holder.kill()
        else:
            holder.stdin.close()
        holder.wait()
    Store.open(tmp_path / "study", {"seed": 1}, resume=True).close()


def test_there_is_one_writer_in_a_process(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY), pytest.raises(InputError, match="another process is writing to"):
        Store.open(tmp_path / "study", IDENTITY, resume=True)
    Store.open(tmp_path / "study", IDENTITY, resume=True).close()


def test_a_store_may_be_closed_in_another_thread(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "study", IDENTITY)
    thread = threading.Thread(target=store.close)
    thread.start()
    thread.join()
    Store.open(tmp_path / "study", IDENTITY, resume=True).close()


FULL_DISK = """
import resource, sys
import numpy as np, pyarrow as pa
from jaxalloc.storage.writer import Store
big = np.random.default_rng(1).random(100_000)
tasks = {
    "chunk": lambda store: store.write_chunk(1, pa.table({"x": big})),
    "state": lambda store: store.save_state(2, {"x": big}),
    "result": lambda store: store.write_result("summary.csv", big.tobytes()),
}
with Store.open(sys.argv[1], {"seed": 1}) as store:
    store.write_chunk(0, pa.table({"x": big[:10]}))
    store.save_state(1, {"x": big[:10]})
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        tasks[sys.argv[2]](store)
    except OSError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("what", "path"),
    [("chunk", "chunks/000001.parquet"), ("state", "state/000002.parquet"), ("result", "summary.csv")],
)
def test_a_file_that_does_not_fit_is_an_error_and_the_rest_is_kept(what: str, path: str, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    folder = tmp_path / "study"
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(folder), what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"{folder / path}: could not be written (File too large); all finished chunks (1) are kept: "
        "correct that, then run the study again with resume=True\n"
    )
    assert set(contents(folder)) == {
        *("manifest.json", "manifest-copy.json", "lock", "chunks/000000.parquet", "state/000001.parquet"),
    }
    with Store.open(folder, {"seed": 1}, resume=True) as store:
        assert store.done == {0}
        assert store.damaged == ()
        assert (store.load_state() or pytest.fail("no state"))[0] == 1
        store.write_chunk(1, table(1))
        store.save_state(2, summary(2))
        store.write_result("summary.csv", SUMMARY)


@pytest.mark.parametrize("name", ["000001.parquet", "manifest.json", "summary.csv", "000003.parquet"])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_any_failed_write_leaves_the_old_files_and_the_run_goes_on(
    name: str, call: str, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    with Store.open(folder, IDENTITY) as store:
        store.write_chunk(0, table(0))
    before = contents(folder)
    partial = f".{name}{PARTIAL}"
    calls = {"write": os.write, "fsync": os.fsync, "replace": os.replace}

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def is_it(descriptor: int) -> bool:
        return any(path.stat().st_ino == os.fstat(descriptor).st_ino for path in folder.rglob(partial))

    def write_half(descriptor: int, data: memoryview) -> int:
        if is_it(descriptor):
            calls["write"](descriptor, data[: len(data) // 2])
            fail()
        return calls["write"](descriptor, data)

    def failing_fsync(descriptor: int) -> None:
        fail() if is_it(descriptor) else calls["fsync"](descriptor)

    def failing_replace(source: str, target: str, **places: Any) -> None:
        fail() if source == partial else calls["replace"](source, target, **places)

    failing = {"write": write_half, "fsync": failing_fsync, "replace": failing_replace}
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing[call])
        with pytest.raises(OSError, match=rf"{name}: could not be written \(No space left on device\)") as error:
            work(folder)
    assert error.value.errno == errno.ENOSPC
    assert "all finished chunks (" in one_line(error)
    assert not list(folder.rglob(f"*{PARTIAL}"))
    after = contents(folder)
    assert before["chunks/000000.parquet"] == after["chunks/000000.parquet"]
    assert read_manifest(folder) is not None
    if name == "manifest.json":
        assert after["manifest.json"] == before["manifest.json"]
    work(folder)
    assert contents(folder) == undisturbed


def test_files_are_synced_before_they_are_named_and_named_before_the_manifest_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        (path,) = (path for path in (folder, *folder.rglob("*")) if path.stat().st_ino == inode)
        events.append(("sync", str(path.relative_to(folder))))
        fsync(descriptor)

    def recording_replace(source: str, target: str, src_dir_fd: int, dst_dir_fd: int) -> None:
        assert src_dir_fd == dst_dir_fd
        (place,) = (path for path in (folder, *folder.rglob("*")) if path.stat().st_ino == os.fstat(src_dir_fd).st_ino)
        events.append(tuple(str((place / name).relative_to(folder)) for name in (source, target)))
        replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def expected(path: str) -> list[tuple[str, str]]:
        parent, _, name = path.rpartition("/")
        partial = f"{parent}/.{name}{PARTIAL}".lstrip("/")
        return [("sync", partial), (partial, path), ("sync", parent or ".")]

    with Store.open(folder, IDENTITY) as store:
        monkeypatch.setattr(os, "fsync", recording_fsync)
        monkeypatch.setattr(os, "replace", recording_replace)
        manifest = expected("manifest.json")
        for write, path in (
            (lambda: store.write_chunk(0, table(0)), "chunks/000000.parquet"),
            (lambda: store.save_state(1, summary(1)), "state/000001.parquet"),
        ):
            events.clear()
            write()
            assert events == expected(path) + manifest
        events.clear()
        store.write_result("summary.csv", SUMMARY)
        both = manifest + expected("manifest-copy.json")
        assert events == both + expected("summary.csv") + both  # owned, written, finished
        events.clear()
        store.finish()
        assert events == both


# Threads


def test_chunks_may_be_written_in_threads_while_others_look(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    with Store.open(tmp_path / "study", IDENTITY) as store:

        def write(first: int) -> None:
            try:
                for number in range(first, 60, 3):
                    store.write_chunk(number, table(number))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        before: frozenset[int] = frozenset()
        while len(before) < 60 and any(thread.is_alive() for thread in threads):
            done = store.done
            assert before <= done
            for number in done - before:
                assert store.stored.chunk(number, ["universe"]).num_rows == 5
            before = done
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.done == frozenset(range(60))
    with Store.open(tmp_path / "study", IDENTITY, resume=True) as store:
        assert store.done == frozenset(range(60))
