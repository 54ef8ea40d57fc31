"""A server in a process of its own, on the loopback address and a free port, which ends with its parent."""

import os
import subprocess
import sys
import threading
from pathlib import Path


class ServerProcess:
    """A script of this folder that calls `serve_until_left`.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, script: str) -> None:
        # Not -m: tests is no package for the script, which has to find nothing but what is installed.
        command = [sys.executable, str(Path(__file__).with_name(script))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, f"{script} did not start"
        self.url = f"http://127.0.0.1:{port}"

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()  # closes its stdin, and waits


def print_port_and_end_with_parent(port: int) -> None:
    """Prints the port, and ends the process when its stdin is closed. Called by the script."""
    print(port, flush=True)

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
