"""`dotflow ui`: a server on this computer, its address, and its end."""

import contextlib
import errno
import http.client
import queue
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dotflow.cli.command import Exit
from dotflow.cli.main import main
from dotflow.control import user_of
from dotflow.providers import HistorySQLite
from dotflow.ui import server as server_module
from tests.asgi import request
from tests.histories import quick
from tests.served import get, serving

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32,}\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(HistorySQLite(tmp_path / "history.db")) as history:
        quick(history).start()
    return tmp_path / "history.db"


def test_it_prints_an_address_that_shows_the_runs(path: Path) -> None:
    """One line, and nothing else until its end; Ctrl-C ends it quietly."""
    with serving(path, "--port", "0") as (process, line):
        assert ADDRESS.fullmatch(line)
        status, headers, _ = get(line, f"/?{urlsplit(line.strip()).query}")
        cookie = headers["set-cookie"].partition(";")[0]
        runs = get(line, "/api/runs", Cookie=cookie)
        tagged = get(line, "/api/runs", Cookie=cookie, **{"If-None-Match": runs[1]["etag"]})
        refused = get(line, "/api/runs")
        foreign = get(line, "/api/runs", Cookie=cookie, Host="evil.example")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    assert (status, runs[0], tagged[0], tagged[2]) == (200, 200, 304, "")
    assert '"workflow_id":"quick"' in runs[2]
    assert (refused[0], foreign[0]) == (403, 400)
    assert "default-src 'none'" in runs[1]["content-security-policy"]
    assert (process.returncode, out, err.strip()) == (Exit.INTERRUPTED, "", "")


def test_with_write_it_prints_an_address_that_takes_orders(path: Path) -> None:
    """And one that only reads. Orders are those of the user who started it."""
    with closing(HistorySQLite(path)) as history:
        runs = [quick(history, name=name).submit() for name in ("reads", "writes")]
    with serving(path, "--port", "0", "--write") as (process, first):
        assert process.stdout is not None
        lines = [first, process.stdout.readline()]
        root = lines[0].partition("?")[0]
        statuses = []
        for line, run in zip(lines, runs, strict=True):
            cookie = get(root, f"/?{urlsplit(line.split()[0]).query}")[1]["set-cookie"].partition(";")[0]
            headers = {"Cookie": cookie, "Origin": root.rstrip("/"), "X-Dotflow": "1"}
            statuses.append(cancel(root, run, **headers, **{"Content-Type": "application/json"}))
    with closing(HistorySQLite(path)) as history:
        states = [history.load(run).state for run in runs]
        reason = history.load(runs[1]).reason

    assert [line.partition(" ")[2] for line in lines] == ["(reads)\n", "(reads and writes)\n"]
    assert (statuses, states) == ([403, 200], ["Queued", "Cancelled"])
    assert reason == f"cancelled by {user_of()}"


def cancel(root: str, run: str, **headers: str) -> int:
    """Sends the order to cancel a queued run, and returns the status of the response."""
    with closing(http.client.HTTPConnection(urlsplit(root).netloc, timeout=30)) as connection:
        connection.request("POST", f"/api/runs/{run}/cancel", b'{"state": "Queued"}', headers)
        return connection.getresponse().status


def test_a_response_is_sent_at_once(path: Path) -> None:
    """Of a socket that names no protocol, asyncio does not turn off the delay of small packets."""
    with (
        closing(HistorySQLite(path)) as history,
        closing(server_module.UiServer(history, None, port=0)._socket) as opened,
    ):
        assert opened.proto == socket.IPPROTO_TCP


def test_it_waits_for_a_history(tmp_path: Path) -> None:
    """None has to be there; the page says how to make one. SIGTERM ends it as well."""
    with serving(tmp_path / "none.db", "--port", "0") as (process, line):
        cookie = get(line, f"/?{urlsplit(line.strip()).query}")[1]["set-cookie"].partition(";")[0]
        status, _, text = get(line, "/api/runs", Cookie=cookie)
        process.terminate()
        _, err = process.communicate()

    assert (status, '"runs":[]' in text) == (200, True)
    assert (process.returncode, err) == (-signal.SIGTERM, "")
    assert not (tmp_path / "none.db").exists()


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the command up to the point where it would serve."""

    def run(server: server_module.UiServer, on_start: Any) -> None:
        on_start()
        server._socket.close()

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["ui", "--history", str(path), *arguments])
        return code, *capsys.readouterr()

    monkeypatch.setattr(server_module.UiServer, "run", run)
    for name in server_module.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    return command


@contextlib.contextmanager
def taken(port: int = 0) -> Iterator[int]:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        yield other.getsockname()[1]


def test_the_next_free_port_is_taken(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no port is given."""
    with taken() as port:
        monkeypatch.setattr(server_module, "DEFAULT_PORT", port)
        code, out, err = printed()

    assert (code, err) == (Exit.COMPLETED, "")
    assert port < urlsplit(out).port


