"""Mutated files end in a panel or in one line, never in another exception, never in more assets than they have."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from written import as_csv, continental, prices

import jaxalloc as ja

TOKENS = (
    *(
        b",",
        b";",
        b"\t",
        b'"',
        b"\n",
        b"\r",
        b"-",
        b".",
        b"%",
        b"$",
        b"(",
        b")",
        b"nan",
        b"1e400",
        b"\xff",
        b"\0",
        b"Date",
    ),
    *(b"2024-01-05", b"01/02/2024", b" ", b"#", b"Close", b"AAA", b"0", b"9" * 20, b"inf", "é".encode(), b"'", b"True"),
    *(b"sep=;", b"|", b"<", b"Volume", b"PK\x03\x04", b"1,5", b"(0.5)"),
)


def sources() -> list[tuple[str, bytes]]:
    """Files to mutate: those of the folder of real data, and some made here."""
    table = prices()
    long = table.rename_axis(columns="symbol").stack().rename("close").reset_index()
    made = [
        ("wide.csv", as_csv(table).encode()),
        ("continental.csv", as_csv(table, "%d.%m.%Y", ";", continental).encode()),
        ("quoted.csv", as_csv(table, "%b %d, %Y", number=lambda v: f"{v:,.2f}", quoted=True).encode()),
        ("long.csv", long.to_csv().encode()),
        ("across.csv", table.T.to_csv().encode()),
        ("title.csv", b"Title\nCurrency,USD\n\n" + as_csv(table).encode() + b"Average,1,2,3\n"),
        ("utf-16.txt", as_csv(table, delimiter="\t").encode("utf-16")),
    ]
    folder = Path(os.environ.get("JAXALLOC_DATA", "")) / "inputs"
    files = sorted(folder.glob("*")) if os.environ.get("JAXALLOC_DATA") and folder.is_dir() else []
    return made + [(file.name, file.read_bytes()) for file in files if file.suffix not in (".py", ".json", ".md")]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with a few random changes of bytes, cells, columns or lines."""
    for _ in range(draw.choice([1, 1, 2, 3, 8])):
        place = draw.randrange(len(content) + 1)
        lines = content.split(b"\n")
        mark = draw.choice([b",", b";", b"\t"])
        way = draw.randrange(8)
        if way == 0:
            content = content[:place] + content[place + draw.choice([1, 2, 10, 100]) :]
        elif way == 1:
            content = content[:place] + draw.choice(TOKENS) + content[place:]
        elif way == 2:
            content = content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]
        elif way == 3:
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
            content = b"\n".join(lines)
        elif way == 4:
            del lines[draw.randrange(len(lines))]
            content = b"\n".join(draw.sample(lines, len(lines)) if draw.random() < 0.3 else lines)
        elif way == 5:
            content = content[: max(place, 40)]
        elif way == 6:
            cells = draw.choice(lines).split(mark)
            cells[draw.randrange(len(cells))] = draw.choice(TOKENS)
            lines[draw.randrange(len(lines))] = mark.join(cells)
            content = b"\n".join(lines)
        else:
            content = content.replace(draw.choice([b",", b";", b".", b"-", b"/", b"20"]), draw.choice(TOKENS))
    return content


@pytest.mark.parametrize("seed", range(10))
def test_mutated_files(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    files, lines_of_error = sources(), []
    for _ in range(120):
        name, content = draw.choice(files)
        content = mutated(content, draw)
        path = tmp_path / name
        path.write_bytes(content)
        missing = draw.choice(["error", "mask", "zero", "carry", "drop-rows", "drop-assets"])
        try:
            panel = ja.read_returns(path, draw.choice(["auto", "prices", "returns"]), missing)  # type: ignore[arg-type]
        except ja.InputError as error:
            lines_of_error.append(len(str(error).splitlines()))
            continue
        assert panel.dates.is_unique, content
        assert panel.dates.is_monotonic_increasing, content
        if path.suffix in (".csv", ".tsv"):
            lines = content.replace(b"\r", b"\n").split(b"\n")
            cells = max(max(line.count(mark) for mark in (b",", b";", b"\t", b"|", b" ")) for line in lines) + 1
            assert panel.n_assets <= max(cells, len(lines)), content
    assert set(lines_of_error) == {1}
