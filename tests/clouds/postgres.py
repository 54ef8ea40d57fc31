"""A Postgres server in a process of its own, which ends with its parent, and places in it."""

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg

PASSWORD: Final = "p@ss/w:rd?'s3cr3t%"  # that has to be quoted, wherever it stands


class PostgresProcess:
    """The script postgres_server.py, and the server that it runs.

    Args:
        synced: Whether it waits for the disk, as servers do.
        standby: Of which server it is a standby; None for a server of its own.
        within: A command that runs another one, and goes before its own.

    Attributes:
        port: Where it listens, on the loopback address.
    """

    def __init__(
        self, *, synced: bool = False, standby: "PostgresProcess | None" = None, within: Sequence[str] = ()
    ) -> None:
        command = [*within, sys.executable, str(Path(__file__).with_name("postgres_server.py")), PASSWORD]
        command += ["--synced"] if synced else []
        command += ["--standby", str(standby.port)] if standby is not None else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self._answer()
        if not port:
            self.close()
            raise AssertionError("Postgres did not start: what it said is in the test's stderr")
        self.port = int(port)

    def order(self, order: str) -> None:
        """Has it do something: start, stop or crash; returns when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        assert self._answer() == order

    def dsn(self, password: str = PASSWORD, **parameters: str) -> str:
        """How it is reached, as a URL; parameters are of libpq."""
        user, database = parameters.pop("user", "postgres"), parameters.pop("database", "postgres")
        port = parameters.pop("port", str(self.port))
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port}/{database}?{query}"

    @contextlib.contextmanager
    def schema(self) -> Iterator[str]:
        """The DSN of a schema with nothing in it; it is dropped afterwards."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE SCHEMA {name}")
        yield self.dsn(options=f"-csearch_path={name}")
        self.order("start")
        self.run(f"DROP SCHEMA {name} CASCADE")

    @contextlib.contextmanager
    def database(self, **defaults: str) -> Iterator["Database"]:
        """A database with nothing in it, of a role of its own with these defaults; both are dropped afterwards.

        A pooler takes its DSN, too, since it needs no `options`.
        """
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        self.run(f"CREATE DATABASE {name} OWNER {name}")
        for setting, value in defaults.items():
            self.run(f"ALTER ROLE {name} SET {setting} = '{value}'")
        yield Database(self, name)
        self.order("start")
        self.run(f"DROP DATABASE {name} (FORCE)")
        self.run(f"DROP ROLE {name}")

    def run(self, statement: str, *values: object, dsn: str | None = None) -> list[tuple[Any, ...]]:
        """What psql would be used for; the rows."""
        with psycopg.connect(dsn or self.dsn(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Stops it, and deletes what it wrote."""
        self._process.communicate()  # closes its stdin, and waits

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@dataclass(frozen=True)
class Database:
    """A database of a test, and the role that owns it.

    Attributes:
        server: Its server.
        name: Of the database and the role, which is the role's password, too.
    """

    server: PostgresProcess
    name: str

    def dsn(self, port: int | None = None, host: str = "127.0.0.1", **parameters: str) -> str:
        """How the role reaches it, on the server's port or on that of something between the two."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        return f"postgresql://{self.name}:{self.name}@{host}:{port or self.server.port}/{self.name}?{query}"

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Executes a statement in it, as the superuser."""
        return self.server.run(statement, *values, dsn=self.server.dsn(database=self.name))

    def alter(self, settings: str) -> None:
        """Changes database or role for new connections: `ROLE CONNECTION LIMIT 1`, `DATABASE SET x = y`."""
        kind, _, rest = settings.partition(" ")
        self.server.run(f"ALTER {kind} {self.name} {rest}")

    def cut(self) -> None:
        """Ends all of its connections."""
        self.server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", self.name)
