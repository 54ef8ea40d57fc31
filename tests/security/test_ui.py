"""`dotflow ui` from the outside: clients that hang on, other users of the computer, and commands that are copied."""

import http.client
import re
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dotflow import clock
from dotflow.cli.main import main
from dotflow.providers import HistorySQLite
from dotflow.providers.histories.sqlite.history import DEFAULT_PATH
from dotflow.report.document import read_document
from dotflow.ui import app
from dotflow.ui.security import CODE_LIFETIME, AccessTokens
from tests.asgi import request
from tests.histories import nightly, quick
from tests.served import get, make_browser, path_of, serving

FILES = 128  # that the server may have open: fewer than clients hang on
IDLE = 150
UNFINISHED = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
#: A request whose response is sent before the rest of it, which is invalid, has come.
CHUNKED = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"

#: `dotflow ui` whose clients have half a second for a request.
SHORT = """
import sys
from dotflow.cli.main import main
from dotflow.ui import connection
connection.REQUEST_TIMEOUT = 0.5
main(["ui", "--port", "0", "--history", sys.argv[1]])
"""
#: Ends the paste of a terminal, and runs a command.
PASTED = "\x1b[201~\nid > pwned\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(HistorySQLite(tmp_path / "history.db")) as history:
        quick(history).start()
    return tmp_path / "history.db"


def connect(address: str) -> socket.socket:
    url = urlsplit(address)
    return socket.create_connection((url.hostname, url.port), timeout=30)


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no other process can be limited")
@pytest.mark.parametrize("sent", [b"", UNFINISHED, CHUNKED], ids=["idle", "slow headers", "slow body"])
def test_clients_that_hang_on_starve_no_other(path: Path, sent: bytes) -> None:
    """With more of them than the server may have files, a client with the token is answered, and nothing is printed."""
    with serving(path, "--port", "0") as (process, line), ExitStack() as clients:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        for _ in range(IDLE):
            clients.enter_context(closing(connect(line))).send(sent)
        status, _, _ = get(line, f"/?{urlsplit(line.strip()).query}")
        process.terminate()
        _, err = process.communicate()

    assert (status, err) == (200, "")


def test_a_client_with_the_token_keeps_its_connection(path: Path) -> None:
    """Those that hang on are closed in its place."""
    with serving(path, "--port", "0") as (_, line), ExitStack() as clients:
        client = clients.enter_context(closing(http.client.HTTPConnection(urlsplit(line).netloc, timeout=30)))
        sockets = set()
        for number in range(IDLE):
            clients.enter_context(closing(connect(line)))
            if number % 10 == 0:
                client.request("GET", f"/?{urlsplit(line.strip()).query}")
                client.getresponse().read()
                sockets.add(client.sock)

    assert len(sockets) == 1


def test_a_request_that_does_not_end_is_given_up(path: Path) -> None:
    """Also one that comes byte by byte: its time begins with the connection, not with the last byte."""
    process = subprocess.Popen([sys.executable, "-c", SHORT, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        with closing(connect(process.stdout.readline())) as client:
            client.settimeout(0.01)
            client.send(UNFINISHED)
            while is_open(client):
                client.send(b"a")
        process.kill()


def is_open(client: socket.socket) -> bool:
    """Whether a connection is open; it waits a moment for the end."""
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"not a size\r\n",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000,
    ],
    ids=["late", "TLS", "no host", "headers without an end"],
)
def test_an_invalid_request_prints_nothing(path: Path, sent: bytes) -> None:
    """Any client could fill the terminal, or the log, with a traceback for each one."""
    with serving(path, "--port", "0") as (process, line):
        with closing(connect(line)) as client:
            head, separator, rest = sent.partition(b"\r\n\r\n")
            client.send(head + separator)
            if rest:
                client.recv(100)  # the response, so that the rest comes after it
                client.send(rest)
            get(line, "/")
        process.terminate()
        _, err = process.communicate()

    assert err == ""


