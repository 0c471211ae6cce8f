"""What long studies take and survive: memory by the number of universes, a soak, kills, a large study interrupted.

    JAXALLOC_DATA=folder python benchmarks/studies.py [memory] [soak] [kills] [interrupted]

runs the parts named (all by default; an hour on two cores) and puts each into benchmarks/results/studies.json; the
table studies.md is made from that.

- memory: the peak of the process's resident memory, and that before the study began, for 1e3 to 1e6 bootstrap universes
  of one year of the embedded market, streamed to a folder or summarised.
- soak: 1e6 mixed universes (masks that leave 1 to 60 of 60 assets, clones, constant columns, hedges, stresses): each is
  checked for NaN, bounds and sums, and statuses are counted; see tests/studies/test_reliability.py.
- kills: a running study killed 20 times by SIGKILL at random moments and resumed; the store is compared with that of an
  uninterrupted run, byte for byte.
- interrupted: 100,000 resamples of 100 stocks on the command line, interrupted by SIGINT, killed by SIGKILL, resumed;
  and the summary of 5,000 resamples against the same figures computed by pandas from the stored weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from panels import RESULTS, ROOT, stocks

import jaxalloc as ja

sys.path.insert(0, str(ROOT / "tests" / "studies"))

CHILD = """
import resource, sys, time
import jaxalloc as ja
n, n_assets, keep, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
market = ja.datasets.synthetic_market(n_assets, 252)
ja.run_study(market, ja.Bootstrap(256), keep="summary")  # compiles, and takes what any study takes
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
ja.run_study(market, ja.Bootstrap(n), out=folder, keep=keep)
seconds = time.perf_counter() - start
print(before / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds)
"""
CASES = [
    *((10**3, 20, keep) for keep in ("summary", "weights")),
    *((10**5, 20, keep) for keep in ("summary", "weights")),
    (10**6, 20, "summary"),
    *((10**3, 100, keep) for keep in ("summary", "weights")),
    *((10**5, 100, keep) for keep in ("summary", "weights")),
]


def memory() -> list[dict[str, Any]]:
    """Peak memory in MiB of studies, each in a process of its own."""
    rows = []
    for n, n_assets, keep in CASES:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [str(n), str(n_assets), keep, f"{folder}/study"]
            done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True)
            before, peak, seconds = map(float, done.stdout.split())
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        row = {"universes": n, "assets": n_assets, "keep": keep, "before_mib": round(before), "peak_mib": round(peak)}
        rows.append(row | {"seconds": round(seconds, 1), "folder_mib": round(size / 2**20, 1)})
        print(rows[-1], flush=True)
    return rows


def soak(n: int = 999_999) -> dict[str, Any]:
    """Check a million mixed universes."""
    import test_reliability

    start = time.perf_counter()
    last = [0]

    def report(done: int) -> None:
        if done - last[0] >= 50_000:
            last[0] = done
            print(f"soak: {done:,} universes, {time.perf_counter() - start:.0f} s", flush=True)

    seen = test_reliability.soak(n, report=report)
    return {"drawn": n, "checked": n, "seconds": round(time.perf_counter() - start), "seen": seen}


def kills(times: int = 20) -> dict[str, Any]:
    """Kill a study over and over."""
    import test_reliability

    found = {}
    for keep, n in (("weights", 60_000), ("summary", 600_000)):  # enough that no run gets to the end
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {
                "JAX_COMPILATION_CACHE_DIR": f"{folder}/programs",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }
            hits = test_reliability.killed_over_and_over(Path(folder), env, keep, times, n=n)
        found[keep] = {"kills": times, "in_mid_run": hits, "equal_to_uninterrupted": True}
        print(keep, found[keep], flush=True)
    return found


def interrupted(n: int = 100_000, n_assets: int = 100, compared: int = 5_000) -> dict[str, Any]:
    """A large study of real stocks on the command line, interrupted and killed and resumed."""
    returns = stocks(n_assets)
    assert returns is not None, "set JAXALLOC_DATA"
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "stocks.parquet", Path(folder) / "study"
        returns.to_parquet(file)
        command = [str(Path(sys.executable).with_name("jaxalloc")), "study", str(file), "--n", str(n)]
        command += ["--method", "circular", "--block", "21", "--out", str(out), "--keep", "summary", "--resume"]
        start, stops = time.perf_counter(), []
        for number, after in ((signal.SIGINT, 60), (signal.SIGKILL, 45), (None, None)):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if number is not None:
                time.sleep(after)
                process.send_signal(number)
            _, error = process.communicate()
            said = error.strip().splitlines()[-1:] if number is not None else []
            stops.append({"signal": number.name if number else None, "exit_status": process.returncode, "said": said})
            print(stops[-1], flush=True)
        seconds = time.perf_counter() - start
        study = ja.load_study(out)
        counted = int(study.totals[0].counts.n)
    return {
        "universes": counted,
        "assets": n_assets,
        "seconds_with_stops": round(seconds),
        "stops": stops,
        "against_pandas": against_pandas(returns, compared),
    }


def against_pandas(returns: pd.DataFrame, n: int) -> dict[str, float]:
    """Largest differences of the summary from figures that pandas computes from the stored weights."""
    with tempfile.TemporaryDirectory() as folder:
        study = ja.run_study(returns, ja.Bootstrap(n, "circular", 21), out=f"{folder}/study")
        summary, profiles, table = study.summary(), study.profile_summary(), study.universes()
        worst = dict.fromkeys(
            ("mean", "std", "frequency", "quantile_over_bound", "measure_mean", "measure_quantile"), 0.0
        )
        for profile in study.profiles:
            weights, mine = study.weights(profile), summary.loc[profile]
            worst["mean"] = max(worst["mean"], (weights.mean() - mine["mean"]).abs().max())
            worst["std"] = max(worst["std"], (weights.std() - mine["std"]).abs().max())
            positive = (weights > 1e-6).mean()
            worst["frequency"] = max(worst["frequency"], (positive - mine["frequency_positive"]).abs().max())
            for name, level in (("q05", 0.05), ("q25", 0.25), ("q50", 0.5), ("q75", 0.75), ("q95", 0.95)):
                exact = weights.quantile(level)
                bound = np.maximum(exact * 2.0**-7, 2.0**-20)
                share = ((exact - mine[name]).abs() / bound).max()
                worst["quantile_over_bound"] = max(worst["quantile_over_bound"], share)
            of_profile = table[table["profile"] == profile]
            for measure in ("volatility", "effective_assets", "turnover", "out_of_bag_sharpe"):
                figures, found = of_profile[measure], profiles.loc[(profile, measure)]
                error = abs(figures.mean() - found["mean"]) / abs(figures.mean())
                worst["measure_mean"] = max(worst["measure_mean"], error)
                error = abs(figures.quantile(0.95) - found["q95"]) / abs(figures.quantile(0.95))
                worst["measure_quantile"] = max(worst["measure_quantile"], error)
    return {name: float(f"{value:.2g}") for name, value in worst.items()}


def write_table(results: dict[str, Any]) -> None:
    """studies.md from the results there are."""
    lines = ["# Long studies", "", f"Machine: {results['machine']}. Made by `make studies`.", ""]
    if "memory" in results:
        lines += [
            "Peak resident memory of the process (before: after a first small study; both MiB) and the folder's size.",
            "",
            "| universes | assets | keep | before | peak | folder | seconds |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in results["memory"]:
            cells = [f"{row['universes']:,}", row["assets"], row["keep"], row["before_mib"], row["peak_mib"]]
            lines.append("| " + " | ".join(map(str, [*cells, row["folder_mib"], row["seconds"]])) + " |")
        lines.append("")
    if "kills" in results:
        for keep, found in results["kills"].items():
            lines.append(
                f"Killed by SIGKILL {found['kills']} times at random moments ({found['in_mid_run']} in mid-run) and "
                f"resumed, keep={keep}: the store equals an uninterrupted one byte for byte."
            )
        lines.append("")
    if "soak" in results:
        soaked = results["soak"]
        lines += [
            f"Soak: {soaked['checked']:,} mixed universes, each checked: no NaN in a valid one, no bound broken, no "
            "sum off. Occurrences: "
            + ", ".join(f"{name} {count:,}" for name, count in soaked["seen"].items() if name != "universes")
            + f"; valid {soaked['seen']['universes']:,}.",
            "",
        ]
    if "interrupted" in results:
        found = results["interrupted"]
        stops = ", ".join(stop["signal"] for stop in found["stops"] if stop["signal"])
        lines += [
            f"{found['universes']:,} resamples of {found['assets']} stocks, stopped by {stops} and resumed each time: "
            f"{found['seconds_with_stops']} s in all. Summary of 5,000 resamples against pandas on the stored weights, "
            "largest difference: "
            + ", ".join(f"{name} {value:g}" for name, value in found["against_pandas"].items())
            + ".",
            "",
        ]
    (RESULTS / "studies.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Run the parts named on the command line."""
    parts = {"memory": memory, "kills": kills, "interrupted": interrupted, "soak": soak}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, "all"], default="all")
    chosen = parser.parse_args().parts
    chosen = list(parts) if "all" in chosen else chosen
    path = RESULTS / "studies.json"
    for name in chosen:
        found = parts[name]()
        results = json.loads(path.read_text()) if path.exists() else {}
        results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}"
        results.setdefault("versions", {})[name] = {"jaxalloc": ja.__version__, "jax": jax.__version__}
        results[name] = found
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_table(results)


if __name__ == "__main__":
    main()
