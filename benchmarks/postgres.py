"""What a step's value in Postgres costs, beside the same text written by hand to the same server on this machine."""

import contextlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from checkpoints import step, text_of_a_checkpoint
from measure import Row, best, fresh, seconds_of
from workflows import completed

from dotflow import Config, DotFlow
from dotflow.providers import LogDefault, StoragePostgres


def rows(quick: bool) -> Iterator[Row]:
    """A run of 500 steps whose values go into a table, beside 500 upserts of the same text, each one committed.

    The server syncs nothing, so that the disk, which costs both of them the same, doesn't hide the difference. A run
    with a workflow_id of its own holds a lease, which each write looks at and locks, in the same statement.
    """
    found = fresh(measure, 100 if quick else 500, 2 if quick else 7)
    bare = {"psycopg upsert": found["bare"]}
    yield Row(what="checkpoint, StoragePostgres", ours=found["held"], peers=bare)
    yield Row(what="the same, without a lease", ours=found["free"], peers=bare)


def measure(count: int, repeats: int) -> dict[str, float]:
    """Seconds for one value, in each way."""
    sys.path.append(str(Path(__file__).parents[1]))
    import psycopg

    from tests.clouds.postgres import PostgresProcess

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.closing(PostgresProcess()))
        storage = stack.enter_context(contextlib.closing(StoragePostgres(server.dsn())))
        connection = stack.enter_context(psycopg.connect(server.dsn(), autocommit=True, prepare_threshold=None))
        connection.execute("CREATE TABLE kept (key text PRIMARY KEY, document text NOT NULL)")
        text = text_of_a_checkpoint().decode()

        def ours(workflow_id: str | None) -> None:
            workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id=workflow_id)
            workflow.task.add([step] * count)
            completed(workflow)

        def bare() -> None:
            name = uuid.uuid4().hex
            upsert = "INSERT INTO kept VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET document = excluded.document"
            for number in range(count):
                connection.execute(upsert, (f"{name}/{number}", text))

        contenders = {"held": lambda: ours(uuid.uuid4().hex), "free": lambda: ours(None), "bare": bare}
        return best({name: lambda work=work: seconds_of(work) / count for name, work in contenders.items()}, repeats)