def test_a_port_that_is_taken_is_an_error(printed: Any) -> None:
    """Where it is given."""
    with taken() as port:
        code, out, err = printed("--port", str(port))

    assert (code, out) == (Exit.WRONG_USAGE, "")
    assert f"Can't listen on port {port}: another program uses it. Pass another --port, or none." in err


def test_a_host_of_another_computer_is_an_error(printed: Any) -> None:
    """It names the option."""
    code, _, err = printed("--host", "192.0.2.1", "--port", "0")

    assert code == Exit.WRONG_USAGE
    assert "Can't listen on '192.0.2.1'" in err
    assert "Pass an address of this computer as --host" in err


@pytest.mark.parametrize("host", ["*", "0", "0.0.0.0"])
def test_the_address_that_is_printed_is_answered(path: Path, host: str) -> None:
    """However all addresses of this computer are named."""
    with closing(HistorySQLite(path)) as history:
        server = server_module.UiServer(history, None, host=host, port=0)
        server._socket.close()

        response = request(server._app, f"/?{urlsplit(server.address).query}", host=urlsplit(server.address).netloc)

    assert response.status == 200


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_a_host_that_is_no_name_is_an_error(printed: Any, host: str) -> None:
    """Python can't even ask for it."""
    code, _, err = printed("--host", host, "--port", "0")

    assert code == Exit.WRONG_USAGE
    assert f"Can't listen on '{host}': it is not a name of a computer." in err


@pytest.mark.parametrize(("host", "name"), [("0.0.0.0", socket.gethostname()), ("localhost", "localhost")])
def test_a_host_for_others_gets_a_warning(printed: Any, host: str, name: str) -> None:
    """Whoever has the address reads all runs."""
    code, out, err = printed("--host", host, "--port", "0")

    assert code == Exit.COMPLETED
    assert out.startswith(f"http://{name}:")
    assert ("Other computers can reach 0.0.0.0" in err) == (host == "0.0.0.0")


def test_a_browser_is_opened(printed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a page that leads to the address; none without a display, or with --no-browser."""
    opened: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("webbrowser.open", opened.put)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)

    printed("--port", "0")
    monkeypatch.setenv("DISPLAY", ":0")
    printed("--port", "0", "--no-browser")
    printed("--port", "0")

    assert opened.get().startswith(f"{tmp_path.as_uri()}/dotflow-ui-")
    assert opened.empty()


@pytest.mark.parametrize("home", ["none", "file"])
def test_without_a_home_the_page_is_a_temporary_file(
    printed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    """A user of a service may have none."""
    opened: queue.Queue[str] = queue.Queue()
    (tmp_path / "file").touch()
    monkeypatch.setattr("webbrowser.open", opened.put)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")

    printed("--port", "0")

    assert opened.get().startswith(f"{tmp_path.as_uri()}/dotflow-ui-")


def test_without_room_for_the_page_the_address_is_printed(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No browser is opened, and nothing fails."""
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    monkeypatch.setattr("webbrowser.open", None)
    monkeypatch.setenv("DISPLAY", ":0")

    code, out, err = printed("--port", "0")

    assert (code, err) == (Exit.COMPLETED, "")
    assert ADDRESS.fullmatch(out)


def full(**options: object) -> str:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("module", ["uvicorn", "starlette"])
def test_a_missing_extra_is_named(
    path: Path, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, module, None)

    code = main(["ui", "--history", str(path)])

    assert code == Exit.WRONG_USAGE
    assert f"needs {module}, which is not installed: pip install 'dotflow[ui]'" in capsys.readouterr().err
