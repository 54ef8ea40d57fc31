"""pgbouncer, where it is installed: a pooler in front of a Postgres of the tests, in a mode of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Literal, Self

from tests.clouds.postgres import PostgresProcess

NOBODY: Final = 65534  # pgbouncer refuses to run as root
#: Distributions install it where only administrators look.
BINARY: Final = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))

PoolMode = Literal["session", "transaction", "statement"]


class PgBouncer:
    """A pgbouncer process. It knows a role after `admit`, and forwards to each database of the server.

    Args:
        server: The server.
        mode: When a connection of the server is given to another client.
        host: The address on which it listens.
        port: The server's port, where something stands between the two.

    Attributes:
        port: Where it listens.
    """

    def __init__(
        self, server: PostgresProcess, mode: PoolMode, host: str = "127.0.0.1", port: int | None = None
    ) -> None:
        assert BINARY is not None
        self._folder = tempfile.TemporaryDirectory(prefix="dotflow-pgbouncer-")
        folder = Path(self._folder.name)
        with socket.create_server((host, 0)) as found:
            self.port: int = found.getsockname()[1]
        self._users, self._log = folder / "users", folder / "log"
        settings = {
            "listen_addr": host,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self._users,
            "pool_mode": mode,
            "max_client_conn": 500,
            "default_pool_size": 20,
            "server_login_retry": 1,
            "logfile": self._log,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        config = folder / "pgbouncer.ini"
        forward = f"* = host=127.0.0.1 port={port or server.port}"
        config.write_text("\n".join(["[databases]", forward, "[pgbouncer]", *lines, ""]))
        self._users.write_text("")
        given: dict[str, int | list[int]] = {}
        if os.geteuid() == 0:
            for path in (folder, config, self._users):
                os.chown(path, NOBODY, NOBODY)
            given = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        output = subprocess.DEVNULL
        self._process = subprocess.Popen([BINARY, "-q", config], stdout=output, stderr=output, **given)  # type: ignore[call-overload]
        while not self._answers(host):
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.01)  # there is no signal that it is ready

    def admit(self, role: str, password: str) -> None:
        """Lets a role in, and waits until it may."""
        escaped = password.replace('"', '""')
        self._users.write_text(f'{self._users.read_text()}"{role}" "{escaped}"\n')
        read_before = self._count_readings()
        self._process.send_signal(signal.SIGHUP)
        while self._count_readings() == read_before:  # the next login is judged after it
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.01)

    def _count_readings(self) -> int:
        return self._log.read_text().count("SIGHUP")

    def close(self) -> None:
        """Ends it at once, with its connections."""
        self._process.kill()  # on SIGTERM it waits for its clients, also for those of a machine that is gone
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self, host: str) -> bool:
        try:
            socket.create_connection((host, self.port)).close()
        except OSError:
            return False
        return True
