"""dotflow start in a terminal: what a person sees while it runs and afterwards."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.children import Scripts
from tests.integration.terminals import Terminal

JOBS = """\
import logging, os, subprocess, sys, time
from pathlib import Path
from dotflow import DotFlow, action

logging.basicConfig(level="INFO", format="logged: %(message)s")

def until(name):
    while not Path(name).exists():
        time.sleep(0.01)

@action
def talk(initial_context):
    who = initial_context.storage
    print(f"printed by {who}")
    print(f"an error by {who}", file=sys.stderr)
    logging.info("by %s", who)
    subprocess.run([sys.executable, "-c", f"print('a program of {who}')"], check=True)
    os.write(1, f"C code of {who}\\n".encode())

@action(retry=2, retry_delay=0.1)
def fails():
    raise ValueError("row 17 has no price")

@action
def hold(initial_context):
    until("go")

@action
def noisy():
    for number in range(2000):
        print("line", number)

@action
def begins():
    sys.stdout.write("10%\\r"); sys.stdout.flush()
    sys.stdout.write("20%"); sys.stdout.flush()
    until("go")
    print(" done")

def groups():
    workflow = DotFlow(name="prices")
    for group in ("europe", "asia"):
        workflow.task.add([talk, fails if group == "asia" else talk, hold], initial_context=group, group_name=group)
    return workflow
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a user's module in it."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """As terminals are when they are opened."""
    found = Terminal(80, 24)
    yield found
    found.close()


COLOURED = {"TERM": "xterm-256color", "NO_COLOR": "", "COLUMNS": "", "LINES": ""}


class TestLive:
    def test_groups_stand_side_by_side_and_what_is_printed_above(
        self, scripts: Scripts, folder: Path, terminal: Terminal
    ) -> None:
        """Prints, log handlers, programs and C code, of every worker: each line whole, once, above the picture."""
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.theirs, **COLOURED
        ) as command:
            lines = terminal.see(lambda lines: any("hold" in line and line.count("In progress") == 2 for line in lines))
            (folder / "go").touch()
            code = command.process.wait(15)
            assert command.left_behind() == []

        head = next(place for place, line in enumerate(lines) if line.startswith("prices"))
        assert "4/6 done" in lines[head]
        assert any("europe" in line and "asia" in line for line in lines[head:])
        assert any("talk" in line and "fails" in line and "Failed" in line and "2/2" in line for line in lines[head:])
        everything = terminal.all()
        for who, times in (("europe", 2), ("asia", 1)):
            for words in ("printed by {}", "an error by {}", "logged: by {}", "a program of {}", "C code of {}"):
                assert everything.count(words.format(who)) == times
        assert code == 1

    def test_at_the_end_the_picture_makes_way_for_a_summary(
        self, scripts: Scripts, folder: Path, terminal: Terminal
    ) -> None:
        """A table, the error and where it was raised; nothing of the picture is left, and the cursor is back."""
        (folder / "go").touch()
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.theirs, **COLOURED
        ) as command:
            assert command.process.wait(15) == 1
            lines = terminal.see(lambda lines: any(line.startswith("Failed: 5 of 6") for line in lines))

        everything = terminal.all()
        assert [line.split()[:5] for line in everything if line.startswith(("✓", "✗ "))][:6] == [
            ["✓", "0", "talk", "europe", "Completed"],
            ["✓", "1", "talk", "europe", "Completed"],
            ["✓", "2", "hold", "europe", "Completed"],
            ["✓", "3", "talk", "asia", "Completed"],
            ["✗", "4", "fails", "asia", "Failed"],
            ["✓", "5", "hold", "asia", "Completed"],
        ]
        assert "  ValueError: row 17 has no price" in lines
        assert any(line.startswith("  jobs.py:22 in fails") for line in lines)
        assert not any("done" in line for line in everything)
        assert terminal.shows_cursor
        assert (folder / ".output" / "flow.log").exists()

    def test_a_flood_of_prints_is_whole(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """Nothing is lost, doubled or torn, however fast it comes."""
        with scripts.command("start", "--step", "jobs.noisy", terminal=terminal.theirs, **COLOURED) as command:
            assert command.process.wait(15) == 0
            terminal.see(lambda lines: any(line.startswith("Completed: ") for line in lines))

        assert [line for line in terminal.all() if line.startswith("line ")] == [f"line {n}" for n in range(2000)]

    def test_a_line_that_has_only_begun_is_seen(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """As far as it has come, as a progress bar of the step's own would be."""
        with scripts.command("start", "--step", "jobs.begins", terminal=terminal.theirs, **COLOURED) as command:
            terminal.see(lambda lines: "20%" in lines)
            (folder / "go").touch()
            assert command.process.wait(15) == 0

        terminal.see(lambda lines: "20% done" in lines)

    def test_a_terminal_may_change_its_size(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """The picture follows, and none of it stays behind."""
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.theirs, **COLOURED
        ) as command:
            for columns, width in ((80, 78), (50, 49), (120, 118)):  # one block of 49 columns, or two and a gap
                terminal.resize(columns, 24)
                bar = "━" * width
                seen = terminal.see(lambda lines, bar=bar: bar in lines)  # type: ignore[misc]
                assert sum(line.startswith("prices") for line in seen) == 1
            (folder / "go").touch()
            assert command.process.wait(15) == 1

    def test_ctrl_c_gives_the_terminal_back(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """The run is stopped, summed up, and the cursor is there."""
        with scripts.command("start", "--workflow", "jobs:groups", terminal=terminal.theirs, **COLOURED) as command:
            terminal.see(lambda lines: any("In progress" in line and "hold" in line for line in lines))
            command.send(signal.SIGINT)
            assert command.process.wait(15) == 130
            assert command.left_behind() == []
            terminal.see(lambda lines: any(line.startswith("Interrupted: ") for line in lines))

        assert terminal.shows_cursor


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colour_there_are_plain_lines(
    scripts: Scripts, folder: Path, terminal: Terminal, environment: dict[str, str]
) -> None:
    """The log as it is, and a summary, without an escape sequence: for a screen reader, or an old terminal."""
    (folder / "go").touch()
    with scripts.command(
        "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.theirs, **(COLOURED | environment)
    ) as command:
        assert command.process.wait(15) == 1
        terminal.see(lambda lines: any(line.startswith("Failed: 5 of 6 tasks completed") for line in lines))

    assert b"\x1b" not in terminal.sent
    assert any("task 0 talk: In progress" in line for line in terminal.all())
