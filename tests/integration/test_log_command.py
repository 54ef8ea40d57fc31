"""`dotflow log`: the real command, on real files, while other processes write to them."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.cli.command import Exit
from dotflow.cli.log.files import Follower, Tail, last_records, open_all
from dotflow.cli.log.records import Filter, Record
from dotflow.cli.main import main
from dotflow.providers import LogDefault
from dotflow.providers.logs.rotating_file import rotate
from tests.integration.children import SOURCES
from tests.integration.test_log_rotation import writer

COMMAND = [sys.executable, "-W", "error", "-m", "dotflow", "log"]
STAMP = "2026-03-01 12:00:00.123"
HEAD = f"{STAMP} INFO    nightly task "

FAILED = f"""\
{STAMP} ERROR   nightly task 1 load: Failed (attempt 2): ValueError: no
    Traceback (most recent call last):
      File "pipeline.py", line 1, in load
    ValueError: no
"""
JSON = '{"time": "2026-03-01T12:00:00+00:00", "level": "WARNING", "message": "careful"}\n'


def info(number: int) -> str:
    return f"{HEAD}{number} extract: In progress\n"


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return kept | {"PYTHONPATH": str(SOURCES), "TERM": "xterm"} | more


def run(folder: Path, *arguments: str, code: int = 0) -> bytes:
    """Returns the command's output into a pipe; stderr is empty."""
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment(), capture_output=True)
    assert (done.returncode, done.stderr) == (code, b"")
    return done.stdout


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The default path of a log, in an empty folder."""
    (tmp_path / ".output").mkdir()
    return tmp_path / ".output" / "flow.log"


class TestLast:
    def test_the_last_twenty_as_they_are(self, log: Path, tmp_path: Path) -> None:
        """The output into a pipe is exactly what is in the file: the last 20 records, with their tracebacks."""
        log.write_text("".join([*map(info, range(30)), FAILED, JSON]))

        assert run(tmp_path).decode() == "".join([*map(info, range(12, 30)), FAILED, JSON])

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.parametrize(
        ("count", "first"), [("3", 17), ("7", 13), ("1000", 0), ("all", 0), ("ALL", 0), ("0", 20), ("11", 9)]
    )
    def test_older_files_are_read_where_they_are_needed(
        self, log: Path, tmp_path: Path, count: str, first: int
    ) -> None:
        """Oldest first, across files and gaps in their numbers, without files of similar names."""
        parts = {"flow.log": (15, 20), "flow.log.1": (10, 15), "flow.log.3": (5, 10), "flow.log.10": (0, 5)}
        for name, numbers in parts.items():
            log.with_name(name).write_text("".join(map(info, range(*numbers))))
        for name in ("flow.log.gz", "flow.log.01", "flow.log.1.gz", "flow.log.²"):
            log.with_name(name).write_text(FAILED)
        log.with_name("flow.log.2").mkdir()

        assert run(tmp_path, "-n", count).decode() == "".join(map(info, range(first, 20)))

    def test_only_backups_are_a_log_too(self, log: Path, tmp_path: Path) -> None:
        """Just after a rotation there is no newest file."""
        log.with_name("flow.log.1").write_text(info(1))

        assert run(tmp_path).decode() == info(1)

    def test_the_level_decides_for_a_record_as_a_whole(self, log: Path, tmp_path: Path) -> None:
        """--level, in any case, counts both formats; a traceback belongs to its line."""
        log.write_text(FAILED + info(1) + JSON + info(2))

        assert run(tmp_path, "--level", "Warning").decode() == FAILED + JSON
        assert run(tmp_path, "--level", "error", "-n", "all").decode() == FAILED
        assert run(tmp_path, "--level", "DEBUG", "-n", "1").decode() == info(2)

    def test_of_one_workflow_and_one_step(self, log: Path, tmp_path: Path) -> None:
        """--workflow and --step, alone and together."""
        new = f"{STAMP} INFO    nightly-prices run 0f0c1a52 task 0 extract: In progress\n"
        other = new.replace("nightly-prices", "nightly-stock")
        log.write_text(new + other + FAILED + JSON)

        assert run(tmp_path, "--workflow", "nightly-prices").decode() == new
        assert run(tmp_path, "--workflow", "nightly-stock", "--step", "extract", "-n", "all").decode() == other
        assert run(tmp_path, "--step", "load").decode() == FAILED

    def test_json_of_both_formats(self, log: Path, tmp_path: Path) -> None:
        """--json is one strict object a line, with the same keys whatever the file has."""
        log.write_text(FAILED + JSON)

        failed, report = map(json.loads, run(tmp_path, "--json").splitlines())

        assert list(failed) == list(report)
        assert (failed["level"], failed["task"], failed["step"], failed["error"]) == ("ERROR", None, None, None)
        assert failed["message"].startswith("nightly task 1 load: Failed (attempt 2): ValueError: no\nTraceback")
        assert (report["level"], report["message"], report["task"]) == ("WARNING", "careful", None)

    def test_garbage_is_passed_on(self, log: Path, tmp_path: Path) -> None:
        """Invalid UTF-8, half a line of JSON first, and a last line without an end are passed on."""
        garbage = b'{"time": "20\n' + JSON.encode() + b"\xff\xfe\x00\n" + info(1).encode() + HEAD.encode()
        log.write_bytes(garbage)

        assert run(tmp_path) == garbage + b"\n"
        assert len([json.loads(line) for line in run(tmp_path, "--json").splitlines()]) == 5

    def test_a_large_file_is_read_from_its_end(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last records of 50 MB take as little reading as those of a small file."""
        log.write_text(info(1) * 700_000)
        (file,) = open_all(log)
        read: list[int] = []

        class Counting:
            def seek(self, *place: int) -> int:
                return file.seek(*place)

            def read(self, size: int) -> bytes:
                read.append(size)
                return file.read(size)

        records = last_records([(Counting(), file.seek(0, os.SEEK_END))], 50, Filter())  # type: ignore[list-item]
        file.close()

        assert len(records) == 50
        assert sum(read) < 100_000

    def test_a_reader_that_is_gone(self, log: Path, tmp_path: Path) -> None:
        """`dotflow log -n all | head -1` ends quietly."""
        log.write_text(info(1) * 50_000)
        process = subprocess.Popen(
            [*COMMAND, "-n", "all"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().decode() == info(1)
        process.stdout.close()

        assert process.wait() == 0
        assert process.stderr.read() == b""
        process.stderr.close()


class TestMistakes:
    def test_no_log_yet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
        """One line has the path and what to do; the exit code is 2."""
        monkeypatch.chdir(tmp_path)

        assert main(["log"]) == Exit.WRONG_USAGE

        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        for words in (str(tmp_path / ".output" / "flow.log"), "A run writes it", "--path", "--follow"):
            assert words in err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["-n", "-3"], "'-3' is neither a number, 0 or more, nor 'all'"),
            (["-n", "x"], "'x' is neither"),
            (["--level", "loud"], "'loud' is not one of"),
            (["--path", "."], "is no file"),
            (["--path", "/dev/null"], "is no file"),
            (["--path", ".output/flow.log/deeper"], "no log at"),
        ],
    )
    def test_a_mistake_is_one_line(
        self, log: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, arguments: list[str], words: str
    ) -> None:
        """The cause, and no traceback."""
        log.touch()
        monkeypatch.chdir(log.parent.parent)

        assert main(["log", *arguments]) == Exit.WRONG_USAGE

        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert words in err

    @pytest.mark.exhaustive(keep_every=3)
    @pytest.mark.parametrize("arguments", [[], ["-f"], ["--path", "../flow.log"]])
    def test_the_current_folder_is_gone(self, tmp_path: Path, arguments: list[str]) -> None:
        """One line has the cause and what to do; a log with an absolute path is found all the same."""
        folder, elsewhere = tmp_path / "gone", tmp_path / "flow.log"
        folder.mkdir()
        elsewhere.write_text(info(1))
        program = (
            "import os, sys; del sys.path[0]; from dotflow.cli.main import main; "
            "os.rmdir(os.getcwd()); sys.exit(main())"
        )

        def command(*arguments: str) -> subprocess.CompletedProcess[str]:
            folder.mkdir(exist_ok=True)
            return subprocess.run(
                [sys.executable, "-c", program, "log", *arguments],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
            )

        done = command(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (Exit.WRONG_USAGE, "", 1)
        for words in ("the current folder no longer exists", "Change to", "--path"):
            assert words in done.stderr
        done = command("--path", str(elsewhere))
        assert (done.returncode, done.stdout, done.stderr) == (0, info(1), "")

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.parametrize("arguments", ["", "--json", "-f", "-n all"])
    def test_there_is_no_stdout(self, log: Path, tmp_path: Path, arguments: str) -> None:
        """Without stdout it ends quietly; a missing log is still an error."""
        log.write_text(info(1))
        command = ["sh", "-c", f'"$@" {arguments} >&-', "sh", *COMMAND]

        done = subprocess.run(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (0, "")

        log.unlink()
        done = subprocess.run([*command, "-n1"], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
        assert arguments == "-f" or (done.returncode, done.stderr.count("\n")) == (Exit.WRONG_USAGE, 1)

    def test_an_empty_log_is_one(self, log: Path, tmp_path: Path) -> None:
        """An empty log has no records."""
        log.touch()

        assert run(tmp_path) == b""
        assert run(tmp_path, "-n", "all", "--json") == b""


class TestHelp:
    def test_every_option_has_an_example(self, capfd: Any) -> None:
        """In under 100 columns."""
        assert main(["log", "--help"]) == 0

        out, _ = capfd.readouterr()
        text = " ".join(out.split())
        for example in ("log -f", "-n 50, -n all", "--level warning", "log --json | jq", "--path logs/nightly.log"):
            assert f"E.g. {example}" in text or f"E.g. dotflow {example}" in text
        assert max(map(len, out.splitlines())) < 100

    @pytest.mark.parametrize("arguments", [["--help"], ["log", "--help"], ["log"]])
    def test_rich_is_not_loaded_for_it(self, log: Path, tmp_path: Path, arguments: list[str]) -> None:
        """Help, and output into a pipe, need nothing but click."""
        log.write_text(FAILED)
        program = (
            f"import sys; from dotflow.cli.main import main; main({arguments!r})\n"
            "print('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
        )

        loaded = set(done.stdout.splitlines()[-1].split())
        assert {"loaded", "click", "dotflow"} <= loaded
        assert loaded & {"rich", "pydantic", "cloudpickle", "asyncio", "multiprocessing"} == set()


class Following:
    """`dotflow log -f` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "-f", *arguments],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def lines(self, count: int) -> str:
        """Waits for the next lines and returns them."""
        assert self.process.stdout is not None
        return b"".join(self.process.stdout.readline() for _ in range(count)).decode()

    def stderr_line(self) -> str:
        """Returns the next line on stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode()

    def interrupt(self) -> tuple[int, bytes, bytes]:
        """Sends Ctrl-C; returns the exit code and the last output."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@contextlib.contextmanager
def following(folder: Path, *arguments: str) -> Iterator[Following]:
    process = Following(folder, *arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


class TestFollow:
    def test_new_lines_are_shown_until_ctrl_c(self, log: Path, tmp_path: Path) -> None:
        """At once, also into a pipe; Ctrl-C ends it with 130 and a line end after the terminal's ^C."""
        log.write_text(info(1) + info(2))

        with following(tmp_path, "-n", "1") as follow:
            assert follow.lines(1) == info(2)
            append(log, info(3))
            assert follow.lines(1) == info(3)
            append(log, FAILED + JSON)
            assert follow.lines(5) == FAILED + JSON

            assert follow.interrupt() == (130, b"", b"\n")

    def test_it_waits_for_a_log(self, tmp_path: Path) -> None:
        """It reports that on stderr, and shows everything once there is a log."""
        with following(tmp_path) as follow:
            stderr_line = follow.stderr_line()
            assert "waiting" in stderr_line
            assert str(tmp_path / ".output" / "flow.log") in stderr_line
            (tmp_path / ".output").mkdir()
            append(tmp_path / ".output" / "flow.log", info(1))
            assert follow.lines(1) == info(1)

            assert follow.interrupt() == (130, b"", b"\n")

    def test_the_level_and_json_hold_for_new_lines(self, log: Path, tmp_path: Path) -> None:
        """It waits for the rest of a record, so that its traceback is in the object."""
        log.write_text(FAILED)

        with following(tmp_path, "-n", "1", "--level", "warning", "--json") as follow:
            assert json.loads(follow.lines(1))["level"] == "ERROR"
            append(log, info(1) + JSON)
            assert json.loads(follow.lines(1))["message"] == "careful"
            append(log, info(1) + FAILED)
            assert json.loads(follow.lines(1))["message"].endswith("\nValueError: no")

    def test_a_line_that_is_being_written(self, log: Path, tmp_path: Path) -> None:
        """It is shown once, when it is complete."""
        log.write_text(info(1) + HEAD)

        with following(tmp_path) as follow:
            assert follow.lines(1) == info(1)
            append(log, "2 extract: In progress\n" + info(3))
            assert follow.lines(2) == info(2) + info(3)

    @pytest.mark.timeout(60)
    def test_every_line_of_a_rotating_log_is_shown_once(self, log: Path, tmp_path: Path) -> None:
        """While two processes write, and rotate several times between two checks."""
        source = """
for number in range(lines):
    file.append(f"2026-03-01 12:00:00.123 INFO    {name} {number}\\n".encode())
"""
        with following(tmp_path, "-n", "all") as follow:
            follow.stderr_line()
            writers = [writer(name, log, 2_000, source=source, max_bytes=5_000) for name in "ab"]
            words = [line.split()[-2:] for line in follow.lines(4_000).splitlines()]
            assert [process.wait() for process in writers] == [0, 0]

            assert follow.interrupt() == (130, b"", b"\n")

        assert len(list(log.parent.iterdir())) > 10
        for name in "ab":
            assert [int(number) for writer_name, number in words if writer_name == name] == list(range(2_000))

    def test_a_line_that_comes_late_to_a_renamed_file(self, log: Path, tmp_path: Path) -> None:
        """The lines of a process that has not noticed the rotation yet are shown."""
        log.write_text(info(1))

        with following(tmp_path) as follow:
            assert follow.lines(1) == info(1)
            log.rename(log.with_name("flow.log.1"))
            log.write_text(info(2))
            assert follow.lines(1) == info(2)
            append(log.with_name("flow.log.1"), info(3))
            assert follow.lines(1) == info(3)

    def test_a_line_that_comes_late_to_a_file_that_was_renamed_twice(self, log: Path, tmp_path: Path) -> None:
        """A process that was stopped between its look at the path and its write loses no line."""
        log.write_text(info(1))

        with following(tmp_path) as follow:
            assert follow.lines(1) == info(1)
            for number in (2, 3, 4):
                rotate(str(log), backups=5)
                log.write_text(info(number))
                assert follow.lines(1) == info(number)
            append(log.with_name("flow.log.3"), info(5))
            assert follow.lines(1) == info(5)

    def test_lines_that_come_while_files_are_read(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A line in a renamed file comes before what its process wrote to the newer one later."""
        log.write_text(info(1))
        follower = Follower(log, [(log.open("rb", buffering=0), 0)])
        shown = list(follower.records())
        rotate(str(log), backups=5)
        log.write_text(info(2))
        read = Tail.records

        def write_behind(tail: Tail, end: int) -> Iterator[Record]:
            """The older file was read; its writer adds to it, notices the rotation, and goes on."""
            yield from read(tail, end)
            if tail.renamed_at is not None:
                append(log.with_name("flow.log.1"), info(3))
                append(log, info(4))

        monkeypatch.setattr(Tail, "records", write_behind)
        shown += follower.records()
        monkeypatch.undo()
        for _ in range(2):
            shown += follower.records()
        follower.close()

        texts = [record.raw.decode() for record in shown]
        assert sorted(texts) == [info(1), info(2), info(3), info(4)]
        assert texts.index(info(3)) < texts.index(info(4))

    def test_a_file_that_is_truncated(self, log: Path, tmp_path: Path) -> None:
        """As by `> flow.log` and logrotate's copytruncate: new lines are shown from the beginning."""
        log.write_text(info(1) * 3)

        with following(tmp_path) as follow:
            assert follow.lines(3) == info(1) * 3
            log.write_text(info(2))
            assert follow.lines(1) == info(2)

    def test_it_waits_for_a_deleted_log(self, log: Path, tmp_path: Path) -> None:
        """Also with its folder; the new log is shown from the beginning, older files not again."""
        log.write_text(info(2))
        log.with_name("flow.log.1").write_text(info(1))

        with following(tmp_path, "-n", "all") as follow:
            assert follow.lines(2) == info(1) + info(2)
            log.unlink()
            log.write_text(info(3))
            assert follow.lines(1) == info(3)
            shutil.rmtree(log.parent)
            log.parent.mkdir()
            log.write_text(info(4))
            assert follow.lines(1) == info(4)

            assert follow.interrupt() == (130, b"", b"\n")

    def test_it_ends_when_the_reader_is_gone(self, log: Path, tmp_path: Path) -> None:
        """`dotflow log -f | head -1` ends, even if nothing more is written."""
        log.write_text(info(1))
        with following(tmp_path) as follow:
            assert follow.lines(1) == info(1)
            assert follow.process.stdout is not None
            follow.process.stdout.close()

            assert follow.process.wait() == 0
            assert follow.stderr_line() == ""


def in_terminal(folder: Path, *arguments: str, **more: str) -> str:
    """Returns the command's output in a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], cwd=folder, env=environment(**more), stdout=theirs)
    os.close(theirs)
    parts = []
    with contextlib.suppress(OSError):  # Linux raises when the other end of the terminal is closed
        while part := os.read(ours, 4096):
            parts.append(part)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


class TestTerminal:
    def test_colours(self, log: Path, tmp_path: Path) -> None:
        """A failure is red, a completed task green; the traceback is dim."""
        log.write_text(f"{HEAD}0 extract: Completed in 0.250 s\n{FAILED}")

        shown = in_terminal(tmp_path)

        assert re.search(r"\x1b\[32mCompleted\x1b\[0m", shown)
        assert re.search(r"\x1b\[1;31mFailed\x1b\[0m", shown)
        assert re.search(r'\x1b\[2m      File "pipeline.py", line 1, in load\x1b\[0m', shown)

    def test_no_color(self, log: Path, tmp_path: Path) -> None:
        """NO_COLOR leaves plain text: neither colours, nor bold, nor dim."""
        log.write_text(FAILED + JSON)

        shown = in_terminal(tmp_path, NO_COLOR="1", TZ="UTC")

        assert "\x1b" not in shown
        assert shown.splitlines() == [
            "── 2026-03-01 ──",
            "12:00:00.123 ERROR   nightly task 1 load: Failed (attempt 2): ValueError: no",
            "    Traceback (most recent call last):",
            '      File "pipeline.py", line 1, in load',
            "    ValueError: no",
            "12:00:00.000 WARNING careful",
        ]

    @pytest.mark.parametrize("format", ["simple", "json"])
    def test_maps_items_and_skips(self, log: Path, tmp_path: Path, format: str) -> None:
        """Counts, the index of an item and the reason of a skip look the same in both formats."""

        @action
        def fetch(number: int) -> int:
            if number == 2:
                raise ValueError("no")
            return number

        workflow = DotFlow(Config(log=LogDefault(output="file", path=log, format=format)), workflow_id="w")
        workflow.task.add(fetch, each=[1, 2, 3], keep_going=True)
        workflow.task.add(action(lambda: 0), name="good").add(action(lambda: 1), name="last", when="good")
        workflow.start(keep_going=True)

        shown = re.sub(r" run \w{8}| in \d\.\d{3} s|.*(INFO|ERROR) +", "", in_terminal(tmp_path, NO_COLOR="1"))
        heads = [line for line in shown.splitlines() if not line.startswith(("    ", "──"))]
        assert [line for line in heads if "good" not in line.split(":")[0]] == [
            "w task 0 fetch: In progress (3 items)",
            "w task 0 fetch[1]: Failed (attempt 1): ValueError: no",
            "w task 0 fetch: Failed (2 of 3 items, 1 failed): ItemsFailed: 1 of 3 items failed: [1] 2 ValueError",
            "w task 2 last: Skipped: good was 0",
        ]
        of_step = [json.loads(line) for line in run(tmp_path, "--step", "fetch", "--json").splitlines()]
        assert [record["item"] for record in of_step] == [None, 1 if format == "json" else None, None]

    def test_an_id_is_shown_whole(self, log: Path, tmp_path: Path) -> None:
        """Ids with a common prefix are distinguishable; control characters in them are escaped."""
        told = {"level": "INFO", "time": "2026-03-01T12:00:00+00:00", "task": 1, "step": "a", "status": "Completed"}
        log.write_text(json.dumps(told | {"workflow": "a/b/../\x1b[2J"}) + "\n")

        assert r"a/b/../\x1b[2J task 1 a: Completed" in in_terminal(tmp_path, NO_COLOR="1")

    def test_output_of_a_step_does_not_control_the_terminal(self, log: Path, tmp_path: Path) -> None:
        """Escape sequences in any field of both formats, and in other lines, are escaped."""
        evil = "\x1b]0;owned\x07\x9b2J"
        told = {
            "level": evil,
            "task": 1,
            "step": evil,
            "group": evil,
            "status": evil,
            "workflow": evil,
            "attempt": evil,
            "item": evil,
        }
        error = {"exception": evil, "message": evil, "traceback": evil}
        records = [
            f"{HEAD}0 {evil}: Failed (attempt 1): {evil}: {evil}\n    {evil}\n",
            f"{evil}\n",
            *[json.dumps(told | {"time": time, "error": error}) + "\n" for time in ("2026-03-01T12:00:00+00:00", evil)],
            json.dumps({"level": "INFO", "time": "2026-03-01T12:00:00+00:00", "message": evil}) + "\n",
            json.dumps({"level": "INFO", "time": "2026-03-01T12:00:00+00:00", "task": evil}) + "\n",
            *[
                json.dumps(told | {"time": "2026-03-01T12:00:00+00:00"} | more) + "\n"
                for more in (
                    {"reason": evil},
                    {"reason": [evil]},
                    {"items": {"count": evil, "failed": 1}},
                    {"items": [evil]},
                )
            ],
        ]
        log.write_bytes("".join(records).encode())

        shown = in_terminal(tmp_path, NO_COLOR="1")

        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
        assert shown.count("owned") > 10
