"""The log's file is full, deleted or moved, or its disk is full, while one or several processes write to it."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dotflow import DotFlow, action, clock
from dotflow.core.types import TypeStatus
from dotflow.errors import InvalidArgument
from dotflow.providers import LogDefault
from dotflow.providers.logs.rotating_file import RotatingFile, rotate
from tests.integration.children import SOURCES, Scripts
from tests.integration.test_full_disk import run_on

MakeWorkflow = Callable[..., DotFlow]

#: Writes numbered lines with a name; each has its own length.
WRITER = """
import os, sys
from dotflow.providers.logs.rotating_file import RotatingFile

name, path, lines, max_bytes, backups = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
file = RotatingFile(path, max_bytes, backups, sys.exit)

def write(name, numbers):
    for number in numbers:
        file.append(f"{name} {number} {'x' * (number % 50)}\\n".encode())

"""


def writer(name: str, path: Path, lines: int, *, source: str = "", max_bytes: int = 20_000) -> subprocess.Popen[bytes]:
    """Starts a process that writes, with enough backups; *source* may change how."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER + (source or "write(name, range(lines))"),
         name, str(path), str(lines), str(max_bytes), "100000"],
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
    )  # fmt: skip


def files_of(path: Path) -> list[Path]:
    """The log and its backups."""
    return [path, *sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: int(file.suffix[1:]))]


def written(folder: Iterable[Path]) -> Counter[tuple[str, int]]:
    """Returns how often each line is in the files; every line is complete."""
    found: Counter[tuple[str, int]] = Counter()
    for file in folder:
        text = file.read_bytes()
        assert text.endswith(b"\n") or not text
        for line in text.decode().splitlines():
            name, number, rest = line.split(" ")
            assert rest == "x" * (int(number) % 50)
            found[name, int(number)] += 1
    return found


def once(names: str, lines: int) -> Counter[tuple[str, int]]:
    return Counter(itertools.product(names, range(lines)))


def rotating(path: Path, max_bytes: int = 100, backups: int = 5) -> RotatingFile:
    return RotatingFile(str(path), max_bytes, backups, pytest.fail)


