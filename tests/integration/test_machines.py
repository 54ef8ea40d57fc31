"""Two machines with one history in Postgres, in short. `make test-machines` harms them for minutes, as namespaces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clouds.postgres import PostgresProcess
from tests.machines_table import QUICK, Fleet, Mark, Trouble, find_overlaps, race

pytestmark = pytest.mark.slow


def test_two_machines_lose_no_run_and_run_no_name_twice_at_once(postgres_server: PostgresProcess) -> None:
    """Whatever dies, is frozen, is cut off or is restarted, each run completes, and every view has it."""
    with Fleet(QUICK, server=postgres_server) as fleet:
        outcome = fleet.run()

    assert outcome.is_right, outcome
    assert outcome.exits == []


def test_processes_that_claim_at_once_take_no_name_twice(postgres_server: PostgresProcess) -> None:
    """Three runs of each name, of which the next one is submitted while the last one runs."""
    claims = race(25, server=postgres_server)

    assert (claims.double, claims.left, sum(claims.claimed)) == (0, 0, 102)


def test_two_steps_of_a_name_at_once_are_found() -> None:
    """One whose process was killed, or stands still, runs no more."""
    names = {"one": "report@customer=1", "two": "report@customer=1"}
    marks = [
        Mark(10.0, "begin", "one", "extract", "a.1"),
        Mark(60.0, "begin", "two", "extract", "b.1"),
        Mark(61.0, "end", "two", "extract", "b.1"),
        Mark(70.0, "end", "one", "extract", "a.1"),
    ]

    def found(trouble: Trouble) -> list[bool]:
        return [is_thawed for is_thawed, _ in find_overlaps(marks, names, trouble)]

    assert found(Trouble()) == [False]
    assert found(Trouble(killed={"a.1": 11.0})) == []
    assert found(Trouble(stopped={"a.1": (11.0, 69.0)})) == []
    assert found(Trouble(stopped={"a.1": (11.0, 60.5)})) == [True]


def test_the_example_of_several_machines_is_submitted_and_served(postgres_server: PostgresProcess) -> None:
    """By the commands of its page, with a password that only the environment has."""
    with postgres_server.database() as database:
        dsn = database.dsn().replace(f":{database.name}@", "@")
        given = {"DOTFLOW_HISTORY": "postgres", "DOTFLOW_POSTGRES_DSN": dsn, "PGPASSWORD": database.name}

        def call(*words: str) -> str:
            """Runs a command in the folder of the example."""
            return subprocess.run(
                [sys.executable, "-m", "dotflow", *words],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | given,
                cwd=Path(__file__).parents[2] / "examples" / "machines",
            ).stdout

        assert call("history", "upgrade", "--history", "postgres").startswith("The tables are made: ")
        run = call("submit", "report", "--param", "customer=7").strip()
        call("serve", "shop:report", "--once")
        (listed,) = map(json.loads, call("runs", "--json").splitlines())

    assert (listed["run_id"], listed["workflow_id"], listed["state"]) == (run, "report@customer=7", "Completed")
