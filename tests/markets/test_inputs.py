"""Files in the formats that sites, terminals and colleagues give, each against its right reading."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import jaxalloc as ja

# notes that every table of its kind carries
_ROUTINE = re.compile(r"Turned [\d,]+ rows? of prices into|No return was missing|The rows are numbered")


def cases() -> list[dict[str, Any]]:
    """The cases of the folder of real data, none where there is no such folder."""
    file = Path(os.environ.get("JAXALLOC_DATA", "")) / "inputs" / "expected.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


CASES = cases()


@pytest.mark.skipif(not CASES, reason="JAXALLOC_DATA names no folder with inputs")
@pytest.mark.parametrize("case", CASES, ids=[f"{case['file']}-{number}" for number, case in enumerate(CASES)])
def test_input(case: dict[str, Any]) -> None:
    path = Path(os.environ["JAXALLOC_DATA"]) / "inputs" / case["file"]
    panel, error = None, ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            panel = ja.read_returns(path, **case.get("call", {}))
        except ja.InputError as caught:
            error = str(caught).replace(str(path), "")
    wanted = case.get("expect_any") or [case["expect"]]
    faults = [fault(panel, error, expectation) for expectation in wanted]
    assert "" in faults, (case["why"], faults)


def fault(panel: Any, error: str, wanted: dict[str, Any]) -> str:
    """What is wrong with a reading, empty if nothing is."""
    refusal = wanted.get("error", wanted.get("error_or_note"))
    if refusal is not None:
        if panel is None:
            return "" if len(error.splitlines()) == 1 and says([error], refusal) else f"error: {error}"
        noted = "error_or_note" in wanted and says(list(panel.notes), refusal)
        return "" if noted else "read, and should be refused"
    if panel is None:
        return f"refused: {error}"
    notes = [note for note in panel.notes if not _ROUTINE.match(note)]
    if "note" in wanted and not says(notes, wanted["note"]):
        return f"no note says {wanted['note']}: {notes}"
    returns = panel.returns
    growth = (1 + returns).prod()
    days = [label.date().isoformat() if isinstance(label, pd.Timestamp) else str(label) for label in returns.index]
    found = {
        "assets": sorted(panel.symbols) == sorted(wanted.get("assets", panel.symbols)),
        "n_assets": panel.n_assets == wanted.get("n_assets", panel.n_assets),
        "rows": len(returns) == wanted.get("rows", len(returns)),
        "first": begins(days[0], wanted.get("first", "")),
        "last": begins(days[-1], wanted.get("last", "")),
    }
    for name, value in wanted.get("growth", {}).items():
        found[f"growth of {name}"] = name in growth and math.isclose(growth[name], value, rel_tol=1e-9)
    for name, count in wanted.get("missing", {}).items():
        found[f"missing of {name}"] = int(returns[name].isna().sum()) == count
    for name, day, value in wanted.get("cells", []):
        cell = float(returns[name].iloc[days.index(day)])
        right = math.isnan(cell) if value is None else math.isclose(cell, value, rel_tol=1e-9, abs_tol=1e-9)
        found[f"{name} on {day}"] = right
    return ", ".join(f"{name} is wrong" for name, right in found.items() if not right)


def begins(day: str, wanted: str | list[str]) -> bool:
    """Whether a day begins with what is wanted, or with one of several."""
    return day.startswith(tuple([wanted] if isinstance(wanted, str) else wanted))


def says(texts: list[str], words: Any) -> bool:
    """Whether one text holds every word, capitals as they are; a list among the words is a choice of them."""
    if words is True:
        return bool(texts)
    choices = [[word] if isinstance(word, str) else word for word in words]
    return any(
        all(any(word in (text if word.isupper() else text.lower()) for word in choice) for choice in choices)
        for text in texts
    )
