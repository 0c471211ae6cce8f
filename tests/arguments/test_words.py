"""Words for messages: each on one line, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxalloc.arguments.words import point_name, quote, reason, trial_name, unquoted

HOSTILE = "a\nb\r\x1b[31m\u2028\u202ec'd\"e\\"


@pytest.mark.parametrize("write", [quote, unquoted, lambda text: reason(ValueError(text))])
def test_hostile_text_stays_on_one_line(write) -> None:  # type: ignore[no-untyped-def]
    text = write(HOSTILE)
    assert text.isprintable()
    assert text.splitlines() == [text]


def test_a_long_text_keeps_its_beginning_in_quotes_and_its_end_without() -> None:
    text = "first" + "x" * 300 + "last"
    assert quote(text) == repr("first" + "x" * 52 + "...")
    assert unquoted(text) == "x" * 196 + "last"
    assert unquoted(text, longest=None) == text


def test_what_is_no_text_is_shown_as_python_writes_it() -> None:
    shown = [unquoted(value) for value in (Path("a/b"), "", 5, True, [1, "2"])]
    assert shown == ["a/b", "''", "5", "True", "[1, '2']"]


def test_a_reason_is_the_operating_systems_or_the_errors_or_the_errors_name() -> None:
    with pytest.raises(FileNotFoundError) as missing:
        Path("/proc/nowhere").read_bytes()
    assert reason(missing.value) == "No such file or directory"
    assert reason(ValueError("first line\n  second line.")) == "first line second line"
    assert reason(TimeoutError()) == "TimeoutError"
    assert len(reason(ValueError("x" * 1000))) == 120


def test_a_trial_is_its_profile_at_its_point() -> None:
    assert [trial_name(name) for name in ("hrp", "max_sharpe")] == ["HRP", "max sharpe"]
    names, values = ("cluster_cap", "detone"), (0.25, True)
    assert trial_name((*values, "nco"), names) == f"NCO at {point_name(names, values)}"
    assert point_name(names, values) == "cluster cap 0.25, detone True"
    assert point_name((), ()) == ""
    with pytest.raises(ValueError, match="zip"):
        trial_name(("a", "hrp"))
