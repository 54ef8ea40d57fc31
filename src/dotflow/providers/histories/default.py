"""Histories by name: a file, or a Postgres database. The environment variable DOTFLOW_HISTORY has a default one."""

import functools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotflow.abc.history import HISTORY_VARIABLE, NO_HISTORY, POSTGRES, POSTGRES_VARIABLE, History
from dotflow.errors import InvalidArgument
from dotflow.providers.postgres.dsn import SCHEMES, Dsn

if TYPE_CHECKING:
    from dotflow.providers.histories.sql.history import SQLHistory


#: The beginning of the other form of a DSN, which would be the path of a file, with its password in the name.
OPTIONS: Final = re.compile(r"\s*(host|hostaddr|port|dbname|user|password|service)\s*=")


def history_of(given: History | None) -> History | None:
    """Returns the history of a Config: the given one, or that of the environment, whose "0" turns any off."""
    name = os.environ.get(HISTORY_VARIABLE)
    if not name:
        return given
    if name == NO_HISTORY:
        return None
    return history_at(name) if given is None else given


def history_at(name: str) -> "SQLHistory":
    """Returns the history of a name: one for each.

    A text that begins with `postgresql://` or `postgres://` is a DSN. `postgres` alone is the database of the
    environment variable DOTFLOW_POSTGRES_DSN, or of PGHOST and libpq's other ones. Any other one is the path of a file.

    Raises:
        InvalidArgument: The DSN can't be parsed, or is no URL.
        MissingExtra: psycopg is missing.
    """
    if name == POSTGRES:
        return _postgres(os.environ.get(POSTGRES_VARIABLE, ""))
    if option := OPTIONS.match(name):
        raise InvalidArgument("history", f"{option[1]}=...", "the URL of a database, postgresql://user@host/name")
    return _postgres(name) if name.startswith(SCHEMES) else _sqlite(str(Path(name).absolute()))


def absolute(name: str) -> str:
    """Returns the name of the same history in any folder."""
    if name == POSTGRES or name.startswith(SCHEMES):
        return name
    return os.path.abspath(name)  # noqa: PTH100 (for links, as HistorySQLite has it)


def has_password(name: str) -> bool:
    """Returns whether a name is a DSN with a password. One that can't be parsed may have one."""
    try:
        return name.startswith(SCHEMES) and Dsn(name, "HistoryPostgres").has_password
    except InvalidArgument:
        return True


@functools.cache
def _sqlite(path: str) -> "SQLHistory":
    from dotflow import providers  # here: most programs have no history

    return providers.HistorySQLite(path)


@functools.cache
def _postgres(dsn: str) -> "SQLHistory":
    from dotflow import providers

    return providers.HistoryPostgres(dsn)
