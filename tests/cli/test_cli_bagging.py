"""--bag: bagged portfolios on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja

Run = Callable[..., tuple[str, str]]


def test_allocate_holds_the_mean_and_shows_errors(run: Run, file: Path, market: pd.DataFrame) -> None:
    words: list[Any] = ["--profile", "max_sharpe", "--bag", "30", "--block", "10", "--seed", "4"]
    out, err = run("allocate", file, *words, "--out", "weights.csv")
    assert "standard error" in out
    assert "Weights are means over 30 resamples of the rows, drawn in blocks of 10 rows." in " ".join(err.split())
    written = pd.read_csv("weights.csv").set_index("symbol")
    config = ja.AllocationConfig(profiles=("max_sharpe",))
    bagged = ja.allocate_bagged(ja.read_returns(file), config, ja.Bootstrap(30, "circular", 10), seed=4)
    wanted = bagged.to_frame()["max_sharpe"]
    np.testing.assert_allclose(written.loc[wanted.index, "weight"], wanted["weight"], atol=1e-12)
    np.testing.assert_allclose(written.loc[wanted.index, "standard_error"], wanted["standard_error"], atol=1e-12)


def test_the_document_says_how_it_was_bagged(run: Run, file: Path) -> None:
    document = json.loads(run("allocate", file, "--bag", "10", "--json")[0])
    assert document["bagging"]["n"] == document["bagging"]["n_valid"] == 10
    assert document["bagging"]["block_length"] == 21  # a month of business days
    (profile,) = document["profiles"].values()
    assert "standard_error" in profile["assets"][0]
    assert "optimality_gap" not in profile
    plain = json.loads(run("allocate", file, "--json")[0])
    assert "bagging" not in plain
    assert "standard_error" not in next(iter(plain["profiles"].values()))["assets"][0]


def test_a_block_of_one_row_draws_rows_one_by_one(run: Run, file: Path) -> None:
    out, err = run("allocate", file, "--bag", "5", "--block", "1", "--json")
    assert json.loads(out)["bagging"]["method"] == "iid"
    assert "drawn one by one" in " ".join(err.split())


def test_walk_forward_is_bagged(run: Run, file: Path) -> None:
    words = ["walk-forward", file, "--window", "60", "--step", "20", "--profile", "hrp", "--out", "walk"]
    words += ["--bag", "8", "--bag-block", "10"]
    out, _ = run(*words)
    assert "each portfolio is the mean of those of 8 resamples of its window, in blocks of 10 rows" in " ".join(
        out.split()
    )
    config = ja.AllocationConfig(profiles=("hrp",))
    wanted = ja.walk_forward(ja.read_returns(file), config, 60, 20, bagging=ja.Bootstrap(8, "circular", 10))
    np.testing.assert_allclose(ja.load_walk_forward("walk").history.net, wanted.history.net, atol=1e-12)
    document = json.loads(run(*words, "--resume", "--json")[0])
    assert document["bagging"] == {"sampler": "Bags", "n": 8, "method": "circular", "block_length": 10}
    assert "standard_error" in document["target"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("allocate", "--block", "5"), "--block is about resamples for bagging: give --bag"),
        (("allocate", "--bag", "0"), "--bag must be"),
        (("allocate", "--bag", "5", "--block", "many"), "--block 'many': give a number of rows, or auto"),
        (("walk-forward", "--window", "60", "--bag-block", "5"), "--bag-block is about resamples for bagging"),
        (("walk-forward", "--window", "60", "--bag", "5", "--bag-block", "500"), "whole number from 1 to 60"),
    ],
)
def test_bad_words_are_named(run: Run, file: Path, words: tuple[str, ...], said: str) -> None:
    command, *rest = words
    _, err = run(command, file, *rest, status=2)
    assert said in " ".join(err.split())
    assert not [path for path in file.parent.iterdir() if "walk" in path.name]
