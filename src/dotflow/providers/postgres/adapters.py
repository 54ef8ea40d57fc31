"""How the values of a history stand in Postgres: any text in a text column, and whole numbers as such."""

from typing import Any

from psycopg.adapt import Dumper, Loader

from dotflow.providers.text_escape import escape, unescape


class TextDumper(Dumper):
    """Escapes what a text column can't hold."""

    def dump(self, obj: str) -> bytes:
        return escape(obj).encode()


class TextLoader(Loader):
    """Returns the text that was escaped."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        return text if text.isascii() else unescape(text)


class NumberLoader(Loader):
    """Returns a sum of whole numbers as one."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text else int(text)


def register(connection: Any) -> None:
    """Adds them to a psycopg.Connection."""
    connection.adapters.register_dumper(str, TextDumper)
    for name in ("text", "varchar"):
        connection.adapters.register_loader(name, TextLoader)
    connection.adapters.register_loader("numeric", NumberLoader)
