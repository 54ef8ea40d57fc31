"""The page of errors has all of them, and each message on it is a real one."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from dotflow import errors
from dotflow.cli.main import main
from tests.errors_table import CASES, message_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()

#: Those that are only caught, never raised themselves.
BRANCHES = {"AttemptError", "DefinitionError", "DotflowError", "ProviderError", "RunError"}
RAISED = sorted(set(errors.__all__) - BRANCHES)

SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
SHELL = PAGE[PAGE.index("## At the command line") :]
COMMANDS = re.findall(r"^\$ (dotflow .*)\n(.*)$", SHELL, re.MULTILINE)

pytestmark = pytest.mark.slow


def messages_of(error: str) -> list[str]:
    """Returns the messages in an error's section, each on one line."""
    return [" ".join(block.split()) for block in re.findall(r"```text\n(.*?)```", SECTIONS[error], re.DOTALL)]


def is_as_shown(message: str, shown: str) -> bool:
    """Returns whether the page shows the message; an ellipsis there matches any text."""
    return re.fullmatch(re.escape(shown).replace("…", ".*"), " ".join(message.split())) is not None


def test_every_error_has_an_entry() -> None:
    """A new error needs a section '### Name' in docs/errors.md, with its message, in ```text."""
    assert set(RAISED) - set(SECTIONS) == set(), "these errors have no section of their name in docs/errors.md"
    assert set(SECTIONS) - set(RAISED) == set(), "docs/errors.md has sections of errors that don't exist"
    assert [name for name in RAISED if not messages_of(name)] == [], "their sections in docs/errors.md show no message"


def test_every_error_is_provoked() -> None:
    """A new error needs a function in tests/errors_table.py that raises it, under @case(errors.Name)."""
    assert set(RAISED) - set(CASES) == set(), "no function in tests/errors_table.py provokes these errors"
    assert set(CASES) - set(RAISED) == set(), "tests/errors_table.py provokes errors that don't exist"


def test_the_tree_is_that_of_the_module() -> None:
    """It is the one of src/dotflow/errors.py, which another test compares with the classes."""
    drawn = re.search(r"```text\n(DotflowError\n.*?)```", PAGE, re.DOTALL)

    assert drawn is not None
    assert "".join(f"    {line}\n" for line in drawn[1].splitlines()) in (errors.__doc__ or "")


@pytest.mark.parametrize("error", RAISED)
def test_the_messages_are_those_of_the_page(error: str) -> None:
    """Each message on the page was provoked, and each provoked one is on the page."""
    messages = [message_of(provoke) for provoke in CASES[error]]
    shown = messages_of(error)

    assert [one for one in messages if not any(is_as_shown(one, other) for other in shown)] == [], "not on the page"
    assert [one for one in shown if not any(is_as_shown(other, one) for other in messages)] == [], "not real"


@pytest.mark.parametrize(("command", "shown"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_the_output_of_a_command_is_that_of_the_page(
    command: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr, nothing on stdout, and the exit code of wrong usage."""
    steps = re.search(r"```python\n(.*?)```", SHELL, re.DOTALL)
    assert steps is not None
    (tmp_path / "pipelines.py").write_text(steps[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "pipelines", raising=False)
    importlib.invalidate_caches()

    code = main(shlex.split(command)[1:])

    sys.modules.pop("pipelines", None)
    out, err = capsys.readouterr()
    assert (out, code) == ("", 2)
    assert is_as_shown(err, shown), err


def test_the_page_shows_commands() -> None:
    """The most likely mistakes of newcomers."""
    assert len(COMMANDS) > 20
