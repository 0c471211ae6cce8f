"""Folders that others may write to: no file but ours is touched, no link followed, one of two writers always runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_store import IDENTITY, N_CHUNKS, assert_same_bits, bare, contents, mended, one_line, summary, table, work

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import as_path, make_folder
from jaxalloc.storage.names import COPY, MANIFEST, RESULTS, file_name, is_partial, number_of, partial_name
from jaxalloc.storage.parquet import arrays_to_table, to_parquet
from jaxalloc.storage.place import Place, file_record
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.storage.writer import Store

RECORD = {"count": 0, "size": 4, "sha256": "0" * 64}
WAYS: tuple[dict[str, bool], ...] = ({"resume": True}, {"fresh": True})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished study."""
    work(tmp_path / "study")
    return tmp_path / "study"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit the manifest by hand, and mend its checksum."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(mended(content))


def refused(folder: Path, message: str) -> None:
    """Assert that the folder is neither read nor written, with this message, and that nothing is touched."""
    before = contents(folder.parent)
    with pytest.raises(InputError, match=message) as error:
        StoredStudy.open(folder).check_results()
    one_line(error)
    for how in WAYS:
        with pytest.raises(InputError, match=message) as error:
            Store.open(folder, IDENTITY, **how)
        one_line(error)
    assert contents(folder.parent) == before


# Names


@pytest.mark.parametrize("name", ["../evil.txt", "{}/evil.txt", "notes.txt", "chunks", "lock", "a/../summary.csv", ""])
def test_a_manifest_cannot_name_files_that_are_not_ours(name: str, folder: Path) -> None:
    (folder.parent / "evil.txt").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    name = name.format(folder.parent)
    edit(folder, lambda content: content["results"].update({name: RECORD}))
    refused(folder, r"its manifest\.json is not as jaxalloc writes it: results: '.*' is no name of a file of results")


@pytest.mark.parametrize("name", ["-1", "00", "1.0", "../1", "x", "1" * 40, "٣", "", "1000000000000"])
def test_a_manifest_cannot_name_chunks_that_are_none(name: str, folder: Path) -> None:
    edit(folder, lambda content: content["chunks"].update({name: RECORD}))
    refused(folder, r"its manifest\.json is not as jaxalloc writes it: chunks: '.*' is no name of a chunk")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(finished=1), "finished must be true or false, not 1"),
        (lambda c: c.pop("finished"), "finished is missing"),
        (lambda c: c.update(more=1), "'more' is no field of it"),
        (lambda c: c.update(identity=[]), r"identity must be an object, not \[\]"),
        (lambda c: c.update(state=7), "state must be an object, not 7"),
        (lambda c: c["state"].update(count="3"), "state.count must be a whole number of at least 0 .*, not '3'"),
        (lambda c: c["state"].update(count=True), "state.count must be a whole number"),
        (lambda c: c["chunks"]["1"].update(size=-1), r"chunks\.1\.size must be a whole number of at least 0, not -1"),
        (
            lambda c: c["chunks"]["1"].update(size=5.0),
            r"chunks\.1\.size must be a whole number of at least 0, not 5\.0",
        ),
        (lambda c: c["chunks"]["1"].update(sha256="x"), r"chunks\.1\.sha256 must be 64 hexadecimal digits, not 'x'"),
        (lambda c: c["results"].update({"summary.csv": 3}), r"results\.summary\.csv must be an object, not 3"),
        (lambda c: c["chunks"]["1"].pop("count"), r"chunks\.1\.count is missing"),
    ],
)
def test_a_field_that_is_edited_is_named(
    change: Callable[[dict[str, Any]], object], message: str, folder: Path
) -> None:
    edit(folder, change)
    refused(folder, f"is not as jaxalloc writes it: {message}")
    (folder / MANIFEST).unlink()  # as the message says: then the copy counts
    assert read_manifest(folder) is not None


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, '{"format": NaN}', '{"size": 1e999}', "1" * 5000])
def test_json_that_breaks_parsers_is_damage(text: str, folder: Path) -> None:
    manifest = read_manifest(folder)
    (folder / MANIFEST).write_text(text)
    assert read_manifest(folder) == manifest
    bare(folder)
    refused(folder, "is damaged, or another program's")


