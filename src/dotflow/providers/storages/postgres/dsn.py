"""Dsn: how a Postgres server is reached; what is secret in it is shown nowhere and doesn't travel."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from dotflow.errors import InvalidArgument, MissingExtra

EXPECTED: Final = (
    "a URL such as 'postgresql://user@host:5432/database', or 'host=... dbname=...', or '' for what the environment "
    "says (PGHOST, PGSERVICE, ~/.pgpass); special characters of a password in a URL are percent-encoded, and a value "
    "with spaces after '=' is put in single quotes"
)
MASK: Final = "…"  # stands for a DSN, of which nobody can say where its password is, and for a password

#: Marks what libpq hides in its own dialogs: www.postgresql.org/docs/current/libpq-connect.html, PQconninfoParse
PASSWORD_MARK: Final = b"*"

#: Where the DSN says nothing else. Otherwise a host that has gone without a word would be waited for for hours.
DEFAULTS: Final[Mapping[str, str]] = {
    "connect_timeout": "10",  # seconds
    "keepalives_idle": "30",  # seconds of silence, in an answer that is waited for, until the host is asked for a sign
    "keepalives_interval": "10",  # seconds
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds in which what was sent has to be acknowledged
    "fallback_application_name": "dotflow",
}


class Dsn:
    """A connection string, taken apart.

    Args:
        text: As libpq reads it: www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING

    Raises:
        InvalidArgument: It isn't one. It is not repeated: nobody can say which part of it is the password.
        MissingExtra: libpq is missing.
    """

    def __init__(self, text: object) -> None:
        try:
            from psycopg import OperationalError, pq
        except ImportError:  # it is there, and what it is made of is not
            raise MissingExtra("StoragePostgres", "libpq", "postgres") from None
        if not isinstance(text, str):
            raise InvalidArgument("dsn", type(text), EXPECTED)
        options = None
        if "\0" not in text:  # libpq would read no further
            with contextlib.suppress(OperationalError, UnicodeEncodeError):  # what it says would quote a part
                options = pq.Conninfo.parse(text.encode())
        if options is None:
            raise InvalidArgument("dsn", MASK, EXPECTED)
        self._options = {option.keyword.decode(): option.val.decode() for option in options if option.val is not None}
        secrets = [option for option in options if option.dispchar == PASSWORD_MARK]
        self._secret_names = frozenset(option.keyword.decode() for option in secrets)
        if self._exposes_password(is_url=text.startswith(("postgresql://", "postgres://"))):
            raise InvalidArgument("dsn", MASK, EXPECTED)

    def _exposes_password(self, *, is_url: bool) -> bool:
        """Whether a part of the password has ended up elsewhere, where it would be shown: it had an @ or a / in it."""
        found = [self._options.get("host", ""), self._options.get("dbname", "") if is_url else ""]
        ports = self._options.get("port", "").split(",")
        return any("@" in value for value in found) or not all(port == "" or port.isdecimal() for port in ports)

    def parameters(self) -> dict[str, str]:
        """What libpq is given."""
        found = {**DEFAULTS, **self._options, "client_encoding": "UTF8"}
        if "PGCONNECT_TIMEOUT" in os.environ and "connect_timeout" not in self._options:
            del found["connect_timeout"]
        return found

    def location(self) -> str:
        """Host, port and database, for readers."""
        if "service" in self._options and "host" not in self._options:
            return f"service {self._options['service']!r}"
        from psycopg import pq

        options = pq.Conninfo.get_defaults()
        found = {option.keyword.decode(): option.val.decode() for option in options if option.val} | self._options
        host = found.get("host") or found.get("hostaddr") or "the local socket"
        return f"{host}, port {found.get('port')}, database {found.get('dbname') or found.get('user')!r}"

    def hide(self, text: str) -> str:
        """A text in which there is no password."""
        secrets = [value for name, value in self._options.items() if name in self._secret_names]
        for secret in (*secrets, os.environ.get("PGPASSWORD", "")):
            text = text.replace(secret, MASK) if secret else text
        return text

    def __repr__(self) -> str:
        return f"Dsn({self.location()})"

    def __deepcopy__(self, memo: object) -> "Dsn":
        return self  # it never changes

    def __getstate__(self) -> dict[str, Any]:
        """All but what is secret: a pickle may lie about anywhere."""
        public = {name: value for name, value in self._options.items() if name not in self._secret_names}
        return {"_options": public, "_secret_names": self._secret_names}

    def __copy__(self) -> "Dsn":
        return self
