"""Folders that somebody or something has changed: the same results, a recomputation or one line, and nothing else.

A fuzzer changes a folder in every way that a file system allows; then it is loaded, resumed and replaced. Kills stop a
run at each of its changes of the disk.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.storage.manifest import _checksum
from jaxalloc.storage.names import CHUNKS, COPY, MANIFEST, RESULTS, STATE, is_in_study, number_of, partial_name
from jaxalloc.storage.recovery import read_manifest

MARKET = ja.datasets.synthetic_market(n_assets=6, n_observations=64)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "barbell"))
SAMPLER = ja.Bootstrap(1100)  # three chunks
WALK: dict[str, Any] = {
    "window": 40,
    "step": 8,
    "paths": ja.Bootstrap(3, "circular", 5),
    "bagging": ja.Bootstrap(4, "iid"),
    "benchmark": MARKET.columns[0],
    "costs_bps": [1, 5],
}
Numbers = dict[str, np.ndarray]


def study(folder: Path, **how: bool) -> ja.Study:
    return ja.run_study(MARKET, SAMPLER, CONFIG, 7, folder, chunk_size=512, **how)


def walk(folder: Path, **how: bool) -> ja.WalkForward:
    return ja.walk_forward(MARKET, CONFIG, out=folder, **WALK, **how)


def of_study(found: ja.Study, name: str = "") -> Numbers:
    """Every number of a study."""
    numbers = {profile: found.weights(profile).to_numpy() for profile in found.profiles}
    numbers |= {"clusters": found.clusters().to_numpy(), "correlation": found.correlation}
    numbers["universes"] = found.universes().drop(columns="profile").to_numpy(float)
    for table in ("summary", "profile_summary", "status_counts", "co_association"):
        numbers[table] = getattr(found, table)().to_numpy()
    numbers |= found.totals[0].arrays() | {"estimate": found.estimates.weights}
    return {name + key: np.asarray(value) for key, value in numbers.items()}


def of_walk(found: ja.WalkForward) -> Numbers:
    """Every number of a walk-forward."""
    assert found.path_figures is not None
    assert found.bagged is not None
    assert found.path_allocations is not None
    numbers = {name: np.asarray(value) for name, value in found.history._asdict().items()}
    numbers |= {f"bagged.{name}": np.asarray(value) for name, value in found.bagged._asdict().items()}
    numbers |= {"paths": found.path_figures, "benchmark": found.benchmark_returns.to_numpy()}
    numbers |= {"summary": found.summary().to_numpy(), "dates": found.dates.to_numpy()}
    return numbers | of_study(found.allocations, "a.") | of_study(found.path_allocations, "p.")


class Kind(NamedTuple):
    """A kind of folder: how it is run, loaded, and what its numbers are."""

    run: Callable[..., Any]
    load: Callable[[Path], Any]
    numbers: Callable[[Any], Numbers]


KINDS = {"study": Kind(study, ja.load_study, of_study), "walk": Kind(walk, ja.load_walk_forward, of_walk)}


@functools.cache
def undamaged(kind: str, parent: Path) -> tuple[Path, Numbers]:
    """A finished folder, which is to be copied, and its numbers."""
    folder = parent / f"undamaged-{kind}"
    return folder, KINDS[kind].numbers(KINDS[kind].run(folder))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folders")


def same(one: Numbers, other: Numbers) -> bool:
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape and one[name].tobytes() == other[name].tobytes() for name in one
    )


def one_line(error: InputError) -> str:
    text = str(error)
    assert len(text.splitlines()) == 1, text
    assert text.isprintable(), text
    return text


def everything(folder: Path) -> dict[str, Any]:
    """All that lies below a folder: bytes of files, targets of links."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


# Ways to change a folder


def files(folder: Path, suffix: str = "") -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file() and not path.is_symlink())


def flip(folder: Path, rng: random.Random, outside: Path) -> None:
    """Change bits of a file, most often one."""
    path = rng.choice(files(folder))
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 9)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def flip_both_manifests(folder: Path, rng: random.Random, outside: Path) -> None:
    for path in (folder / MANIFEST, folder / COPY):
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def resize(folder: Path, rng: random.Random, outside: Path) -> None:
    path = rng.choice(files(folder))
    size = path.stat().st_size
    os.truncate(path, rng.choice((0, rng.randrange(size + 1), size + rng.randrange(1, 999), 2**33)))