def test_names_are_ours_or_not() -> None:
    assert all(number_of(file_name(n)) == n for n in (0, 7, 999_999, 1_000_000))
    for name in (
        "7.parquet",
        "0000007.parquet",
        "٣٣٣٣٣٣.parquet",
        "-00001.parquet",
        "000001.parquet\n",
        "x000001.parquet",
    ):
        assert number_of(name) is None, name
    for name in (MANIFEST, COPY, "000001.parquet", *RESULTS):
        assert is_partial(partial_name(name))
        assert not is_partial(name)
    for name in (partial_name("notes.txt"), partial_name(partial_name(MANIFEST)), ".jaxalloc.partial", ".x.partial"):
        assert not is_partial(name), name
    assert all(Path(name).name == name and not name.startswith(".") for name in RESULTS)


# Links, and what is no plain file


def move_and_link(path: Path) -> None:
    target = path.parent.parent / f"moved-{path.name}"
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["chunks", "state", MANIFEST, COPY, "lock", "summary.csv", "chunks/000001.parquet"])
def test_a_link_in_place_of_ours_is_refused(name: str, folder: Path) -> None:
    move_and_link(folder / name)
    before = contents(folder.parent)
    for how in WAYS:
        with pytest.raises(InputError, match=r"is a link, where a (file|folder) of jaxalloc's must be") as error:
            Store.open(folder, IDENTITY, **how)
        one_line(error)
    assert contents(folder.parent) == before
    assert (folder / name).is_symlink()
    if "lock" not in name and name != COPY:  # which are not read
        with pytest.raises(InputError, match="is a link"):
            [
                *StoredStudy.open(folder).chunks(),
                StoredStudy.open(folder).state(),
                StoredStudy.open(folder).check_results(),
            ]


@pytest.mark.parametrize(
    "name",
    [partial_name(MANIFEST), partial_name(COPY), f"chunks/{partial_name('000003.parquet')}", "chunks/000003.parquet"],
)
@pytest.mark.parametrize("target", ["victim.txt", "nothing"])
def test_a_planted_link_is_not_written_through(name: str, target: str, folder: Path) -> None:
    (folder.parent / "victim.txt").write_text("mine")
    (folder / name).symlink_to(folder.parent / target)
    for how in WAYS:
        with pytest.raises(InputError, match="is a link"):
            Store.open(folder, IDENTITY, **how)
    assert (folder.parent / "victim.txt").read_text() == "mine"
    assert not (folder.parent / "nothing").exists()


