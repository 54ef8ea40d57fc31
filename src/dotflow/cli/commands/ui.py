"""`dotflow ui`: the runs of the past and those that go on, in a browser."""

import errno
import os

import click

from dotflow.cli.command import Command, option
from dotflow.cli.options import HISTORY_OPTION, open_history
from dotflow.ui.server import UiServer


@click.command(cls=Command)
@option(
    "--port", type=click.IntRange(0, 65535), metavar="N", example="--port 9000",
    help="The port; by default the first free one from 8765 on. 0: any that is free.",
)  # fmt: skip
@option(
    "--host", metavar="NAME", default="127.0.0.1", show_default=True, example="--host 0.0.0.0",
    help="The address to listen on. Any but the default can be reached from other computers.",
)  # fmt: skip
@option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@option(
    "--write", is_flag=True,
    help="Print a second address, whose pages have buttons: cancel, pause, resume, approve, reject, submit.",
)  # fmt: skip
@HISTORY_OPTION
def ui(port: int | None, host: str, no_browser: bool, write: bool, history: str | None) -> None:
    """Show the runs in a browser: a list, each run while it goes on, what differs between two.

    \b
    dotflow ui
    dotflow ui --no-browser --port 9000
    dotflow ui --write

    The printed address has a token, without which nothing is shown. The page reads the history, and changes nothing.
    With --write, a second address has buttons that give orders to runs. Ctrl-C ends it.
    """
    archive = open_history(history)
    try:
        server = UiServer(archive, history, host, port, may_write=write)
    except (OSError, UnicodeError) as error:  # a name that is too long
        raise click.UsageError(_words(error, host, port)) from error
    if not server.is_local:
        can = "read the runs, or with the second one give them orders" if write else "read the runs"
        click.echo(
            f"dotflow ui: Other computers can reach {host}, and all who have the address can {can}. The connection is "
            "not encrypted.",
            err=True,
        )

    def announce() -> None:
        if write:
            click.echo(f"{server.address} (reads)\n{server.writing_address} (reads and writes)")
        else:
            click.echo(server.address)
        if not no_browser:
            server.open_browser()

    server.run(announce)


def _words(error: OSError | UnicodeError, host: str, port: int | None) -> str:
    if isinstance(error, UnicodeError):
        return f"Can't listen on {host!r}: it is not a name of a computer. Pass an address of this computer as --host."
    if error.errno == errno.EADDRINUSE:
        return f"Can't listen on port {port}: another program uses it. Pass another --port, or none."
    if error.errno == errno.EACCES:
        return f"Can't listen on port {port}: {os.strerror(errno.EACCES)}. Pass a --port of 1024 or more."
    return f"Can't listen on {host!r}: {error.strerror}. Pass an address of this computer as --host."
