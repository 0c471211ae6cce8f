"""``--config``: options from a file are those of the command line, which wins over it; what it cannot hold is said."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.cli import configured

Run = Callable[..., tuple[str, str]]

STUDY = """
profile = "risk_parity"
cluster_cap = 0.3       # dashes or underscores
risk-free-rate = -0.01
precision = 64
subset = 8              # allocate has no such flag

[study]
n = 5
method = "circular"
block = 21
stress = ["volatility=1", "volatility=1.5,correlation=0.5"]
expanding = false
quiet = true
out = "robust"

[sweep]
n = 3
vary = ["cluster-cap=0.2,0.3", "threshold=0.3"]
"""


@pytest.fixture
def settings(file: Path) -> Path:
    path = file.with_name("study.toml")
    path.write_text(STUDY)
    return path


def test_a_file_is_as_good_as_flags(run: Run, file: Path, settings: Path) -> None:
    flags = ["--profile=risk_parity", "--cluster-cap=0.3", "--risk-free-rate=-0.01"]
    assert run("allocate", file, "--config", settings) == run("allocate", file, *flags)


def test_a_studys_record_keeps_the_settings_in_force(run: Run, file: Path, settings: Path) -> None:
    out, _ = run("study", file.name, "--config", settings.name, "--block", "10", "--seed=2")
    assert out.splitlines()[-1] == "Wrote robust"
    record = ja.load_study("robust").record
    config = ja.AllocationConfig(profiles=("risk_parity",), cluster_cap=0.3, risk_free_rate=-0.01, periods_per_year=252)
    assert ja.load_study("robust").settings.config == config
    bootstrap, subset, stress = record["sampler"]["factors"]
    assert (bootstrap["n"], bootstrap["method"], bootstrap["block_length"]) == (5, "circular", 10)
    assert (subset["size"], stress["correlation"]) == (8, [0.0, 0.5])
    # the command that it keeps does not need the file
    assert "--config" not in record["command"]
    settings.unlink()
    words = shlex.split(record["command"])
    assert words[0] == "jaxalloc"
    assert [words.count(flag) for flag in ("--block", "--stress", "--quiet", "--expanding")] == [1, 2, 1, 0]
    run(*words[1:], "--out", "again")
    again, first = (ja.load_study(folder).weights("risk_parity") for folder in ("again", "robust"))
    pd.testing.assert_frame_equal(again, first)


def test_flags_win_over_tables_and_tables_over_the_top(run: Run, file: Path, settings: Path) -> None:
    out, _ = run("sweep", file, "--config", settings, "--n", "2", "--json")
    document = json.loads(out)
    assert document["n_valid"] == 4
    assert document["settings"]["grid"] == {"cluster_cap": [0.2, 0.3], "distance_threshold": [0.3]}
    out, _ = run("sweep", file, "--config", settings, "--vary", "slack=1.1", "--profile=barbell", "--json")
    document = json.loads(out)
    assert document["settings"]["grid"] == {"slack": [1.1]}  # repeated flags do not add to the file's
    assert document["settings"]["config"]["profiles"] == ["barbell"]
    assert document["settings"]["config"]["cluster_cap"] == 0.3
    assert document["n_valid"] == 3


def test_what_goes_on_needs_no_file(run: Run, file: Path, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("study", file, "--config", settings)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxalloc.cli.running.run_study", interrupt)
    _, err = run("study", file, f"--config={settings}", "--resume", status=130)
    assert "--config" not in err
    monkeypatch.undo()
    monkeypatch.chdir(file.parent)
    found = re.search("resume with: jaxalloc (.*)\n", err)
    assert found is not None
    assert "--n 5" in found[1]
    run(*shlex.split(found[1]))


@pytest.mark.parametrize(("value", "written"), [("true", "robust/report.html"), ('"page.html"', "page.html")])
def test_a_report_from_the_file(run: Run, file: Path, settings: Path, value: str, written: str) -> None:
    pytest.importorskip("plotly")
    settings.write_text(f"report = {value}\n" + STUDY)
    out, _ = run("study", file, "--config", settings)
    assert out.splitlines()[-1] == f"Wrote {written}"
    settings.write_text("report = false\n" + STUDY)
    out, _ = run("study", file, "--config", settings, "--out", "other")
    assert out.splitlines()[-1] == "Wrote other"


ALLOWED = "choose from aggressor-weight, all, asset-cap, bag, bag-block, band, base, benchmark, block, "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clustr-cap = 0.3", f"there is no setting 'clustr-cap'; {ALLOWED}"),
        (
            "clustr-cap = 0.3",
            "window; or the tables [allocate], [clusters], [study], [sweep], [walk-forward], [cross-validate]",
        ),
        ("[stdy]\nn = 3", f"there is no setting 'stdy'; {ALLOWED}"),
        ("[allocate]\nn = 3", "there is no setting 'n' in [allocate]; choose from aggressor-weight, "),
        ("[study]\nvary = 'slack=1.1'", "there is no setting 'vary' in [study]; choose from "),
        ("study = 3", "study must be a table, [study] above its settings, not '3'"),
        ("cluster-cap = 0.2\ncluster_cap = 0.3", "cluster-cap is given twice"),
        ("cluster-cap = 'high'", "cluster-cap is 'high': "),
        ("cluster-cap = true", "cluster-cap is True: give a text or a number"),
        ("cluster-cap = [0.2]", "cluster-cap is [0.2]: give a text or a number"),
        ("[study]\nn = 2.5", "n in [study] is 2.5: "),
        ("quiet = 1", "quiet is 1: give true or false"),
        ("out = 2020-01-31", "out is datetime.date(2020, 1, 31): give a text or a number"),
        ("linkage = 'median'", "linkage is 'median': 'median' is not one of 'average', 'single', 'complete', 'ward'"),
        ("precision = 16", "precision is 16: '16' is not one of '32', '64'"),
        ("profile = 3", "profile is 3: '3' is not one of 'min_variance', 'risk_parity', "),
        ("profile = ['hrpp']", "profile is ['hrpp']: 'hrpp' is not one of 'min_variance', "),
        ("profile = []", "profile is []: give values, or leave the key out"),
        ("stress = [1.5, true]", "stress is [1.5, True]: give a text or a number"),
        ("fresh = true", "'fresh' is no setting, but about one run: give it on the command line, --fresh"),
        ("[study]\nresume = true", "'resume' in [study] is no setting, but about one run"),
        ("config = 'other.toml'", "'config' is no setting"),
        ("cluster-cap", "--config is not TOML (Expected '='"),
        ("kind = 'x'", "study.toml: kind is 'x': 'x' is not one of 'auto', 'returns', 'prices', 'percent', 'factors'"),
        ("cluster-cap = 1.5", "--cluster-cap must be greater than 0 and at most 1, not 1.5"),
    ],
)
def test_a_bad_file_is_one_line_whichever_command_reads_it(
    refused: Callable[..., str], settings: Path, text: str, message: str
) -> None:
    settings.write_text(text)
    for command in ("allocate", "study"):
        said = refused(command, "market.csv", "--config", "study.toml")
        assert message in said
        assert message.startswith("--cluster-cap must") or "study.toml: " in said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.toml", "nowhere.toml: there is no such file; check the path after --config"),
        (".", ".: --config cannot be read (Is a directory); give a file of TOML"),
        ("latin.toml", "latin.toml: --config is not in UTF-8 text; save it so"),
        ("deep.toml", "deep.toml: --config is nested too deeply; a setting is a number, a text or a list of them"),
        ("dotted.toml", "dotted.toml: "),
    ],
)
def test_an_unreadable_file_is_one_line(refused: Callable[..., str], file: Path, name: str, message: str) -> None:
    file.with_name("deep.toml").write_text(f"vary = {'[' * 1000}{']' * 1000}")
    file.with_name("dotted.toml").write_text(f"{'.'.join(['kind'] * 5000)} = 1")
    file.with_name("latin.toml").write_bytes("out = 'M\xfc'".encode("latin-1"))
    assert message in refused("study", file, "--config", name)


@pytest.mark.parametrize("command", configured.COMMANDS)
def test_every_flag_is_a_key(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out, _ = run(command, "--help")
    flags = set(re.findall(r"^│ +\*? *--([a-z-]+)", out, re.MULTILINE))
    assert flags - {"config", "resume", "fresh", "help"} == set(configured.options_of(command))
    assert {"kind", "cluster-cap", "json", "out"} < flags


def test_help_says_how_the_file_is_laid_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out, _ = run("study", "--help")
    places = "[allocate], [clusters], [study], [sweep], [walk-forward] or [cross-validate]"
    assert f"Its keys are the flags: at the top for every command, under {places} for" in out