def remove(folder: Path, rng: random.Random, outside: Path) -> None:
    for path in rng.sample(files(folder), rng.choice((1, 1, 2, 5))):
        path.unlink()


def rename(folder: Path, rng: random.Random, outside: Path) -> None:
    """Give a file the name of another one of its folder, or the next number."""
    path = rng.choice(files(folder))
    others = [other for other in path.parent.iterdir() if other.is_file()]
    names = [rng.choice(others).name, "000001.parquet", "000009.parquet", "notes.txt", "study.json"]
    os.replace(path, path.with_name(rng.choice(names)))


def duplicate(folder: Path, rng: random.Random, outside: Path) -> None:
    path = rng.choice(files(folder))
    names = [rng.choice(files(folder)).name, "000001.parquet", "000003.parquet", "000009.parquet", MANIFEST]
    (path.parent / "twin").write_bytes(path.read_bytes())
    os.replace(path.parent / "twin", path.with_name(rng.choice(names)))


def link(folder: Path, rng: random.Random, outside: Path) -> None:
    """Move a file or a folder out of the folder, and put a link in its place."""
    path = rng.choice(sorted(folder.rglob("*")))
    target = outside / f"moved-{path.name}"
    shutil.move(path, target)
    path.symlink_to(target)


def plant(folder: Path, rng: random.Random, outside: Path) -> None:
    """Put a link to a victim, or no plain file, where one of ours is to be written."""
    inner = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    names = [MANIFEST, COPY, "lock", "study.json", "summary.csv", "000000.parquet", "000001.parquet", "orders.csv"]
    names += [partial_name(name) for name in names if name != "lock"]
    path = rng.choice(inner) / rng.choice(names)
    if path.is_file():
        path.unlink()
    target = rng.choice((outside / "victim.txt", outside / "victim", outside / "nothing there"))
    how = rng.choice(("link", "link", "hard", "pipe", "folder"))
    if how == "link":
        path.symlink_to(target)
    elif how == "hard":
        os.link(outside / "victim.txt", path)
    elif how == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


ODD = (None, True, -1, 0, 1, 2, 0.5, 1e308, 10**30, "", "x", "../../evil.txt", "/etc/passwd", [], {}, [[]], "weights")
NAMES = ("../victim.txt", "../outside/victim.txt", "notes.txt", "-1", "00", "1e3", "lock", MANIFEST, "", "a\nb")