@pytest.mark.parametrize("name", [partial_name("000000.parquet"), "000000.parquet"])
def test_a_link_that_is_planted_during_a_run_is_not_written_through(name: str, tmp_path: Path) -> None:
    (tmp_path / "victim.txt").write_text("mine")
    with Store.open(tmp_path / "study", IDENTITY) as store:
        (tmp_path / "study/chunks" / name).symlink_to(tmp_path / "victim.txt")
        with pytest.raises(InputError, match="is a link"):
            store.write_chunk(0, table(0))
        (tmp_path / "study/chunks" / name).unlink()
        (tmp_path / "study/chunks").rmdir()
        (tmp_path / "study/chunks").symlink_to(tmp_path)
        with pytest.raises(InputError, match="is a link"):
            store.write_chunk(0, table(0))
    assert (tmp_path / "victim.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"victim.txt", "study"}


def test_a_file_is_made_anew_even_where_a_link_comes_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is put there after the last look, and before the file is made, is not followed either."""
    (tmp_path / "victim.txt").write_text("mine")
    (tmp_path / "study").mkdir()
    place, opened, partial = Place(tmp_path / "study"), os.open, tmp_path / "study" / partial_name(MANIFEST)

    def planting(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if path == partial.name:
            partial.symlink_to(tmp_path / "victim.txt")
        return opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", planting)
    with pytest.raises(OSError, match="File exists"):
        place.write(MANIFEST, b"ours")
    assert (tmp_path / "victim.txt").read_text() == "mine"


def test_a_second_name_of_a_file_is_not_written_to(folder: Path) -> None:
    for name in ("lock", MANIFEST, "summary.csv"):
        (folder / name).unlink(missing_ok=True)
        (folder.parent / name).write_text("mine")
        os.link(folder.parent / name, folder / name)
    work(folder)
    work(folder, fresh=True)
    assert all((folder.parent / name).read_text() == "mine" for name in ("lock", MANIFEST, "summary.csv"))


@pytest.mark.parametrize("name", [MANIFEST, "lock", "summary.csv", "chunks/000001.parquet", partial_name(MANIFEST)])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_plain_file_is_refused_at_once(name: str, make: Callable[[Path], None], folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    for how in WAYS:
        with pytest.raises(InputError, match="is no plain file, where a file of jaxalloc's must be"):
            Store.open(folder, IDENTITY, **how)


def test_a_folder_within_ours_is_no_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    before = contents(folder)
    for go in (
        lambda: StoredStudy.open(tmp_path / "link", inside=True),
        lambda: Store.open(tmp_path / "link", IDENTITY, fresh=True, inside=True),
    ):
        with pytest.raises(InputError, match="link is a link, where a folder of jaxalloc's must be"):
            go()
    assert contents(folder) == before
    assert StoredStudy.open(tmp_path / "link").manifest.finished  # a user may call it what he likes


# Two at once

RACER = """
import sys, time
from jaxalloc.arguments.errors import InputError
from jaxalloc.storage.writer import Store
import pyarrow.parquet
for line in sys.stdin:
    folder, at = line.split()
    while time.time() < float(at):
        pass
    try:
        store = Store.open(folder, {"seed": 1}, resume=True)
    except InputError as error:
        print("lost", error, flush=True)
    else:
        print("won", flush=True)
        sys.stdin.readline()
        store.close()
"""


def race(folders: list[Path]) -> list[list[str]]:
    """Have two processes open each folder at the same moment; return what they say."""
    command = [sys.executable, "-W", "error", "-c", RACER]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = []
    try:
        for folder in [folders[0].with_name("first"), *folders]:  # what is imported late is there after the first
            at = time.time() + 0.02
            for racer in racers:
                assert racer.stdin is not None
                print(folder, at, file=racer.stdin, flush=True)
            said.append([str(racer.stdout and racer.stdout.readline()) for racer in racers])
            for racer, word in zip(racers, said[-1], strict=True):
                if word == "won\n":
                    print("done", file=racer.stdin, flush=True)
    finally:
        for racer in racers:
            racer.communicate()
    return said[1:]


@pytest.mark.parametrize("trials", [30, pytest.param(150, marks=pytest.mark.slow)])
def test_one_of_two_that_begin_at_once_always_runs(trials: int, tmp_path: Path) -> None:
    folders = [tmp_path / f"{number}/deep/study" for number in range(trials)]
    for folder, said in zip(folders, race(folders), strict=True):
        # the other one is refused, or comes when the first is done
        assert "won\n" in said, said
        assert all(word == "won\n" or "another process is writing to" in word for word in said), said
        assert read_manifest(folder) is not None
        assert {path.name for path in folder.iterdir()} == {"chunks", "state", "lock", MANIFEST, COPY}


def test_who_loses_takes_back_only_what_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the folder and locks it, just when this one has seen that it is missing."""
    others: list[Store] = []
    mkdir = Path.mkdir

    def later(self: Path, *args: Any, **kwargs: Any) -> None:
        if self == tmp_path / "a/study" and not others:
            monkeypatch.setattr(Path, "mkdir", mkdir)
            others.append(Store.open(self, {"seed": 1}))
        mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", later)
    with pytest.raises(InputError, match="another process is writing to"):
        Store.open(tmp_path / "a/study", {"seed": 1})
    with others[0] as store:
        store.write_chunk(0, table(0))
    assert StoredStudy.open(tmp_path / "a/study").manifest.identity == {"seed": 1}


def test_a_folder_that_goes_while_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, gone = Place.open_lock, [False]

    def vanishing(self: Place, name: str) -> int:
        descriptor = opened(self, name)
        if not gone[0]:
            gone[0] = True
            os.unlink(self.path / name)  # as a process does that removes a study: the lock is that of no file now
            os.rmdir(self.path)
        return descriptor

    monkeypatch.setattr(Place, "open_lock", vanishing)
    with Store.open(tmp_path / "study", IDENTITY), pytest.raises(InputError, match="another process is writing to"):
        Store.open(tmp_path / "study", IDENTITY, resume=True)


# Lost and found


def test_a_chunk_that_the_manifest_does_not_name_is_found(folder: Path) -> None:
    edit(folder, lambda content: content["chunks"].pop("1"))
    whole = contents(folder)["chunks/000001.parquet"]
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert store.done == {0, 1, 2}
        assert_same_bits(store.stored.chunk(1), table(1))
    assert contents(folder)["chunks/000001.parquet"] == whole


@pytest.mark.parametrize("lost", [(MANIFEST,), (COPY,), (MANIFEST, COPY)])
@pytest.mark.parametrize("finished", [1, N_CHUNKS])
def test_what_was_finished_outlives_its_manifests(lost: tuple[str, ...], finished: int, tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", IDENTITY) as store:
        for number in range(finished):
            store.write_chunk(number, table(number))
            store.save_state(number + 1, summary(number + 1))
    for name in lost:
        (tmp_path / "study" / name).unlink()
    back = StoredStudy.open(tmp_path / "study")
    assert back.manifest.identity == IDENTITY
    for number, found in back.chunks():
        assert_same_bits(found, table(number))
    assert list(back.manifest.chunks) == list(range(finished))
    assert (back.state() or pytest.fail("no state"))[0] == finished
    with pytest.raises(InputError, match="was made with other settings: seed 3"):
        Store.open(tmp_path / "study", IDENTITY | {"seed": 4}, resume=True)
    work(tmp_path / "study")
    work(tmp_path / "other")
    assert contents(tmp_path / "study") == contents(tmp_path / "other")


def test_a_chunk_of_another_study_is_not_taken_for_ours(folder: Path, tmp_path: Path) -> None:
    work(tmp_path / "other", IDENTITY | {"seed": 4})
    data = (tmp_path / "other/chunks/000001.parquet").read_bytes()
    (folder / "chunks/000001.parquet").write_bytes(data)
    for named in (False, True):  # the second time the manifest says that it is right
        if named:
            record = vars(file_record(data, 5))
            edit(folder, lambda content, record=record: content["chunks"].update({"1": record}))
        with pytest.raises(InputError, match=r"chunk 1 of .* is damaged"):
            StoredStudy.open(folder).chunk(1)
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert store.damaged == (1,)


def test_a_folder_from_before_there_were_copies_and_marks(folder: Path) -> None:
    """What the files were then: tables without a mark, one manifest."""
    content = json.loads((folder / MANIFEST).read_text())
    for number in range(N_CHUNKS):
        data = to_parquet(table(number))
        (folder / "chunks" / file_name(number)).write_bytes(data)
        content["chunks"][str(number)] = vars(file_record(data, 5))
    data = to_parquet(arrays_to_table(summary(N_CHUNKS)), use_dictionary=False, write_statistics=False)
    (folder / "state" / file_name(N_CHUNKS)).write_bytes(data)
    content["state"] = vars(file_record(data, N_CHUNKS))
    (folder / MANIFEST).write_text(mended(content))
    (folder / COPY).unlink()
    before = contents(folder)
    for number, back in StoredStudy.open(folder).chunks():
        assert_same_bits(back, table(number))
    with Store.open(folder, IDENTITY, resume=True) as store:
        assert store.finished
        assert store.damaged == ()
        assert store.load_state() is not None
    after = contents(folder)
    assert after.pop(COPY) == after[MANIFEST]  # which it has from now on
    assert json.loads(after.pop(MANIFEST)) == json.loads(before.pop(MANIFEST))
    assert after == before


def test_a_removed_study_leaves_what_is_not_its_own(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "chunks/mine").write_text("mine")
    Store.open(folder, IDENTITY, resume=True).remove()
    assert contents(folder) == {"notes.txt": b"mine", "chunks/mine": b"mine"}
    (folder / "notes.txt").unlink()
    (folder / "chunks/mine").unlink()
    (folder / "chunks").rmdir()
    work(folder)
    Store.open(folder, IDENTITY, resume=True).remove()
    assert not folder.exists()


# Paths that are none


@pytest.mark.parametrize("path", ["a\0b", "a\ud800", b"bytes", 7, None])
def test_a_path_that_no_system_has_is_bad_input(path: Any) -> None:
    for take in (lambda p: Store.open(p, IDENTITY), StoredStudy.open, read_manifest, make_folder, as_path):
        with pytest.raises(InputError, match=r"has characters that no path can|must be text or a Path") as error:
            take(path)
        one_line(error)
