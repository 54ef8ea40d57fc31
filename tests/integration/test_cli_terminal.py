"""dotflow start in a terminal: the live view and the summary."""

import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.children import Scripts
from tests.integration.terminals import Terminal

JOBS = """\
import ctypes, logging, os, subprocess, sys, time
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

@action
def crashes():
    print("last words", flush=True)
    os._exit(7)

@action
def locked():
    ctypes.PyDLL(None).write(1, (b"x" * 79 + b"\\n") * 2000, 160_000)

@action
def leaves():
    program = "import pathlib, time\\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\\nprint('from behind')"
    subprocess.Popen([sys.executable, "-c", program], start_new_session=True)

@action
def endless():
    for _ in range(20_000):
        sys.stdout.write("abcdefghij")
    print()

@action
def prints_on():
    print("begun", flush=True)
    until("go")
    print("printed on", flush=True)

@action
def asks(question):
    until(question)

@action(durable=True)
def agent():
    asks("one")
    asks("go")

@action
def größe():
    raise ValueError("größe")

@action
def a_step_whose_name_says_all_that_it_does_and_a_little_more():
    pass

@action(retry=2, retry_delay=0)
def another_step_whose_name_says_all_that_it_does_and_more():
    raise ValueError("no")

def wordy():
    workflow = DotFlow()
    workflow.task.add(
        a_step_whose_name_says_all_that_it_does_and_a_little_more, group_name="a group of a rather long name"
    )
    workflow.task.add(
        another_step_whose_name_says_all_that_it_does_and_more, group_name="another group of a rather long name"
    )
    return workflow

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


def heads(lines: list[str]) -> int:
    """How many views begin on the screen."""
    return sum(line.startswith("prices") for line in lines)


COLOURED = {"TERM": "xterm-256color", "NO_COLOR": "", "COLUMNS": "", "LINES": ""}


class TestLive:
    @pytest.mark.exhaustive
    def test_groups_stand_side_by_side_and_the_output_above(
        self, scripts: Scripts, folder: Path, terminal: Terminal
    ) -> None:
        """Prints, log handlers, programs and C code of every worker: each line whole, once, above the view."""
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.descriptor, **COLOURED
        ) as command:
            lines = terminal.see(lambda lines: any("hold" in line and line.count("In progress") == 2 for line in lines))
            (folder / "go").touch()
            code = command.process.wait(45)
            assert command.left_behind() == []

        head = next(index for index, line in enumerate(lines) if line.startswith("prices"))
        assert "4/6 done" in lines[head]
        assert any("europe" in line and "asia" in line for line in lines[head:])
        assert any("talk" in line and "fails" in line and "Failed" in line and "2/2" in line for line in lines[head:])
        everything = terminal.all()
        for who, times in (("europe", 2), ("asia", 1)):
            for words in ("printed by {}", "an error by {}", "logged: by {}", "a program of {}", "C code of {}"):
                assert everything.count(words.format(who)) == times
        assert code == 1

    def test_at_the_end_a_summary_replaces_the_view(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """A table, the error and its line; nothing of the view is left, and the cursor is visible."""
        (folder / "go").touch()
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.descriptor, **COLOURED
        ) as command:
            assert command.process.wait(45) == 1
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

    def test_a_durable_step_shows_its_last_call(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """While it runs, in a run without a history."""
        with scripts.command("start", "--step", "jobs.agent", terminal=terminal.descriptor, **COLOURED) as command:
            terminal.see(lambda lines: any("agent  1 call, asks('one') " in line for line in lines))
            (folder / "one").touch()
            terminal.see(lambda lines: any("agent  2 calls, asks('go') " in line for line in lines))
            (folder / "go").touch()
            assert command.process.wait(45) == 0

        assert not any("asks" in line for line in terminal.all())

    def test_a_flood_of_prints_is_whole(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """No line is lost, doubled or torn."""
        with scripts.command("start", "--step", "jobs.noisy", terminal=terminal.descriptor, **COLOURED) as command:
            assert command.process.wait(45) == 0
            terminal.see(lambda lines: any(line.startswith("Completed: ") for line in lines))

        assert [line for line in terminal.all() if line.startswith("line ")] == [f"line {n}" for n in range(2000)]

    def test_a_partial_line_is_shown(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """As a progress bar of a step is."""
        with scripts.command("start", "--step", "jobs.begins", terminal=terminal.descriptor, **COLOURED) as command:
            terminal.see(lambda lines: "20%" in lines)
            (folder / "go").touch()
            assert command.process.wait(45) == 0

        terminal.see(lambda lines: "20% done" in lines)

    @pytest.mark.exhaustive
    def test_a_terminal_may_change_its_size(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """The view follows, and nothing of it is left behind."""
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.descriptor, **COLOURED
        ) as command:
            for columns, width in ((80, 78), (50, 49), (120, 118)):  # one block of 49 columns, or two and a gap
                terminal.resize(columns, 24)
                bar = "━" * width
                terminal.see(lambda lines, bar=bar: bar in lines and heads(lines) == 1)  # type: ignore[misc]
            (folder / "go").touch()
            assert command.process.wait(45) == 1

    def test_ctrl_c_gives_the_terminal_back(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """The run is stopped and has a summary, and the cursor is visible."""
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.descriptor, **COLOURED
        ) as command:
            terminal.see(lambda lines: any("In progress" in line and "hold" in line for line in lines))
            command.send(signal.SIGINT)
            assert command.process.wait(45) == 130
            assert command.left_behind() == []
            terminal.see(lambda lines: any(line.startswith("Interrupted: ") for line in lines))

        assert terminal.shows_cursor


class TestWhateverHappens:
    """The terminal is restored, and the output is complete."""

    def test_the_last_output_is_there_after_a_crash(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """A process that ends at once leaves no view, and the cursor is visible."""
        with scripts.command("start", "--step", "jobs.crashes", terminal=terminal.descriptor, **COLOURED) as command:
            assert command.process.wait(45) == 7
            lines = terminal.see(lambda lines: "last words" in lines and terminal.shows_cursor)
            assert command.left_behind() == []

        assert not any("In progress" in line for line in lines)

    def test_kill_9_gives_the_terminal_back(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """The writer outlives the run, and cleans up."""
        with scripts.command(
            "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.descriptor, **COLOURED
        ) as command:
            terminal.see(lambda lines: any("In progress" in line and "hold" in line for line in lines))
            command.send(signal.SIGKILL)
            lines = terminal.see(
                lambda lines: (
                    not any("In progress" in line and "hold" in line for line in lines) and terminal.shows_cursor
                )
            )
            assert command.left_behind() == []

        assert any("printed by europe" in line for line in lines)

    def test_code_that_holds_the_interpreter_may_print_a_lot(
        self, scripts: Scripts, folder: Path, terminal: Terminal
    ) -> None:
        """More than a pipe holds, which its own process could not read meanwhile."""
        with scripts.command("start", "--step", "jobs.locked", terminal=terminal.descriptor, **COLOURED) as command:
            assert command.process.wait(45) == 0
            terminal.wait_for(b" of 1 task completed")

        assert terminal.sent.count(b"x" * 79 + b"\r\n") == 2000

    def test_ctrl_z_leaves_the_shell_its_cursor(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """The view is erased, and drawn again when the run goes on."""
        with scripts.command("start", "--step", "jobs.hold", terminal=terminal.descriptor, **COLOURED) as command:
            terminal.see(lambda lines: any("In progress" in line for line in lines))
            command.send_all(signal.SIGTSTP)
            terminal.see(lambda lines: not any("In progress" in line for line in lines) and terminal.shows_cursor)
            command.send_all(signal.SIGCONT)
            terminal.see(lambda lines: any("In progress" in line for line in lines) and not terminal.shows_cursor)
            (folder / "go").touch()
            assert command.process.wait(45) == 0

    def test_a_program_that_is_left_behind_can_print(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """The command does not wait for it, and its later output reaches the terminal."""
        with scripts.command("start", "--step", "jobs.leaves", terminal=terminal.descriptor, **COLOURED) as command:
            assert command.process.wait(45) == 0
            (folder / "go").touch()
            terminal.see(lambda lines: "from behind" in lines)
            assert command.left_behind() == []

    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("options", [("--no-history",), ()], ids=["shows", "records"])
    def test_output_goes_on_without_the_process_that_shows_it(
        self, options: tuple[str, ...], scripts: Scripts, folder: Path, terminal: Terminal
    ) -> None:
        """Where that is killed, prints go to the terminal directly."""
        with scripts.command(
            "start", "--step", "jobs.prints_on", *options, terminal=terminal.descriptor, **COLOURED
        ) as command:
            terminal.see(lambda lines: "begun" in lines)
            (collector,) = [process for process in command.family() if process.pid != command.process.pid]
            collector.kill()
            while collector.is_running() and collector.status() != psutil.STATUS_ZOMBIE:  # a kill takes a moment
                time.sleep(0.01)
            (folder / "go").touch()
            assert command.process.wait(45) == 0

        terminal.wait_for(b"printed on")

    def test_threads_of_the_workflows_module_are_no_obstacle(
        self, scripts: Scripts, folder: Path, terminal: Terminal
    ) -> None:
        """The view is shown beside them."""
        thread = "import threading\nthreading.Thread(target=until, args=('go',), daemon=True).start()\n"
        (folder / "threaded.py").write_text(f"from jobs import *\n{thread}")
        with scripts.command("start", "--step", "threaded.hold", terminal=terminal.descriptor, **COLOURED) as command:
            terminal.see(lambda lines: any("In progress" in line for line in lines))
            (folder / "go").touch()
            assert command.process.wait(45) == 0

        assert terminal.shows_cursor

    def test_a_long_line_is_whole(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """It is longer than a pipe holds."""
        with scripts.command("start", "--step", "jobs.endless", terminal=terminal.descriptor, **COLOURED) as command:
            assert command.process.wait(45) == 0
            terminal.wait_for(b" of 1 task completed")

        assert terminal.sent.count(b"abcdefghij" * 20_000) == 1

    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("closed", [2, 0])
    def test_a_closed_stream_is_no_obstacle(
        self, scripts: Scripts, folder: Path, terminal: Terminal, closed: int
    ) -> None:
        """`dotflow start ... 2>&-`: no other file may get its number."""
        (folder / "go").touch()
        with scripts.command(
            "start", "--step", "jobs.hold", terminal=terminal.descriptor, closed=closed, **COLOURED
        ) as command:
            assert command.process.wait(45) == 0
            terminal.see(lambda lines: any(line.startswith("Completed: ") for line in lines))

        assert terminal.shows_cursor

    def test_names_that_the_terminal_cannot_write(self, scripts: Scripts, folder: Path, terminal: Terminal) -> None:
        """They are escaped, and the exit code is that of the run."""
        with scripts.command(
            "start", "--step", "jobs.größe", terminal=terminal.descriptor, **COLOURED, PYTHONIOENCODING="ascii"
        ) as command:
            assert command.process.wait(45) == 1
            terminal.see(lambda lines: any(line.startswith("Failed: 0 of 1 task") for line in lines))

        assert b"gr\\xf6\\xdfe" in terminal.sent


def test_long_names_leave_the_summary_its_columns(scripts: Scripts, folder: Path, terminal: Terminal) -> None:
    """At 80 columns names are cut, and status, attempts and duration are not."""
    with scripts.command("start", "--workflow", "jobs:wordy", terminal=terminal.descriptor, **COLOURED) as command:
        assert command.process.wait(45) == 1
        lines = terminal.see(lambda lines: any(line.startswith("Failed: ") for line in lines))

    rows = [line for line in lines if line.startswith(("✓", "✗ ")) and "task " not in line]
    assert [("Completed" in row or "Failed" in row, " s" in row) for row in rows] == [(True, True)] * 2
    assert any("2/2" in row for row in rows)


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colour_there_are_plain_lines(
    scripts: Scripts, folder: Path, terminal: Terminal, environment: dict[str, str]
) -> None:
    """The log and a summary without escape sequences: for a screen reader, or an old terminal."""
    (folder / "go").touch()
    with scripts.command(
        "start", "--workflow", "jobs:groups", "--keep-going", terminal=terminal.descriptor, **(COLOURED | environment)
    ) as command:
        assert command.process.wait(45) == 1
        terminal.see(lambda lines: any(line.startswith("Failed: 5 of 6 tasks completed") for line in lines))

    assert b"\x1b" not in terminal.sent
    text = "".join(terminal.all())  # a line of the log may be longer than one of the terminal
    assert re.search(r"task 0 talk \[\w+\]: In progress", text)