def odd(value: Any, rng: random.Random) -> Any:
    """Another value somewhere in a value of JSON."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        changed = dict(value)
        action = rng.random()
        if action < 0.1:
            del changed[key]
        elif action < 0.2:
            changed[rng.choice(NAMES)] = changed[key] if rng.random() < 0.5 else rng.choice(ODD)
        else:
            changed[key] = odd(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return rng.choice((value[:place] + value[place + 1 :], [*value, value[place]], _at(value, place, rng)))
    return rng.choice(ODD)


def _at(value: list[Any], place: int, rng: random.Random) -> list[Any]:
    return [*value[:place], odd(value[place], rng), *value[place + 1 :]]


def put_manifest(path: Path, content: dict[str, Any]) -> None:
    content.pop("sha256", None)
    path.write_text(json.dumps(content | {"sha256": _checksum(content)}))


def edit_manifest(folder: Path, rng: random.Random, outside: Path) -> None:
    """Edit a manifest by hand, mend its checksum, and now and then do the same to its copy."""
    path = rng.choice(sorted(folder.rglob(MANIFEST)))
    content = json.loads(path.read_text())
    for _ in range(rng.choice((1, 1, 2))):
        content = odd(content, rng)
        if not isinstance(content, dict):
            path.write_text(json.dumps(content))
            return
    put_manifest(path, content)
    if rng.random() < 0.4:
        (path.parent / COPY).write_bytes(path.read_bytes())


def forge(folder: Path, path: Path, data: bytes) -> None:
    """Replace a file of a study, and have its manifests name the new bytes."""
    path.write_bytes(data)
    own = path.parent if (path.parent / MANIFEST).exists() else path.parent.parent
    record = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for manifest in (own / MANIFEST, own / COPY):
        content = json.loads(manifest.read_text())
        if path.parent.name == CHUNKS:
            content["chunks"][str(int(path.stem))] |= record
        elif path.parent.name == STATE:
            content["state"] |= record
        else:
            content["results"][path.name] |= record
        put_manifest(manifest, content)


def edit_record(folder: Path, rng: random.Random, outside: Path) -> None:
    records = [path for path in files(folder, ".json") if path.name not in (MANIFEST, COPY)]
    path = rng.choice(records)
    forge(folder, path, json.dumps(odd(json.loads(path.read_text()), rng)).encode())


def forge_bytes(folder: Path, rng: random.Random, outside: Path) -> None:
    """Change bytes of a Parquet file, its footer above all, and have the manifest say that they are right."""
    path = rng.choice(files(folder, ".parquet"))
    data = bytearray(path.read_bytes())
    first = rng.choice((0, len(data) - min(len(data), 2500)))
    for _ in range(rng.choice((1, 3, 30))):
        data[rng.randrange(first, len(data))] = rng.randrange(256)
    forge(folder, path, bytes(data))


def forge_table(folder: Path, rng: random.Random, outside: Path) -> None:
    """Replace a table by one of another form, and have the manifest say that it is right."""
    path = rng.choice(files(folder, ".parquet"))
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    column = rng.choice(
        (
            pa.nulls(len(table)),
            pa.array(["x"] * len(table)),
            pa.array(np.arange(len(table))),
            pa.array([[]] * len(table)),
        )
    )
    forms = (
        lambda: table.drop_columns([name]),
        lambda: table.rename_columns([f"{each}?" if each == name else each for each in table.column_names]),
        lambda: table.set_column(table.column_names.index(name), name, column),
        lambda: table.slice(1),
        lambda: pa.concat_tables([table, table.slice(0, 1)]),
        lambda: pa.table({}),
    )
    forged = rng.choice(forms)()
    if rng.random() < 0.5:
        forged = forged.replace_schema_metadata(table.schema.metadata if rng.random() < 0.5 else None)
    sink = pa.BufferOutputStream()
    pq.write_table(forged, sink)
    forge(folder, path, sink.getvalue().to_pybytes())


# those that forge a checksum may change results: whoever may write to a folder can do so
FORGERIES = (edit_record, forge_bytes, forge_table)
WAYS = (
    *(flip, flip, flip_both_manifests, resize, remove, rename, duplicate, link, plant, plant),
    *(edit_manifest, edit_manifest, edit_manifest, *FORGERIES),
)


def outcome(kind: str, action: str, folder: Path, expected: Numbers) -> str:
    """Load, resume or replace a folder; return what came of it."""
    run, load, numbers = KINDS[kind]
    try:
        if action == "load":
            found = numbers(load(folder))
        else:
            found = numbers(run(folder, **{action: True}))
            assert same(numbers(load(folder)), found)
    except InputError as error:
        one_line(error)
        return "refused"
    return "same" if same(found, expected) else "other"


def fuzz(kind: str, parent: Path, place: Path, seeds: range) -> Counter[str]:
    """Change folders in random ways; return how often each outcome came of each action."""
    whole, expected = undamaged(kind, parent)
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(seed)
        here = place / str(seed)
        folder, outside = here / "folder", here / "outside"
        (outside / "victim").mkdir(parents=True)
        (outside / "victim.txt").write_text("mine")
        (outside / "victim/mine.txt").write_text("mine")
        shutil.copytree(whole, folder, symlinks=True)
        (folder / "notes.txt").write_text("mine")
        way = rng.choice(WAYS)
        way(folder, rng, outside)
        mine = (folder / "notes.txt").read_bytes() if (folder / "notes.txt").is_file() else None
        before = everything(outside)
        for action in ("load", rng.choice(("resume", "fresh"))):
            case = f"seed {seed}, {way.__name__}, {action}"
            try:
                result = outcome(kind, action, folder, expected)
            except BaseException as error:
                error.add_note(case)
                raise
            assert result != "other" or way in FORGERIES, case
            assert result != "other" or action != "fresh", case
            assert everything(outside) == before, case
            assert mine is None or (folder / "notes.txt").read_bytes() == mine, case
            outcomes[f"{action}: {result}"] += 1
        shutil.rmtree(here)
    return outcomes


def test_a_few_dozens_of_changed_folders(parent: Path, tmp_path: Path) -> None:
    outcomes = fuzz("study", parent, tmp_path, range(36))
    assert min(outcomes[f"{action}: {result}"] for action in ("load", "resume") for result in ("same", "refused")) > 2
    assert outcomes["fresh: same"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 1000, 100))
def test_a_thousand_changed_studies(first: int, parent: Path, tmp_path: Path) -> None:
    fuzz("study", parent, tmp_path, range(first, first + 100))


@pytest.mark.slow
@pytest.mark.parametrize("first", [5000, 5100])
def test_changed_walk_forwards(first: int, parent: Path, tmp_path: Path) -> None:
    fuzz("walk", parent, tmp_path, range(first, first + 100))


# What exactly is said


@pytest.fixture
def copied(parent: Path, tmp_path: Path) -> Path:
    """A finished study, to be edited."""
    return shutil.copytree(undamaged("study", parent)[0], tmp_path / "copied")


def changed(entry: Any, path: str, value: Any) -> None:
    """Set the entry of that path; where the value is `...`, take it away."""
    *before, last = path.split("/")
    for part in before:
        entry = entry[part]
    if value is ...:
        del entry[last]
    else:
        entry[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("identity/seed", "x", "identity.seed must be a whole number of at least 0 and at most 4294967295, not 'x'"),
        ("identity/n", None, "identity.n must be a whole number of at least 1"),
        ("identity/n", ..., "identity.n is missing"),
        ("identity/precision", 16, "identity.precision must be 32 or 64, not 16"),
        ("identity/keep", [], r"identity.keep must be 'weights' or 'summary', not \[\]"),
        ("identity/chunk_size", 0.5, "identity.chunk_size must be a whole number"),
        ("identity/chunk_size", 256, "chunks must be those from 0 to 4, for so many universes"),
        ("identity/data", 3, "identity.data must be an object, not 3"),
        ("identity/data/n_assets", True, "identity.data.n_assets must be a whole number of at least 1, not True"),
        ("identity/settings", ..., "identity.settings is missing"),
        ("identity/settings/config/slack", "a", "identity.settings: slack must be at least 1, not 'a'"),
        ("identity/settings/config/colour", 1, "identity.settings.config: 'colour' is no field of it"),
        ("identity/settings/config/profiles", ["x"], "identity.settings: unknown profile 'x'; choose from"),
        ("identity/settings/config/profiles", [["x"]], r"identity.settings.config.profiles\[0\] must be text, not"),
        ("identity/settings/grid", {"slack": 1}, "identity.settings.grid.slack must be a list, not 1"),
        ("identity/settings/grid", {"colour": [1]}, "identity.settings: colour cannot be swept"),
        ("identity/sampler", {}, "identity.sampler.sampler is missing"),
        ("identity/sampler/method", "circular", "identity.sampler.block_length must be a number, not None"),
        ("identity/versions", {"jax": 1}, "identity.versions.jax must be text, not 1"),
        ("chunks/1/count", 511, "chunks.1.count must be 512, not 511"),
        ("chunks/1", ..., "chunks must be those from 0 to 2, for so many universes"),
        ("state/count", 2, "state.count must be 3, not 2"),
    ],
)
def test_a_field_of_the_manifest_that_is_edited_is_named(path: str, value: Any, message: str, copied: Path) -> None:
    content = json.loads((copied / MANIFEST).read_text())
    changed(content, path, value)
    put_manifest(copied / MANIFEST, content)
    with pytest.raises(InputError, match=rf"its manifest\.json is not as jaxalloc writes it: {message}") as error:
        ja.load_study(copied)
    one_line(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("symbols", 3, "symbols must be a list of 6, not 3"),
        ("symbols", ["a"] * 6, "symbols must name each asset once"),
        ("notes", ["a", 1], r"notes\[1\] must be text, not 1"),
        ("seconds", "long", "seconds must be a number, not 'long'"),
        ("status_counts", ..., "status_counts is missing"),
        ("seed", 8, r"seed is not as manifest\.json says"),
        ("settings/config/slack", 1.2, r"settings is not as manifest\.json says"),
    ],
)
def test_a_field_of_the_record_that_is_forged_is_named(path: str, value: Any, message: str, copied: Path) -> None:
    record = json.loads((copied / "study.json").read_text())
    changed(record, path, value)
    forge(copied, copied / "study.json", json.dumps(record).encode())
    with pytest.raises(InputError, match=rf"its study\.json is not as jaxalloc writes it: {message}") as error:
        ja.load_study(copied)
    one_line(error.value)


def test_all_names_of_a_run_are_known(parent: Path) -> None:
    for kind in KINDS:
        folder, _ = undamaged(kind, parent)
        for path in folder.rglob("*"):
            assert path.is_dir() or path.name in (*RESULTS, MANIFEST, COPY, "lock") or number_of(path.name) is not None
    folder, _ = undamaged("study", parent)
    assert all(is_in_study(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["allocations", "paths", "bags"])
def test_the_folder_of_a_walk_forwards_study_is_no_link(name: str, parent: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(undamaged("walk", parent)[0], tmp_path / "walk")
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path / "elsewhere")
    for how in ("resume", "fresh"):
        with pytest.raises(InputError, match=f"{name} is a link, where a folder of jaxalloc's must be") as error:
            walk(folder, **{how: True})
        one_line(error.value)
    if name != "bags":  # which are not read
        with pytest.raises(InputError, match=f"{name} is a link"):
            ja.load_walk_forward(folder)
    assert everything(tmp_path / "elsewhere") == before


def test_a_path_with_a_nul_is_bad_input() -> None:
    for go in (
        lambda: study(Path("a\0b")),
        lambda: study(Path("a\0b"), resume=True),
        lambda: walk(Path("a\0b"), fresh=True),
        lambda: ja.load_study("a\0b"),
        lambda: ja.load_walk_forward("a\0b"),
    ):
        with pytest.raises(InputError, match=r"the folder 'a\\x00b' has characters that no path can have"):
            go()


# Kills


class KilledError(BaseException):
    """What a test stops a run with."""


@contextlib.contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[int]]:
    """Refuse the change of the disk number ``at`` and all after it, as if the process were dead."""
    count = [0]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            if count[0] >= at:
                raise KilledError
            return call(*args, **kwargs)

        return called

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rmdir", "write", "fsync", "replace", "unlink"):
            patch.setattr(os, name, counted(getattr(os, name)))
        yield count


def lasting(folder: Path) -> dict[str, Any]:
    """All that a finished folder holds, without the times in its record."""
    found = everything(folder)
    record = json.loads(found.pop("study.json"))
    manifest = read_manifest(folder)
    assert manifest is not None
    assert found.pop(MANIFEST) == found.pop(COPY)
    return (
        found
        | {"study.json": {k: v for k, v in record.items() if k not in ("started", "seconds")}}
        | {"manifest": (manifest.finished, manifest.chunks, manifest.state, manifest.identity)}
    )


def kill_at(ats: Iterator[int], parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Stop runs at these changes of the disk until one comes through; return how many were stopped."""
    whole, expected = undamaged("study", parent)
    for number, at in enumerate(ats):
        folder = tmp_path / str(at)
        with killed(monkeypatch, at):
            try:
                study(folder)
            except KilledError:
                done = False
            else:
                done = True
        again = study(folder, resume=True)
        assert same(of_study(again), expected), at
        assert lasting(folder) == lasting(whole), at
        assert same(of_study(ja.load_study(folder)), expected), at
        shutil.rmtree(folder)
        if done:
            return number
    raise AssertionError("unreachable")


def test_a_run_killed_at_some_of_its_writes_is_resumed(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill_at(itertools.count(3, 29), parent, tmp_path, monkeypatch) > 3


@pytest.mark.slow
def test_a_run_killed_at_any_of_its_writes_is_resumed(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill_at(itertools.count(1), parent, tmp_path, monkeypatch) > 150
