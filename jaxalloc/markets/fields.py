"""Tables with several fields of a security (open, high, low, close, volume): which column is an asset's price.

The best field is the adjusted close, then the close, then any other price; the caller's word comes before that.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxalloc.arguments.words import listing, quote
from jaxalloc.markets.table import Table
from jaxalloc.markets.vocabulary import VALUE_ROLES, best_field, is_field, parts_of, plain_name, role_of

_MOSTLY = 0.9  # share of names that must be fields for a header line to be one of fields


def chosen_field(names: Sequence[str], asked: Sequence[str], returns: bool) -> str | None:
    """The field that the caller asked for, or else the best of the names; None if there is none."""
    plain = {plain_name(word) for word in asked}
    return next((name for name in names if plain_name(name) in plain), None) or best_field(names, returns)


def one_header_line(table: Table, asked: Sequence[str], returns: bool, notes: list[str]) -> Table:
    """A table with several header lines as one with a single line, the assets' names.

    Lines that name securities and fields are resolved to the best field of each security. Of other lines, the one
    whose names are all different counts.

    Args:
        table: the table.
        asked: names that the caller gave, perhaps of a field.
        returns: whether a field of returns is to be preferred.
        notes: takes a sentence for each thing that was decided.
    """
    if len(table.header) == 1:
        return table
    header = [names for names in table.header if sum(map(bool, names)) > 1] or table.header[-1:]
    labels = next((names[0] for names in reversed(table.header) if role_of(names[0]) == "date"), "")
    places = [k for k in range(len(table.columns)) if k != (table.date or 0)]
    if len(header) > 1:
        fields = next((names for names in header if _is_line_of_fields([names[k] for k in places])), None)
        if fields is not None:
            others = [names for names in header if names is not fields]
            symbols = max(others, key=lambda names: len({names[k] for k in places}))
            fields = _filled(fields, places)
            return _with_best_fields(table, _filled(symbols, places), fields, places, asked, returns, labels, notes)
        distinct = [names for names in header if _all_differ([names[k] for k in places])]
        dated = [names for names in distinct if role_of(names[0]) == "date"]
        chosen = (dated or distinct[-1:] or header[-1:])[0]
        shown = listing((quote(chosen[k]) for k in places), 3)
        notes.append(f"Took the names of the assets from one of {len(header)} header lines: {shown}.")
    else:
        chosen = header[0]
    names = list(chosen)
    if labels and role_of(names[0]) != "date":
        names[0] = labels
    return table.with_names(names)


def _all_differ(names: list[str]) -> bool:
    return "" not in names and len(set(names)) == len(names)


def _is_line_of_fields(names: list[str]) -> bool:
    present = [name for name in names if name]
    return (
        len(present) > 0 and sum(map(is_field, present)) >= _MOSTLY * len(present) and best_field(present) is not None
    )


def _filled(names: list[str], places: list[int]) -> list[str]:
    """Names with blank ones replaced by the one before, as merged cells are written."""
    filled, last = list(names), ""
    for k in places:
        last = names[k] or last
        filled[k] = last
    return filled


def _with_best_fields(
    table: Table,
    symbols: list[str],
    fields: list[str],
    places: list[int],
    asked: Sequence[str],
    returns: bool,
    labels: str,
    notes: list[str],
) -> Table:
    by_symbol: dict[str, list[int]] = {}
    for k in places:
        if fields[k]:
            by_symbol.setdefault(symbols[k], []).append(k)
    taken = {}
    for symbol, columns in by_symbol.items():
        best = chosen_field([fields[k] for k in columns], asked, returns)
        if best is not None:
            taken[symbol] = columns[[fields[k] for k in columns].index(best)]
    _say_taken({symbol: fields[k] for symbol, k in taken.items()}, [fields[k] for k in places], notes)
    first = table.date or 0
    kept = table.with_columns([first, *taken.values()])
    return kept.with_names([labels or table.names[first], *taken])


def _say_taken(taken: dict[str, str], fields: Sequence[str], notes: list[str]) -> None:
    """Say which field is taken of which others."""
    used = list(dict.fromkeys(taken.values()))
    left = [name for name in dict.fromkeys(fields) if name and name not in used]
    if not left:
        return
    if len(used) == 1:
        notes.append(f"Took {quote(used[0])} of each asset; left out {listing(map(quote, left))}.")
    else:
        which = "; ".join(
            f"{quote(field)} of {listing((quote(s) for s, f in taken.items() if f == field), 3)}" for field in used
        )
        notes.append(f"Took {which}; left out {listing(map(quote, left))}.")


def one_security(
    table: Table, places: Sequence[int], asked: Sequence[str], returns: bool, notes: list[str]
) -> tuple[int, str] | None:
    """The column of the price and the asset's name, if the columns are the fields of one security; else None.

    Args:
        table: the table.
        places: its columns but for dates and row numbers.
        asked: names that the caller gave, perhaps of a field.
        returns: whether a field of returns is to be preferred.
        notes: takes a sentence on what was taken.
    """
    names = [table.names[k] for k in places]
    best = chosen_field([name for name in names if is_field(name)], asked, returns)
    if best is None:
        return None
    alone = len(names) == 1 and role_of(best) in VALUE_ROLES and bool(table.stem)
    if not alone and not _are_of_one(names):
        return None
    place = places[names.index(best)]
    name = table.stem or best
    left = [other for other in names if other != best]
    said = f"; left out {listing(map(quote, left))}" if left else ""
    if left or alone:
        notes.append(f"Read the file as that of one asset, {quote(name)}: took {quote(best)}{said}.")
    return place, name


def _are_of_one(names: Sequence[str]) -> bool:
    """Whether the names are those of the fields of one security, and hardly of assets."""
    roles = [role_of(name) for name in names]
    known = sum(map(is_field, names))
    if roles.count("range") >= 2 and known >= 3:
        return True  # beside fields of a portal's own
    volume = any("vol" in plain_name(name) for name in names)
    return known == len(names) and (
        roles.count("other") + roles.count("range") >= 2 or volume or {"adjusted", "close"} <= set(roles)
    )


def assets_of_fields(
    names: Sequence[str], asked: Sequence[str], returns: bool, notes: list[str]
) -> dict[str, int] | None:
    """The column of each asset, if the names are of assets and fields, such as ``AAA.Close``; else None."""
    parts = [parts_of(name) for name in names]
    if not parts or any(part is None for part in parts):
        return None
    by_symbol: dict[str, dict[str, int]] = {}
    for k, part in enumerate(parts):
        assert part is not None
        by_symbol.setdefault(part[0], {}).setdefault(part[1], k)
    fields = [field for found in by_symbol.values() for field in found]
    if len({plain_name(field) for field in fields}) < 2:
        return None
    taken = {symbol: chosen_field(list(found), asked, returns) for symbol, found in by_symbol.items()}
    if None in taken.values():
        return None
    chosen = {symbol: field for symbol, field in taken.items() if field is not None}
    _say_taken(chosen, fields, notes)
    return {symbol: by_symbol[symbol][field] for symbol, field in chosen.items()}
