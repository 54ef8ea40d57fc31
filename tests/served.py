"""`dotflow ui` in a process of its own, and requests to it."""

import contextlib
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from dotflow.ui.server import DISPLAYS


@contextlib.contextmanager
def serving(path: Path, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts the command, and yields it with its address."""
    command = [sys.executable, "-m", "dotflow", "ui", "--history", str(path), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in DISPLAYS} | variables
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def get(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Sends a request to the server of an address."""
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
