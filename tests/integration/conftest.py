"""What the integration tests share: scripts in processes of their own, and commands in this one."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dotflow.cli.main import main
from tests.integration.children import Command, End, Scripts


@pytest.fixture
def scripts(tmp_path: Path, start_method: str | None) -> Iterator[Scripts]:
    """Writes scripts and runs them; none outlives the test."""
    found = Scripts(tmp_path, start_method)
    yield found
    found.close()


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in this process, from the test's folder. It takes a tenth of the time of a process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOTFLOW_HISTORY", raising=False)

    def run(*arguments: str) -> End:
        capfd.readouterr()
        began = time.monotonic()
        code = main(arguments)
        out, err = capfd.readouterr()
        return End(code, out, err, time.monotonic() - began, time.time())

    return run
