"""Files and frames -> a `Table` of raw cells: the only module that reads files.

A file is known by its content: CSV and other delimited text in any usual encoding, Parquet, Feather, a workbook; each
may be compressed or lie alone in an archive. Where the table stands in a text or a worksheet is for
`jaxalloc.markets.grid` to find, what its cells mean for `jaxalloc.markets.layout`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import listing, quote, reason, unquoted
from jaxalloc.markets.grid import sheet_table
from jaxalloc.markets.table import Layout, Table, as_text
from jaxalloc.markets.text import text_table
from jaxalloc.markets.vocabulary import role_of

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
}
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)
_MOST_BYTES = 2**32  # of a file after it is decompressed
_OF_DOCUMENTS = {"[Content_Types].xml", "mimetype", "META-INF/manifest.xml"}  # in the archives that workbooks are
_SUFFIXES = {".gz", ".bz2", ".xz", ".zip", ".csv", ".txt", ".tsv", ".parquet", ".pq", ".feather", ".xlsx", ".xlsm"}
_OTHER_FORMATS = (
    (b"\xd0\xcf\x11\xe0", "a workbook of an old kind (.xls); save it as .xlsx or as CSV"),
    (b"%PDF", "a PDF document; save the table as CSV"),
    (b"\x89PNG", "a picture; save the table as CSV"),
    (b"\x89HDF", "an HDF5 file; write the frame with to_parquet"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x19\x1b-\x1f]")  # characters that no text has
_MARKUP = ((b"<!doctype", b"<html", b"<table", b"<?xml"), "a web page or XML; save the table as CSV")


def load_table(source: object, layout: Layout, notes: list[str], sheet: str | None = None) -> Table:
    """Find the table in a file or a frame.

    Args:
        source: path, frame or series.
        layout: tells whether a frame's index holds the dates.
        notes: takes a sentence for each thing that was decided.
        sheet: of a workbook; None for its only one, or the first that holds a table.

    Raises:
        InputError: it cannot be read, or is not a table.
    """
    if isinstance(source, pd.Series):
        source = source.to_frame(name="returns" if source.name is None else source.name)
    if isinstance(source, pd.DataFrame):
        return _from_frame(source, "the frame", "", layout)
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source), layout, notes, sheet)
    raise InputError(
        f"cannot read returns from {type(source).__name__}; give a path, or a DataFrame such as "
        "pandas.DataFrame(array, columns=symbols)"
    )


def _from_file(path: Path, layout: Layout, notes: list[str], sheet: str | None) -> Table:
    source = unquoted(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{source}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{source}: this is a directory; give the path of one file, such as a CSV file") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source}: the file cannot be read ({reason(error)}); check the path and its permissions"
        ) from None
    content = _unpacked(content, source, notes)
    stem = _stem(path)
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if content[:4] == b"PAR1" or suffixes & {".parquet", ".pq"}:
        return _from_frame(_parquet_frame(content, source), source, stem, layout)
    if content[:6] == b"ARROW1" or content[:4] == b"FEA1" or ".feather" in suffixes:
        return _from_frame(_feather_frame(content, source), source, stem, layout)
    if content[:4] == b"PK\x03\x04":
        return _workbook_table(content, source, stem, notes, sheet)
    for magic, words in _OTHER_FORMATS:
        if content.startswith(magic):
            raise InputError(f"{source}: this is {words}")
    text = _in_utf8(content, source, notes)
    if text[:200].lstrip()[:20].lower().startswith(_MARKUP[0]):
        raise InputError(f"{source}: this is {_MARKUP[1]}")
    return text_table(text, source, stem, notes)


def _stem(path: Path) -> str:
    """The file's name without the suffixes of its format: a point in a name such as ``aaa.us.txt`` stays."""
    name = path.name
    while Path(name).suffix.lower() in _SUFFIXES and Path(name).stem:
        name = Path(name).stem
    return name


# ---- containers ------------------------------------------------------------------------------------------------------


def _unpacked(content: bytes, source: str, notes: list[str]) -> bytes:
    """The content without its compression; of an archive the one table in it."""
    for magic, (name, decompress) in _COMPRESSED.items():
        if content.startswith(magic):
            try:
                return decompress(content)
            except _DAMAGE:
                raise InputError(f"{source}: the {name} file is damaged or cut short; compress it again") from None
    if not content.startswith(b"PK\x03\x04"):
        return content
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [
                info.filename
                for info in archive.infolist()
                if not info.is_dir()
                and not Path(info.filename).name.startswith((".", "__MACOSX"))
                and not info.filename.startswith("__MACOSX")
            ]
            fits = len(names) == 1 and archive.getinfo(names[0]).file_size <= _MOST_BYTES
            inner = archive.read(names[0]) if fits and names[0] not in _OF_DOCUMENTS else b""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, *_DAMAGE) as error:
        raise InputError(f"{source}: the archive cannot be read ({reason(error)}); unpack it first") from None
    if _OF_DOCUMENTS & set(names):
        return content
    if len(names) != 1:
        what = "is empty" if not names else f"holds several files ({listing(map(quote, names), 3)})"
        raise InputError(f"{source}: the archive {what}; give one with a single table, or unpack it first")
    if not fits:
        raise InputError(f"{source}: the file in the archive is larger than 4 GiB; unpack it first")
    if inner.startswith(b"PK\x03\x04"):
        return inner
    return _unpacked(inner, source, notes)