def test_no_argument_of_a_browser_has_a_code(path: Path, tmp_path: Path) -> None:
    """Other users can see it. It is in a file that only its owner can read, it counts once, and the file is deleted."""
    pipe, variables = make_browser(tmp_path)
    home = Path(variables["HOME"])
    with serving(path, "--port", "0", **variables) as (process, line):
        argument = pipe.read_text()
        page = path_of(argument)
        found = re.search('url=([^"]+)', page.read_text())
        assert found is not None
        modes = [stat.S_IMODE(made.stat().st_mode) for made in (page, page.parent)]
        address = found[1]
        query = f"/?{urlsplit(address).query}"
        first, second = get(line, query), get(line, query)
        process.terminate()
        process.communicate()

    assert page.parent.parent == home
    assert address.split("=")[0] == line.split("=")[0]
    assert address.split("=")[1] not in argument
    assert line.strip().split("=")[1] not in argument
    assert modes == [0o600, 0o700]
    assert (first[0], second[0]) == (200, 403)
    assert "set-cookie" not in second[1]
    assert list(home.iterdir()) == []


def test_without_a_browser_that_comes_the_page_goes_with_the_server(path: Path, tmp_path: Path) -> None:
    """The code is in no file after the end."""
    pipe, variables = make_browser(tmp_path)
    home = Path(variables["HOME"])
    with serving(path, "--port", "0", **variables) as (process, _):
        pipe.read_text()
        before = list(home.iterdir())
        process.send_signal(signal.SIGINT)
        process.communicate()

    assert len(before) == 1
    assert list(home.iterdir()) == []


def test_a_code_counts_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that never came leaves none that still counts."""
    now = [0.0]
    monkeypatch.setattr(clock, "ticks", lambda: now[0])
    tokens = AccessTokens()
    code = tokens.make_code()
    now[0] = CODE_LIFETIME

    assert CODE_LIFETIME == 60
    assert not tokens.accept(code)
    assert tokens.accept(tokens.make_code())


@pytest.fixture
def forged(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history whose names and arguments do more than a reader sees."""
    monkeypatch.setattr(sys, "argv", ["dotflow", "start", "--storage", "file", "--param", f"day={PASTED}"])
    monkeypatch.chdir(path.parent)
    path = path.parent / DEFAULT_PATH  # the user's own: commands are offered
    with closing(HistorySQLite(path)) as history:
        nightly(history).start()
        nightly(history).start()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE steps SET name = name || ?", (PASTED,))
        connection.execute("UPDATE runs SET trigger = 'command'")
        connection.commit()
    return path


def test_a_command_to_copy_has_no_control_characters(forged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pasted one would run others. Tasks with such names are named by their numbers."""
    with closing(HistorySQLite(forged)) as history:
        runs = [run.run_id for run in history.runs(workflow="nightly")]
        objects = [read_document(history, run)["commands"] for run in runs]
        pages = app(history)
        served = [request(pages, f"/api/runs/{run}").json["commands"] for run in runs]
    texts = [command["command"] for commands in (*objects, *served) for command in commands]
    for arguments in (["runs"], ["show", runs[0]], ["show", runs[0], "1"]):
        main([*arguments, "--history", str(forged)])
    shown = capsys.readouterr().out

    assert any(re.fullmatch(r"dotflow replay \w+ 1#1", text) for text in texts)
    assert all(text.isprintable() for text in texts)
    assert not any("pwned" in text for text in texts)
    assert not set("\x1b\u202e") & set(shown)
    assert not re.search("^ *(id|dotflow) .*pwned", shown, re.MULTILINE)


def test_no_host_header_leads_elsewhere(path: Path) -> None:
    """Mounted, the app answers by any name. It redirects nowhere, and writes no name into a page."""
    with closing(HistorySQLite(path)) as history:
        pages = app(history)
        for address in ("/", "/runs/last", "/runs/last/", "/api/runs", "/api/runs/", "//evil.example/"):
            response = request(pages, address, host="evil.example")

            assert "location" not in response.headers
            assert "evil.example" not in response.text