class TestSizes:
    def test_a_full_file_becomes_the_first_backup(self, tmp_path: Path) -> None:
        """New lines are in the file, older files have higher numbers, and the oldest is deleted."""
        file = rotating(tmp_path / "flow.log", max_bytes=30, backups=2)

        for number in range(8):
            file.append(b"line number %d\n" % number)  # two of them fit

        assert [path.read_text() for path in files_of(tmp_path / "flow.log")] == [
            "line number 6\nline number 7\n",
            "line number 4\nline number 5\n",
            "line number 2\nline number 3\n",
        ]

    def test_a_line_longer_than_a_file_is_alone_in_one(self, tmp_path: Path) -> None:
        """It is not lost, and doesn't rotate an empty file."""
        file = rotating(tmp_path / "flow.log", max_bytes=10)

        for line in (b"a\n", b"b" * 50 + b"\n", b"c\n"):
            file.append(line)

        assert [path.stat().st_size for path in files_of(tmp_path / "flow.log")] == [2, 51, 2]

    def test_without_backups_a_full_file_is_deleted(self, tmp_path: Path) -> None:
        """Only new lines are kept."""
        file = rotating(tmp_path / "flow.log", max_bytes=10, backups=0)

        for number in range(6):
            file.append(b"line %d\n" % number)

        assert [path.read_text() for path in tmp_path.iterdir()] == ["line 5\n"]

    def test_zero_is_never(self, tmp_path: Path) -> None:
        """max_bytes=0 lets it grow."""
        file = rotating(tmp_path / "flow.log", max_bytes=0)

        for _ in range(1000):
            file.append(b"x" * 99 + b"\n")

        assert [path.stat().st_size for path in tmp_path.iterdir()] == [100_000]

    def test_a_free_number_is_used_first(self, tmp_path: Path) -> None:
        """A number that a killed process left free is used first."""
        for number in ("", ".1", ".3"):
            (tmp_path / f"flow.log{number}").write_text(number)

        rotate(str(tmp_path / "flow.log"), 3)

        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "flow.log.1": "",
            "flow.log.2": ".1",
            "flow.log.3": ".3",
        }

    def test_the_log_has_both_arguments(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """LogDefault(max_bytes=, backups=): a record is never divided between two files."""
        log = LogDefault(path=tmp_path / "flow.log", output="file", max_bytes=500, backups=3)
        workflow = make_workflow(log=log, workflow_id="w")
        workflow.task.add([action(lambda: 1)] * 50)

        workflow.start()

        sizes = [path.stat().st_size for path in files_of(tmp_path / "flow.log")]
        assert len(sizes) == 4
        assert all(300 < size <= 500 for size in sizes[1:])

    @pytest.mark.parametrize("wrong", [-1, 1.5, True, "10"])
    @pytest.mark.parametrize("name", ["max_bytes", "backups"])
    def test_an_invalid_size_is_refused(self, name: str, wrong: object) -> None:
        """At once, with the argument's name."""
        with pytest.raises(InvalidArgument, match=name):
            LogDefault(**{name: wrong})  # type: ignore[arg-type]


class TestSeveralProcesses:
    @pytest.mark.exhaustive(keep_every=2)
    @pytest.mark.parametrize("names", ["ab", "abcd"])
    def test_every_line_is_there_once(self, names: str, tmp_path: Path) -> None:
        """Processes that write and rotate all the time lose, tear and repeat no line."""
        lines = 40_000 // len(names)
        processes = [writer(name, tmp_path / "flow.log", lines) for name in names]

        assert [process.wait() for process in processes] == [0] * len(names)

        assert written(tmp_path.iterdir()) == once(names, lines)
        assert len(files_of(tmp_path / "flow.log")) > 10
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            path.name for path in files_of(tmp_path / "flow.log")
        )

    def test_threads_and_several_logs_in_a_process(self, tmp_path: Path) -> None:
        """Two objects, two threads each, one file."""
        shared = [rotating(tmp_path / "flow.log", 5_000, 100_000) for _ in range(2)] * 2

        def write(name: str, file: RotatingFile) -> None:
            for number in range(3_000):
                file.append(f"{name} {number} {'x' * (number % 50)}\n".encode())

        threads = [threading.Thread(target=write, args=pair) for pair in zip("abcd", shared, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert written(tmp_path.iterdir()) == once("abcd", 3_000)

    def test_a_fork_in_the_middle(self, tmp_path: Path) -> None:
        """A child that uses its parent's log, while a thread of the parent writes, loses no line."""
        source = """
import threading
begun = threading.Event()
def write_on():
    for number in range(lines):
        write("b", [number])
        begun.set()
thread = threading.Thread(target=write_on)
thread.start()
begun.wait()
import warnings; warnings.simplefilter("ignore")  # since 3.12 of a fork beside threads, which is what is tested
children = []
for child in "cdef":
    if (pid := os.fork()) == 0:
        write(child, range(lines))
        os._exit(0)
    children.append(pid)
write("a", range(lines))
thread.join()
sys.exit(sum(os.waitpid(pid, 0)[1] for pid in children))
"""
        assert writer("a", tmp_path / "flow.log", 3_000, source=source, max_bytes=5_000).wait() == 0

        assert written(tmp_path.iterdir()) == once("abcdef", 3_000)

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.parametrize("step", range(1, 5))
    def test_a_kill_in_the_middle_of_a_rotation(self, step: int, tmp_path: Path) -> None:
        """At any step of kill -9, no file is lost; the next writer goes on, and uses the free number."""
        path = tmp_path / "flow.log"
        killed = f"""
import signal
replace, calls = os.replace, []
def counted(*names):
    calls.append(names)
    if len(calls) == 1 + 2 + 3 + {step}:  # three rotations went well; the fourth has four steps
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
os.replace = counted
write(name, range(lines))
"""
        assert writer("a", path, 10_000, source=killed, max_bytes=1_000).wait() == -9
        before = written(tmp_path.iterdir())
        last = max(number for _, number in before)
        assert before == once("a", last + 1)

        assert writer("b", path, 1_000, max_bytes=1_000).wait() == 0

        assert written(tmp_path.iterdir()) == before + once("b", 1_000)
        assert [file.name for file in files_of(path)[1:]] == [f"flow.log.{n}" for n in range(1, len(files_of(path)))]

    def test_a_frozen_rotation_blocks_no_writer(self, tmp_path: Path) -> None:
        """While a rotation is stopped, the others write to the full file."""
        path = tmp_path / "flow.log"
        frozen = """
import signal
def stop(*names):
    os.write(1, b"stopped\\n")
    os.kill(os.getpid(), signal.SIGSTOP)
os.replace = stop
write(name, range(lines))
"""
        first = subprocess.Popen(
            [sys.executable, "-c", WRITER + frozen, "a", str(path), "1000", "1000", "9"],
            env=os.environ | {"PYTHONPATH": str(SOURCES)},
            stdout=subprocess.PIPE,
        )
        assert first.stdout is not None
        assert first.stdout.readline() == b"stopped\n"

        second = writer("b", path, 1_000, max_bytes=1_000)
        code = second.wait()
        first.kill()
        first.communicate()

        assert code == 0
        assert written(tmp_path.iterdir()).keys() >= once("b", 1_000).keys()


class TestDeletedAndMoved:
    def test_a_deleted_folder_is_made_again(self, tmp_path: Path) -> None:
        """`rm -r .output` during a run loses earlier lines, and no later one."""
        file = rotating(tmp_path / "logs" / "flow.log")
        file.append(b"before\n")
        shutil.rmtree(tmp_path / "logs")

        file.append(b"after\n")

        assert (tmp_path / "logs" / "flow.log").read_text() == "after\n"

    def test_a_line_is_not_lost_in_a_deleted_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the file is deleted between the check and the write, the line is written again."""
        moment = clock.monotonic()
        monkeypatch.setattr(clock, "monotonic", lambda: moment)  # so that the path is not checked again
        file = rotating(tmp_path / "flow.log")
        file.append(b"first\n")
        file.append(b"before\n")
        (tmp_path / "flow.log").unlink()

        file.append(b"after\n")
        file.append(b"last\n")

        assert (tmp_path / "flow.log").read_text() == "after\nlast\n"

    def test_a_file_that_was_moved_is_made_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As by logrotate: later lines are in a new file."""
        ticks = itertools.count()
        monkeypatch.setattr(clock, "monotonic", lambda: float(next(ticks)))
        file = rotating(tmp_path / "flow.log")
        file.append(b"before\n")
        (tmp_path / "flow.log").rename(tmp_path / "moved")

        file.append(b"after\n")

        assert (tmp_path / "moved").read_text() == "before\n"
        assert (tmp_path / "flow.log").read_text() == "after\n"

    def test_the_current_folder_may_change(
        self, make_workflow: MakeWorkflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path begins in the current folder of the first record."""
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        workflow = make_workflow(log=LogDefault(output="file", path="flow.log", max_bytes=150))
        workflow.task.add([action(lambda: monkeypatch.chdir(tmp_path / "elsewhere"))] * 3)

        workflow.start()

        assert sorted(path.name for path in tmp_path.iterdir())[:3] == ["elsewhere", "flow.log", "flow.log.1"]
        assert list((tmp_path / "elsewhere").iterdir()) == []


class TestTrouble:
    def test_a_full_disk_is_one_warning_and_tears_no_line(self, tmp_path: Path) -> None:
        """The run goes on. An incomplete line ends where the next begins; the log counts the missing records."""
        source = """
log = LogDefault(output="file", format="json", path=HERE / "disk" / "logs" / "flow.log", max_bytes=0)

def fill():
    try:
        with open(HERE / "disk" / "filler", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 100)
    except OSError:
        pass

@action
def step(): ...

@action
def empty(): os.unlink(HERE / "disk" / "filler")

workflow = DotFlow(Config(log=log))
workflow.task.add([step, fill, *[step] * 100, empty, step])
errors = sys.stderr = io.StringIO()
run = workflow.start()
sys.stderr = sys.__stderr__
lines = (HERE / "disk" / "logs" / "flow.log").read_text().splitlines()
print(json.dumps([str(run.status), errors.getvalue(), lines]))
""".replace("def fill", "@action\ndef fill")
        status, said, lines = run_on("mount -t tmpfs -o size=64k tmpfs disk", source, tmp_path)

        assert status == "Completed"
        assert said.count("\n") == 1
        assert "No space left on device" in said
        whole, torn = [], []
        for line in lines:
            try:
                whole.append(json.loads(line))
            except ValueError:
                torn.append(line)
        assert len(torn) <= 1
        (missing,) = [line["message"] for line in whole if line["message"]]
        number = int("".join(filter(str.isdigit, missing)))
        assert number > 100
        assert len(whole) - 1 + number == 2 * 104
        assert (whole[-1]["task"], whole[-1]["status"]) == (103, "Completed")

    def test_an_incomplete_line_stays_alone(self, tmp_path: Path) -> None:
        """The next line begins on a line of its own after a power cut or a full disk."""
        (tmp_path / "flow.log").write_bytes(b"whole\nhal")

        rotating(tmp_path / "flow.log").append(b"new\n")

        assert (tmp_path / "flow.log").read_bytes() == b"whole\nhal\nnew\n"

    def test_a_file_that_cannot_be_rotated_grows(self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: Any) -> None:
        """One warning that names the file and the reason; nothing is lost."""
        (tmp_path / "flow.log.1").mkdir()
        (tmp_path / "flow.log.1" / "in it").touch()
        log = LogDefault(path=tmp_path / "flow.log", output="file", max_bytes=200, backups=1)
        workflow = make_workflow(log=log)
        workflow.task.add([action(lambda: 1)] * 20)

        run = workflow.start()

        assert run.status is TypeStatus.COMPLETED
        (line,) = capfd.readouterr().err.splitlines()
        assert "can't be renamed" in line
        assert str(tmp_path / "flow.log") in line
        assert len((tmp_path / "flow.log").read_text().splitlines()) == 40

    def test_a_link_is_left_alone(self, tmp_path: Path) -> None:
        """/dev/stdout, or a link that was set on purpose, isn't renamed."""
        (tmp_path / "link").symlink_to(tmp_path / "real")
        file = rotating(tmp_path / "link", max_bytes=10)

        for _ in range(5):
            file.append(b"0123456789\n")

        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
        assert (tmp_path / "real").stat().st_size == 55

    def test_descriptors_are_closed(self, scripts: Scripts) -> None:
        """After any rotations and deletions one file is open, and none when the log is collected."""
        facts = scripts.run("""
from dotflow.providers.logs.rotating_file import RotatingFile
count = lambda: len(os.listdir("/proc/self/fd"))
before = count()
file = RotatingFile(str(HERE / "flow.log"), 50, 3, sys.exit)
for number in range(200):
    file.append(b"x" * 20 + b"\\n")
    if number % 10 == 0:
        os.unlink(HERE / "flow.log")
during = count()
del file
say(during=during - before, after=count() - before)
""").facts

        assert facts == {"during": 1, "after": 0}


class TestWithoutConsole:
    @pytest.mark.parametrize(
        ("output", "kept"), [("both", "file"), ("file", "file"), ("console", "none"), ("none", "none")]
    )
    def test_it_is_the_same_log_without_stderr(
        self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: Any, output: str, kept: str
    ) -> None:
        """Path, level, format and rotation stay; a log for the console alone is silent about tasks."""
        path = tmp_path / "flow.log"
        log = LogDefault("ERROR", output, path, "json", max_bytes=300, backups=2)

        quiet = log.without_console()
        workflow = make_workflow(log=quiet)
        workflow.task.add([action(lambda: 1), *[action(lambda: 1 / 0)] * 5])
        workflow.start(keep_going=True)

        assert capfd.readouterr() == ("", "")
        assert quiet.is_silent is (kept == "none")
        assert path.exists() is (kept == "file")
        if kept == "file":
            lines = [json.loads(line) for file in files_of(path) for line in file.read_text().splitlines()]
            assert [line["level"] for line in lines] == ["ERROR"] * 3
            assert quiet.path == log.path

    def test_notes_go_to_the_file_alone(self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: Any) -> None:
        """Such as that further failed items of a map are only counted."""
        path = tmp_path / "flow.log"
        workflow = make_workflow(log=LogDefault(path=path).without_console())
        workflow.task.add(action(lambda number: 1 / 0), each=list(range(30)), keep_going=True)
        workflow.start()

        assert capfd.readouterr().err == ""
        assert "more than 20 failed items" in path.read_text()

    @pytest.mark.parametrize("output", ["both", "console", "file", "none"])
    def test_reports_are_still_written(
        self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: Any, output: str
    ) -> None:
        """A callback that raised is reported with its traceback as before."""

        def tell(tasks: list[Any]) -> None:
            raise OSError("nobody is there")

        path = tmp_path / "flow.log"
        workflow = make_workflow(log=LogDefault("WARNING", output, path).without_console())
        workflow.task.add(action(lambda: 1 / 0))
        workflow.start(on_failure=tell)

        err = capfd.readouterr().err
        kept = path.read_text() if path.exists() else ""
        assert ("OSError: nobody is there" in err) is (output in ("both", "console"))
        assert ("Traceback" in err) is (output in ("both", "console"))
        assert ("OSError: nobody is there" in kept) is (output in ("both", "file"))
        assert "ZeroDivisionError" not in err

    def test_the_log_itself_stays_as_it_was(self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: Any) -> None:
        """The original log still writes to stderr."""
        log = LogDefault(path=tmp_path / "flow.log")
        log.without_console()
        workflow = make_workflow(log=log)
        workflow.task.add(action(lambda: 1))

        workflow.start()

        assert len(capfd.readouterr().err.splitlines()) == 2
