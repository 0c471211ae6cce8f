"""`jaxalloc report`, and ``--report`` of study and sweep: where the page goes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from helpers import DAYS_NOTE

from jaxalloc.cli import render
from jaxalloc.cli.commands import module_of

pytest.importorskip("plotly")

Run = Callable[..., tuple[str, str]]
STUDY = ("--n", "5", "--profile", "risk_parity")


def title(path: str) -> str:
    page = Path(path).read_text(encoding="utf-8")
    return page.split("<title>")[1].split("</title>")[0]


def test_a_studys_report_goes_into_its_folder(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "LINE_SECONDS", 3600.0)  # a slow machine says nothing of how far it is
    out, err = run("study", file.name, *STUDY, "--report")
    assert err == DAYS_NOTE
    assert out.splitlines()[-2:] == ["Wrote market-study", "Wrote market-study/report.html"]
    assert title("market-study/report.html") == "market.csv"
    page = Path("market-study/report.html").read_text(encoding="utf-8")
    assert "<pre>jaxalloc study market.csv --n 5 --profile risk_parity</pre>" in page
    # the page is no part of the study, which can be gone on with, or replaced
    run("study", file.name, *STUDY, "--resume")
    out, _ = run("study", file.name, *STUDY, "--seed", "1", "--fresh", "--report", "--json")
    assert json.loads(out)["report"] == "market-study/report.html"


@pytest.mark.parametrize("words", [("--report", "here.html"), ("--report=here.html",)])
def test_a_report_goes_where_it_is_told(run: Run, file: Path, words: tuple[str, ...]) -> None:
    out, _ = run("study", *words, file, *STUDY, "--out", "new")
    assert out.splitlines()[-2:] == ["Wrote new", "Wrote here.html"]
    assert Path("here.html").is_file()
    assert not Path("new/report.html").exists()


def test_the_word_after_report_may_be_the_data(run: Run, file: Path) -> None:
    run("study", *STUDY, "--out", "new", "--report", file)
    assert Path("new/report.html").is_file()
    run("study", file, *STUDY, "--out", "other", "--report", "other/r.html")  # into a folder that is still to come
    assert Path("other/r.html").is_file()


@pytest.mark.parametrize(
    ("words", "report", "file", "out"),
    [
        ("a.csv --report", "", "a.csv", None),
        ("--report a.csv", "", "a.csv", None),
        ("--report a.HTML b", "a.HTML", "b", None),
        ("b --report --out x.html", "", "b", "x.html"),
        ("--report -- a.html", "", "a.html", None),
        ("-- --report", None, "--report", None),
        ("--report=a.html b", "a.html", "b", None),
        ("--report= a.html", "", "a.html", None),
    ],
)
def test_report_may_stand_alone(words: str, report: str | None, file: str, out: str | None) -> None:
    for name in ("study", "walk-forward"):
        given = typer.main.get_command(module_of(name).app).make_context(name, words.split()).params
        assert given["report"] == report
        # the lowest typer makes paths of these words only when it calls the command
        assert Path(given["file"]) == Path(file)
        assert (given["out"] and Path(given["out"])) == (out and Path(out))


def test_a_sweeps_report(run: Run, file: Path) -> None:
    vary = ("sweep", file.name, "--vary", "cluster-cap=0.2,0.3", "--profile", "risk_parity", "--report")
    for name in ("market-report.html", "market-report-2.html"):
        out, _ = run(*vary)
        assert out.splitlines()[-1] == f"Wrote {name}"
        assert 'id="sweep"' in Path(name).read_text(encoding="utf-8")
    out, _ = run(*vary, "--out", "swept")
    assert out.splitlines()[-1] == "Wrote swept/report.html"


def test_report_of_a_study_that_is_there(run: Run, file: Path) -> None:
    run("study", file, *STUDY, "--out", "new", "--keep", "summary")
    out, err = run("report", "new")
    assert (out, err) == ("Wrote new/report.html\n", "")
    assert title("new/report.html") == "new"
    assert run("report", "new", "--out", "page.html")[0] == "Wrote page.html\n"
    own = Path("page.html").read_text(encoding="utf-8")
    assert own == Path("new/report.html").read_text(encoding="utf-8")  # the same study, the same page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report", "market.csv"), "no study is stored there"),
        (("report", "nowhere"), "no study is stored there"),
        (("report",), "Missing argument"),
        (("study", "market.csv", "--report=page.txt"), "must be a file whose name ends in .html"),
        (("study", "market.csv", "--report", "folder.html"), "is a directory; give the path of a file"),
        (("study", "market.csv", "--report", "none/page.html"), "there is no directory 'none'; create it, or choose"),
        (
            ("sweep", "market.csv", "--vary", "slack=1.1,1.2", "--report=p.pdf"),
            "must be a file whose name ends in .html",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(
    refused: Callable[..., str], words: tuple[str, ...], message: str
) -> None:
    Path("folder.html").mkdir()
    assert message in refused(*words)


def test_a_machine_is_told_where_the_page_is(run: Run, file: Path) -> None:
    run("study", file, *STUDY, "--out", "new")
    out, _ = run("report", "new", "--json")
    assert json.loads(out) == {"folder": "new", "report": "new/report.html"}


def test_help_has_an_example(run: Run) -> None:
    out, _ = run("report", "--help")
    assert "Example: jaxalloc report prices-study --out prices.html" in out
    assert "--report" in run("study", "--help")[0]
    assert "report" in run("--help")[0]
