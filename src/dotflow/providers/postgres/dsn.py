"""Dsn: a connection string, whose secrets are neither shown, nor pickled, nor in an error."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from dotflow.errors import InvalidArgument, MissingExtra

EXPECTED: Final = (
    "a URL such as 'postgresql://user@host:5432/database', or 'host=... dbname=...', or '' for that of the environment "
    "(PGHOST, PGSERVICE, ~/.pgpass); special characters of a password in a URL must be percent-encoded, and a value "
    "with spaces after '=' be in single quotes"
)
SCHEMES: Final = ("postgresql://", "postgres://")  # of a URL
MASK: Final = "…"  # replaces a password, and a DSN that can't be parsed

LOCATION: Final = ("user", "host", "port", "dbname")  # the options in a URL before its query

#: libpq's mark of secret options: www.postgresql.org/docs/current/libpq-connect.html, PQconninfoParse
PASSWORD_MARK: Final = b"*"

#: Options that the DSN does not set. By libpq's defaults, waiting for a host that is gone takes hours.
DEFAULTS: Final[Mapping[str, str]] = {
    "keepalives_idle": "30",  # seconds of silence before the first probe
    "keepalives_interval": "10",  # seconds
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds without an acknowledgement
    "fallback_application_name": "dotflow",
}


class Dsn:
    """A parsed connection string.

    Args:
        text: As libpq reads it: www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
        provider: Who needs it, for errors.

    Raises:
        InvalidArgument: It can't be parsed. The error does not quote it, since any part may be the password.
        MissingExtra: libpq is missing.
    """

    def __init__(self, text: object, provider: str) -> None:
        try:
            from psycopg import OperationalError, pq
        except ImportError:  # psycopg without libpq
            raise MissingExtra(provider, "libpq", "postgres") from None
        if not isinstance(text, str):
            raise InvalidArgument("dsn", type(text), EXPECTED)
        options = None
        if "\0" not in text:  # libpq stops reading there
            with contextlib.suppress(OperationalError, UnicodeEncodeError):  # the message may quote the password
                options = pq.Conninfo.parse(text.encode())
        if options is None:
            raise InvalidArgument("dsn", MASK, EXPECTED)
        self._options = {option.keyword.decode(): option.val.decode() for option in options if option.val is not None}
        secrets = [option for option in options if option.dispchar == PASSWORD_MARK]
        self._secret_names = frozenset(option.keyword.decode() for option in secrets)
        if self._exposes_password(is_url=text.startswith(SCHEMES)):
            raise InvalidArgument("dsn", MASK, EXPECTED)

    def _exposes_password(self, *, is_url: bool) -> bool:
        """Returns whether a part of an unescaped password, with an @ or a / in it, was read as another option."""
        values = [self._options.get("host", ""), self._options.get("dbname", "") if is_url else ""]
        ports = self._options.get("port", "").split(",")
        return any("@" in value for value in values) or not all(port == "" or port.isdecimal() for port in ports)

    def parameters(self, **defaults: str) -> dict[str, str]:
        """Returns the options for libpq, with more defaults."""
        connect_timeout = os.environ.get("PGCONNECT_TIMEOUT") or defaults.pop("connect_timeout", "10")  # seconds
        given = {"connect_timeout": connect_timeout, **self._options, "client_encoding": "UTF8"}
        return {**DEFAULTS, **defaults, **given}

    @property
    def has_password(self) -> bool:
        """Whether it has a password, or another secret."""
        return any(self.secrets)

    @property
    def secrets(self) -> list[str]:
        """Its passwords."""
        return [value for name, value in self._options.items() if name in self._secret_names]

    @property
    def has_several_hosts(self) -> bool:
        """Whether it names several hosts, of which one is the primary."""
        return "," in self._options.get("host", "") + self._options.get("hostaddr", "")

    @property
    def url(self) -> str:
        """A URL without passwords."""
        options = {name: value for name, value in self._options.items() if name not in self._secret_names}
        user, host, port, database = (quote(options.pop(name, ""), safe="") for name in LOCATION)
        at, colon = "@" if user else "", ":" if port else ""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        return f"postgresql://{user}{at}{host}{colon}{port}/{database}{'?' if query else ''}{query}"

    def with_secrets_of(self, other: "Dsn") -> "Dsn":
        """Returns the other one if it differs by nothing but its secrets; else this one."""
        return other if not self.has_password and other.url == self.url else self

    def location(self) -> str:
        """Returns host, port and database, for messages."""
        if "service" in self._options and "host" not in self._options:
            return f"service {self._options['service']!r}"
        from psycopg import pq

        options = pq.Conninfo.get_defaults()
        values = {option.keyword.decode(): option.val.decode() for option in options if option.val} | self._options
        host = values.get("host") or values.get("hostaddr") or "the local socket"
        return f"{host}, port {values.get('port')}, database {values.get('dbname') or values.get('user')!r}"

    def hide(self, text: str) -> str:
        """Returns a text without passwords."""
        for secret in (*self.secrets, os.environ.get("PGPASSWORD", "")):
            text = text.replace(secret, MASK) if secret else text
        return text

    def __repr__(self) -> str:
        return f"Dsn({self.location()})"

    def __deepcopy__(self, memo: object) -> "Dsn":
        return self  # immutable

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the secrets out: a pickle may be stored anywhere."""
        public = {name: value for name, value in self._options.items() if name not in self._secret_names}
        return {"_options": public, "_secret_names": self._secret_names}

    def __copy__(self) -> "Dsn":
        return self
