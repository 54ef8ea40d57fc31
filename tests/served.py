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
from urllib.request import url2pathname

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


def make_browser(folder: Path) -> tuple[Path, dict[str, str]]:
    """Makes a program that writes its arguments into a pipe, and a home folder.

    Returns the pipe, and the variables with which `serving` opens that browser.
    """
    pipe, program, home = folder / "pipe", folder / "browser", folder / "home"
    os.mkfifo(pipe)
    program.write_text(f"#!/bin/sh\nprintf %s \"$*\" > '{pipe}'\n")
    program.chmod(0o700)
    home.mkdir()
    return pipe, {"BROWSER": str(program), "HOME": str(home)}


def path_of(address: str) -> Path:
    """Returns the path of a file: address."""
    return Path(url2pathname(address.removeprefix("file://")))


def get(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Sends a request to the server of an address."""
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
