"""dotflow beside the libraries people come from: each in a venv of its own, each asked the same. Prints Markdown.

python benchmarks/comparison.py                  # all of them: install, measure, print
python benchmarks/comparison.py --only Luigi     # this one again; the others as they were measured last
python benchmarks/comparison.py --tables         # nothing is measured: the tables of the last time
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import comparison_tables
from contenders import CONTENDERS, VENVS, Contender
from laboratory import Laboratory, Observed, laboratory

RESULTS: Final = VENVS / "results.json"
REPEATS: Final = 3  # of what is timed; the least counts, since noise only adds

Facts = dict[str, Any]


def imports(contender: Contender) -> Facts:
    """Seconds that the import takes, beyond what a bare interpreter takes."""

    def least(code: str) -> float:
        def once() -> float:
            began = time.perf_counter()
            subprocess.run([contender.python, "-c", code], check=True, capture_output=True)
            return time.perf_counter() - began

        return min(once() for _ in range(REPEATS + 2))

    return {"seconds": least(contender.imports) - least("pass")}


def installed(contender: Contender) -> Facts:
    """Its version, how many distributions came with it, and how many bytes."""
    distributions, size = contender.weight()
    return {"version": contender.version(), "distributions": distributions, "bytes": size}


def first(contender: Contender) -> Facts:
    """Seconds from interpreter start to exit for three steps that hand a value on, the databases made already."""
    with laboratory(contender) as lab:
        seen = [lab.run("first") for _ in range(REPEATS)]
    if wrong := [run.said() for run in seen if run.said()["value"] != 3]:
        raise RuntimeError(f"three steps made {wrong}")
    return {"seconds": min(run.seconds for run in seen)}


def cost(measurement: str) -> Callable[[Contender], Facts]:
    """A measurement of the seconds that a step takes which does nothing, in a run of many."""

    def measure(contender: Contender) -> Facts:
        count = contender.steps[measurement]
        seen = []
        for _ in range(REPEATS):
            with laboratory(contender) as lab:
                seen.append(lab.run(measurement, str(count)).said()["seconds"])
        return {"seconds": min(seen), "steps": count}

    return measure


def limited(measurement: str) -> Callable[[Contender], Facts]:
    """A measurement of a step of ten seconds that may take one: when that was told, when it was over, what ran on."""

    def measure(contender: Contender) -> Facts:
        with laboratory(contender) as lab:
            run = lab.run(measurement)
        began = run.times("began")[0]
        return {
            "said": run.said()["said"],
            "told": run.answer["at"] - began,
            "over": run.ended - began,
            "ran_on": bool(run.times("later line")),
            "left": run.left,
        }

    return measure


def died(contender: Contender) -> Facts:
    """Four steps at once, of which one ends its process: what became of the others, and when that was known."""
    with laboratory(contender) as lab:
        run = lab.run("died")
    others = [number for number in range(4) if number != 1]
    return {
        "said": run.answer.get("said", f"program gone, exit code {run.returncode}"),
        "seconds": run.answer.get("at", run.ended) - min(at for at, _ in run.trace),
        "ended": sum(bool(run.times(f"ended {number}")) for number in others),
        "again": sum(len(run.times(f"began {number}")) > 1 for number in others),
        "attempts": len(run.times("began 1")),
        "left": run.left,
    }


def chain(contender: Contender) -> Facts:
    """Five steps, all processes killed in the third, the program started again: how often each step began."""
    with laboratory(contender) as lab:
        run = _killed_and_again(lab)
    return {"began": [len(run.times(f"began {number}")) for number in range(1, 6)], "said": run.answer.get("said")}


def values(contender: Contender) -> Facts:
    """The same with a value of many types: what the third step got after the crash."""
    with laboratory(contender, COMPARED_VALUE="rich") as lab:
        try:
            run = _killed_and_again(lab)
        except RuntimeError as refused:
            return {"came": f"refused: {refused}"}
    came = [words.removeprefix("came ") for _, words in run.trace if words.startswith("came ")]
    return {"came": came[-1] if len(came) > 1 else f"refused: {run.last_words}"}


def _killed_and_again(lab: Laboratory) -> Observed:
    lab.run_until_killed("chain")
    return lab.run("chain", keep=True)


MEASUREMENTS: Final[Mapping[str, Callable[[Contender], Facts]]] = {
    "installed": installed,
    "import": imports,
    "first": first,
    "overhead": cost("overhead"),
    "durable": cost("durable"),
    "sqlite": cost("sqlite"),
    "late": limited("late"),
    "stuck": limited("stuck"),
    "chain": chain,
    "died": died,
    "values": values,
}


def measured(contender: Contender, names: list[str]) -> Facts:
    """All that is found out about a contender; a measurement that fails says why."""
    try:
        contender.installed()
    except Exception as error:
        return {name: {"failed": f"can't be installed: {error}"} for name in names}
    found: Facts = {}
    for name in names:
        if name in contender.lacks:
            found[name] = {"lacks": contender.lacks[name]}
        elif name != "sqlite" or name in contender.steps:
            found[name] = _try(MEASUREMENTS[name], contender)
            print(f"{contender.name}, {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def _try(measure: Callable[[Contender], Facts], contender: Contender) -> Facts:
    try:
        return measure(contender)
    except Exception as error:  # whatever it is, the table shows it in the place of a number
        return {"failed": f"{type(error).__name__}: {error}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", choices=[c.name for c in CONTENDERS])
    parser.add_argument("--measure", action="append", metavar="WHAT", choices=list(MEASUREMENTS))
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    results: dict[str, Facts] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for contender in [] if options.tables else CONTENDERS:
        if options.only is None or contender.name in options.only:
            found = measured(contender, options.measure or list(MEASUREMENTS))
            date = datetime.now(UTC).date().isoformat()
            results[contender.name] = results.get(contender.name, {}) | found | {"date": date}
            RESULTS.write_text(json.dumps(results, indent=1))
    print(comparison_tables.all_tables({c.name: results[c.name] for c in CONTENDERS if c.name in results}))


if __name__ == "__main__":
    main()
