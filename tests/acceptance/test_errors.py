"""The page of errors: it tells of each of them, and each message on it is what really comes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dotflow import errors
from tests.errors_table import CASES, told_by

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()

#: Those that are only there to be caught; none is raised itself.
BRANCHES = {"AttemptError", "DefinitionError", "DotflowError", "ProviderError", "RunError"}
RAISED = sorted(set(errors.__all__) - BRANCHES)

SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
SHELL = PAGE[PAGE.index("## At the command line") :]
COMMANDS = re.findall(r"^\$ (dotflow .*)\n(.*)$", SHELL, re.MULTILINE)

pytestmark = pytest.mark.slow


def messages_of(error: str) -> list[str]:
    """The messages that an error's section shows, each on one line."""
    return [" ".join(block.split()) for block in re.findall(r"```text\n(.*?)```", SECTIONS[error], re.DOTALL)]


def is_as_shown(said: str, shown: str) -> bool:
    """Whether that was said; an ellipsis on the page stands for what is another text each time."""
    return re.fullmatch(re.escape(shown).replace("…", ".*"), " ".join(said.split())) is not None


def test_every_error_has_an_entry() -> None:
    """Whoever adds an error writes a section '### Name' in docs/errors.md, with what it says, in ```text."""
    assert set(RAISED) - set(SECTIONS) == set(), "these errors have no section of their name in docs/errors.md"
    assert set(SECTIONS) - set(RAISED) == set(), "docs/errors.md has sections of errors that there are none of"
    assert [name for name in RAISED if not messages_of(name)] == [], "their sections in docs/errors.md show no message"


def test_every_error_is_provoked() -> None:
    """Whoever adds an error writes a function in tests/errors_table.py that comes to it, under @case(errors.Name)."""
    assert set(RAISED) - set(CASES) == set(), "no function in tests/errors_table.py provokes these errors"
    assert set(CASES) - set(RAISED) == set(), "tests/errors_table.py provokes errors that there are none of"


def test_the_tree_is_that_of_the_module() -> None:
    """The page draws it as src/dotflow/errors.py does, where another test holds it to the classes."""
    drawn = re.search(r"```text\n(DotflowError\n.*?)```", PAGE, re.DOTALL)

    assert drawn is not None
    assert "".join(f"    {line}\n" for line in drawn[1].splitlines()) in (errors.__doc__ or "")


@pytest.mark.parametrize("error", RAISED)
def test_an_error_says_what_the_page_shows(error: str) -> None:
    """Each of its messages was provoked, and what was provoked is on the page."""
    said = [told_by(provoke) for provoke in CASES[error]]
    shown = messages_of(error)

    assert [one for one in said if not any(is_as_shown(one, each) for each in shown)] == [], "not on the page"
    assert [each for each in shown if not any(is_as_shown(one, each) for one in said)] == [], "on the page, not said"


@pytest.mark.parametrize(("command", "shown"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_a_command_says_what_the_page_shows(command: str, shown: str, tmp_path: Path) -> None:
    """One line on stderr, nothing on stdout, and the exit code of wrong usage."""
    steps = re.search(r"```python\n(.*?)```", SHELL, re.DOTALL)
    assert steps is not None
    (tmp_path / "pipelines.py").write_text(steps[1])

    ended = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    assert (ended.stdout, ended.returncode) == ("", 2)
    assert is_as_shown(ended.stderr, shown), ended.stderr


def test_the_page_shows_commands() -> None:
    """Those that newcomers are most likely to mistype."""
    assert len(COMMANDS) > 20
