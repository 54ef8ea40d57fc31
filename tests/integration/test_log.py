"""LogDefault: its records, their output, and failures to write."""

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow import DotFlow, action
from dotflow.cli.main import main
from dotflow.core.types import TypeStatus
from dotflow.providers import LogDefault

MakeWorkflow = Callable[..., DotFlow]

STAMP = r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d{3}"


@action
def works() -> int:
    return 1


@action(retry=2, retry_delay=0)
def fails() -> None:
    raise ValueError("no\nreally: ä")


def lines_of(make_workflow: MakeWorkflow, path: Path, **options: Any) -> list[str]:
    """Returns the lines of two tasks, one that works and one that fails twice."""
    workflow = make_workflow(log=LogDefault(path=path, **options), workflow_id="my-workflow-7")
    workflow.task.add([works, fails])
    workflow.start()
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.mark.parametrize("format", ["simple", "json"])
def test_workflows_whose_ids_begin_alike_have_lines_of_their_own(
    make_workflow: MakeWorkflow, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line has the whole id, the workflow's name, the run and the group; `dotflow log` finds each."""
    log = LogDefault(path=tmp_path / "flow.log", output="file", format=format)
    for country, name in (("peru", "Prices of Peru"), ("chad", "Prices of Chad")):
        workflow = make_workflow(log=log, workflow_id=f"nightly-prices-{country}", name=name)
        workflow.task.add([works, works], group_name="prices")
        workflow.start()
        workflow.start()

    def shown(*arguments: str) -> list[dict[str, Any]]:
        assert main(["log", "--path", str(log.path), "--json", "-n", "all", *arguments]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert len(shown()) == 16
    for arguments in (["--workflow", "nightly-prices-chad"], ["--workflow", "Prices of Chad", "--step", "works"]):
        found = shown(*arguments)
        assert len(found) == 8
        if format == "json":
            assert {(line["workflow"], line["name"]) for line in found} == {("nightly-prices-chad", "Prices of Chad")}
            assert {line["group"] for line in found} == {"prices"}
            assert len({line["run"] for line in found}) == 2
        else:
            heads = {re.sub(r" task \d.*", "", line["message"]) for line in found}
            assert len(heads) == 2
            assert all(re.fullmatch(r"nightly-prices-chad \(Prices of Chad\) run \w{8}", head) for head in heads)
    assert shown("--step", "fails") == []
    assert log._heads == log._kept == {}  # nothing is left of an ended run


class TestSimple:
    def test_a_line_for_each_change(
        self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A line has time, level, workflow, task and status; a failure's traceback is below it, indented."""
        lines = lines_of(make_workflow, tmp_path / "flow.log", output="file")

        heads = [line for line in lines if re.match(STAMP, line)]
        patterns = [
            "INFO    my-workflow-7 run [0-9a-f]{8} task 0 works: In progress$",
            r"INFO    my-workflow-7 run [0-9a-f]{8} task 0 works: Completed in \d+\.\d{3} s$",
            "INFO    my-workflow-7 run [0-9a-f]{8} task 1 fails: In progress$",
            r"WARNING my-workflow-7 run [0-9a-f]{8} task 1 fails: Retry \(attempt 1\): ValueError: no",
            r"INFO    my-workflow-7 run [0-9a-f]{8} task 1 fails: In progress \(attempt 2\)$",
            r"ERROR   my-workflow-7 run [0-9a-f]{8} task 1 fails: Failed \(attempt 2\): ValueError: no",
        ]
        assert len(heads) == len(patterns)
        for line, pattern in zip(heads, patterns, strict=True):
            assert re.match(f"{STAMP} {pattern}", line)
        assert sum('raise ValueError("no\\nreally: ä")' in line for line in lines) == 2
        assert all(line.startswith("    ") for line in lines if line not in heads)
        assert lines.count("    really: ä") == 4  # in the message and in the traceback, twice
        assert capfd.readouterr() == ("", "")

    def test_both_places_get_the_same(
        self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """By default the lines are on stderr and in the file; stdout belongs to the program."""
        lines = lines_of(make_workflow, tmp_path / "flow.log")

        out, err = capfd.readouterr()
        assert err.splitlines() == lines
        assert out == ""


class TestJson:
    def test_one_object_a_line(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """Each line is JSON by itself, for any message."""
        lines = [
            json.loads(line) for line in lines_of(make_workflow, tmp_path / "flow.log", output="file", format="json")
        ]

        assert [(line["level"], line["task"], line["step"], line["status"], line["attempt"]) for line in lines] == [
            ("INFO", 0, "works", "In progress", 1),
            ("INFO", 0, "works", "Completed", 1),
            ("INFO", 1, "fails", "In progress", 1),
            ("WARNING", 1, "fails", "Retry", 1),
            ("INFO", 1, "fails", "In progress", 2),
            ("ERROR", 1, "fails", "Failed", 2),
        ]
        assert {line["workflow"] for line in lines} == {"my-workflow-7"}
        assert len({line["run"] for line in lines}) == 1
        assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)

    def test_errors_are_objects(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """A failed attempt has its type, message and traceback."""
        lines = [
            json.loads(line) for line in lines_of(make_workflow, tmp_path / "flow.log", output="file", format="json")
        ]

        failed = [line["error"] for line in lines if line["error"]]
        assert [(error["exception"], error["message"]) for error in failed] == [("ValueError", "no\nreally: ä")] * 2
        assert all("Traceback (most recent call last)" in error["traceback"] for error in failed)

    def test_reports_are_lines_too(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """Reports about no task, such as a callback that raised, are JSON, too."""
        path = tmp_path / "flow.log"
        workflow = make_workflow(log=LogDefault(path=path, output="file", format="json"))
        workflow.task.add(works, callback=lambda task: 1 / 0)
        workflow.start()

        last = json.loads(path.read_text().splitlines()[-1])
        assert last["level"] == "WARNING"
        assert "ZeroDivisionError" in last["message"]


class TestLevelAndOutput:
    @pytest.mark.parametrize(
        ("level", "written"),
        [
            ("DEBUG", ["INFO"] * 3 + ["WARNING", "INFO", "ERROR"]),
            ("INFO", ["INFO"] * 3 + ["WARNING", "INFO", "ERROR"]),
            ("info", ["INFO"] * 3 + ["WARNING", "INFO", "ERROR"]),
            ("WARNING", ["WARNING", "ERROR"]),
            ("ERROR", ["ERROR"]),
            ("OFF", []),
        ],
    )
    def test_the_level_is_the_least_that_is_written(
        self, make_workflow: MakeWorkflow, tmp_path: Path, level: str, written: list[str]
    ) -> None:
        """A failed attempt that is retried is a warning, the last one an error, the rest information."""
        lines = lines_of(make_workflow, tmp_path / "flow.log", output="file", level=level, format="json")

        assert [json.loads(line)["level"] for line in lines] == written

    @pytest.mark.parametrize(
        ("output", "to_console", "to_file"),
        [("both", True, True), ("console", True, False), ("file", False, True), ("none", False, False)],
    )
    def test_the_output_is_where(
        self,
        make_workflow: MakeWorkflow,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        output: str,
        to_console: bool,
        to_file: bool,
    ) -> None:
        """stderr, the file, both or neither; an unused file is not made."""
        lines_of(make_workflow, tmp_path / "logs" / "flow.log", output=output)

        assert bool(capfd.readouterr().err) is to_console
        assert (tmp_path / "logs").exists() is to_file

    def test_a_second_run_goes_on_in_the_same_file(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """Earlier records stay."""
        first = lines_of(make_workflow, tmp_path / "flow.log", output="file")
        both = lines_of(make_workflow, tmp_path / "flow.log", output="file")

        assert both[: len(first)] == first
        assert len(both) == 2 * len(first)


class TestNothingTooEarly:
    def test_import_and_construction_write_nothing(self, tmp_path: Path) -> None:
        """No folder, no file, no line before the first task."""
        program = (
            "from dotflow import Config, DotFlow, action\n"
            "from dotflow.providers import LogDefault\n"
            "workflow = DotFlow(Config(log=LogDefault()))\n"
            "workflow.task.add(action(lambda: 1))\n"
        )
        path = [os.path.abspath(entry) for entry in sys.path if entry]  # noqa: PTH100
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{program}"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )

        assert (done.stdout, done.stderr) == (b"", b"")
        assert list(tmp_path.iterdir()) == []

    def test_the_default_path_is_in_the_current_folder(
        self, make_workflow: MakeWorkflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """.output/flow.log, made with its folder when the first line is written."""
        monkeypatch.chdir(tmp_path)
        workflow = make_workflow(log=LogDefault(output="file"))
        workflow.task.add(works)
        assert list(tmp_path.iterdir()) == []

        workflow.start()

        assert len((tmp_path / ".output" / "flow.log").read_text().splitlines()) == 2


class TestTrouble:
    @pytest.mark.parametrize("place", ["a file/flow.log", "a folder", "a file/deeper/flow.log"])
    def test_a_place_that_cannot_be_written_to_is_one_warning(
        self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: pytest.CaptureFixture[str], place: str
    ) -> None:
        """It has the path, the reason and what to do, and the run goes on."""
        (tmp_path / "a file").touch()
        (tmp_path / "a folder").mkdir()
        workflow = make_workflow(log=LogDefault(path=tmp_path / place, output="file"))
        workflow.task.add([works] * 5)

        run = workflow.start()

        assert run.status is TypeStatus.COMPLETED
        (line,) = capfd.readouterr().err.splitlines()
        assert "WARNING" in line
        assert str(tmp_path / place) in line
        assert "LogDefault(path=...)" in line

    def test_the_console_still_gets_its_lines(
        self, make_workflow: MakeWorkflow, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Only the file is missing."""
        (tmp_path / "file").touch()

        lines_of(make_workflow, tmp_path / "file" / "flow.log")

        assert len(re.findall(rf"(?m)^{STAMP}", capfd.readouterr().err)) == 6

    def test_a_closed_stderr_breaks_nothing(
        self, make_workflow: MakeWorkflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without stderr nothing is written."""
        closed = (tmp_path / "stderr").open("w")
        closed.close()
        for stderr in (closed, None):
            monkeypatch.setattr(sys, "stderr", stderr)
            lines = lines_of(make_workflow, tmp_path / f"{stderr is None}.log")
            assert sum(bool(re.match(STAMP, line)) for line in lines) == 6

    @pytest.mark.parametrize("format", ["simple", "json"])
    def test_any_text_can_be_written(self, make_workflow: MakeWorkflow, tmp_path: Path, format: str) -> None:
        """Lone surrogates in a message or a name don't stop the log."""
        path = tmp_path / "flow.log"

        def fails() -> None:
            raise ValueError("\ud800")

        workflow = make_workflow(log=LogDefault(path=path, format=format), workflow_id="\udfff")
        workflow.task.add(action(fails))
        workflow.start()

        assert "\\ud800" in path.read_text(encoding="utf-8")

    def test_travels(self, tmp_path: Path, make_workflow: MakeWorkflow) -> None:
        """A copy in another process opens its own file."""
        log = LogDefault(path=tmp_path / "flow.log", output="file")
        for copy in (log, pickle.loads(pickle.dumps(log))):
            workflow = make_workflow(log=copy)
            workflow.task.add(works)
            workflow.start()

        assert len((tmp_path / "flow.log").read_text().splitlines()) == 4