def _in_utf8(content: bytes, source: str, notes: list[str]) -> bytes:
    """The text of a file in UTF-8 without a mark: from UTF-8 or UTF-16, or else from Windows-1252 with a note."""
    no_text = InputError(f"{source}: this is not a table in text; save it as CSV (UTF-8), .xlsx or Parquet")
    content = content.removeprefix(b"\xef\xbb\xbf")
    encoding = "utf-8"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif len(content) > 3 and content[0] and not content[1:400:2].strip(b"\0"):
        encoding = "utf-16-le"  # without a mark
    elif len(content) > 3 and content[1] and not content[0:400:2].strip(b"\0"):
        encoding = "utf-16-be"
    if encoding != "utf-8" or not content.isascii():
        try:
            content = content.decode(encoding).encode()
        except UnicodeError:
            try:
                content = content.decode("cp1252").encode()
            except UnicodeError:
                raise no_text from None
            if _CONTROL.search(content):
                raise no_text from None
            notes.append("Read the text as Windows-1252 (Latin-1): it is not UTF-8.")
    if b"\0" in content:
        raise no_text
    return content.rstrip(b"\x1a")


def _parquet_frame(content: bytes, source: str) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        # not read_table, which takes a file whose columns repeat a name for an unreadable one
        return pyarrow.parquet.ParquetFile(io.BytesIO(content)).read().to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(f"{source}: not a readable Parquet file ({reason(error)}); write it again") from None


def _feather_frame(content: bytes, source: str) -> pd.DataFrame:
    import pyarrow
    import pyarrow.feather

    try:
        return pyarrow.feather.read_table(io.BytesIO(content)).to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(f"{source}: not a readable Feather file ({reason(error)}); write it again") from None


def _workbook_table(content: bytes, source: str, stem: str, notes: list[str], sheet: str | None) -> Table:
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise InputError(
            f"{source}: reading workbooks needs openpyxl; pip install 'jaxalloc[excel]', or save the sheet as CSV"
        ) from None
    try:
        sheets: dict[Any, pd.DataFrame] = pd.read_excel(
            io.BytesIO(content), sheet_name=None, header=None, dtype=object, keep_default_na=False, engine="openpyxl"
        )
    except Exception as error:  # of openpyxl, zipfile or the parser of XML
        raise InputError(f"{source}: not a readable workbook ({reason(error)}); save it as .xlsx or as CSV") from None
    if sheet is not None and sheet not in sheets:
        raise InputError(f"{source}: there is no sheet {quote(sheet)}; the sheets are {listing(map(quote, sheets))}")
    filled = [name for name, cells in sheets.items() if cells.shape[0] > 1 and cells.shape[1] > 1]
    chosen = sheet if sheet is not None else next(iter(filled or sheets), None)
    if chosen is None:
        raise InputError(f"{source}: the workbook holds no sheet with a table")
    if sheet is None and len(filled) > 1:
        others = listing((quote(name) for name in filled if name != chosen), 3)
        notes.append(f"Read the sheet {quote(chosen)}; the others with cells are left out: {others}.")
    return sheet_table(sheets[chosen], source, stem, notes)


# ---- frames ----------------------------------------------------------------------------------------------------------


def _from_frame(frame: pd.DataFrame, source: str, stem: str, layout: Layout) -> Table:
    header = [[as_text(label) for label in frame.columns.get_level_values(k)] for k in range(frame.columns.nlevels)]
    columns = [frame.iloc[:, k].reset_index(drop=True) for k in range(frame.shape[1])]
    index = frame.index
    dated = [
        k
        for k, column in enumerate(columns)
        if any(role_of(names[k]) == "date" for names in header) or pd.api.types.is_datetime64_any_dtype(column.dtype)
    ]
    numbered = index.nlevels == 1 and pd.api.types.is_integer_dtype(index.dtype)
    if numbered and (dated or layout == "long") and columns:
        return Table(source=source, stem=stem, header=header, columns=columns)
    levels = [pd.Series(index.get_level_values(k)) for k in range(index.nlevels)]
    labels = [as_text(name) for name in index.names]
    blank = [""] * len(levels)
    return Table(
        source=source,
        stem=stem,
        header=[*([*blank, *names] for names in header[:-1]), [*labels, *header[-1]]],
        columns=[*levels, *columns],
        date=0 if index.nlevels == 1 else None,
        stacked=index.nlevels == 2 and len(columns) == 1,
    )
