"""Commands that help with a run."""

from datetime import UTC, datetime

import pytest

from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import RunRecord
from dotflow.report.next_steps import resume_command


def run(
    argv: str,
    *,
    program: str = "/bin/dotflow",
    workflow_id: str = "daily",
    trigger: str = "command",
    storage: str = "StorageFile(.output)",
) -> RunRecord:
    return RunRecord(
        run_id="7f3a9c12",
        workflow_id=workflow_id,
        state=TypeRunState.FAILED,
        trigger=trigger,
        began=datetime(2026, 11, 2, tzinfo=UTC),
        storage=storage,
        environment={"argv": [program, *argv.split()]},
        steps=[],
    )


@pytest.mark.parametrize(
    ("argv", "workflow_id", "command"),
    [
        ("start -w jobs:daily", "daily", "start -w jobs:daily --resume"),
        ("start -w jobs:daily --resume-changed", "daily", "start -w jobs:daily --resume"),
        ("start -w jobs:daily --rerun load --rerun=save", "daily", "start -w jobs:daily --resume"),
        (
            "start -w jobs:daily --param day=2026-11-02",
            "daily@day=2026-11-02,limit=5",
            "start -w jobs:daily --param day=2026-11-02 --param limit=5 --resume",
        ),
        (
            "start --param=day=2026-11-02 -w jobs:daily",
            "daily@day=2026-11-02",
            "start --param=day=2026-11-02 -w jobs:daily --resume",
        ),
        (
            "start -w jobs:daily",
            'daily@day=2026-11-02,keep=null,name="a,b=c",sizes=[1,2]',
            "start -w jobs:daily --param day=2026-11-02 --param name=a,b=c --param 'sizes=[1,2]' --resume",
        ),
        (
            "schedule -w jobs:daily --cron @daily --overlap=queue --timezone Europe/Berlin -o file --resume",
            "daily",
            "start -w jobs:daily -o file --resume",
        ),
        (
            "start -w jobs:daily --param big=x",
            "daily@0123456789abcdef0123456789abcdef",
            "start -w jobs:daily --param big=x --resume",
        ),
        ("start -w jobs:daily", 'daily@to="me@host"', "start -w jobs:daily --param to=me@host --resume"),
        ("start -s a.b --workflow-id me@host", "me@host", "start -s a.b --workflow-id me@host --resume"),
        (
            "start -s a.b --workflow-id me@host",
            "me@host@day=1",
            "start -s a.b --workflow-id me@host --param day=1 --resume",
        ),
        ("--debug start -w jobs:daily", "daily", "start -w jobs:daily --resume"),
    ],
)
def test_a_run_goes_on_by_a_command_with_its_parameters(argv: str, workflow_id: str, command: str) -> None:
    """Those of its id, which the defaults of another day would not be; without the options of a schedule."""
    trigger = argv.split()[0].removeprefix("--debug").replace("start", "") or "command"

    assert resume_command(run(argv, workflow_id=workflow_id, trigger=trigger)) == f"dotflow {command}"


@pytest.mark.parametrize(
    "record",
    [
        run("start -w jobs:daily", storage="StorageDefault"),
        run("start -w jobs:daily", trigger=""),
        run("", program="jobs.py", trigger="schedule"),
        run("start -w jobs:daily", program="manage.py", trigger="schedule"),
        run("start -w jobs:daily --param token=***"),
        run("start -w jobs:daily", workflow_id="daily@0123456789abcdef0123456789abcdef"),
    ],
    ids=["no storage", "a program", "a schedule of a program", "that of one with a word", "a secret", "a digest"],
)
def test_a_command_that_could_not_go_on_is_not_offered(record: RunRecord) -> None:
    """Nothing is printed that would be refused, or do something else."""
    assert resume_command(record) is None


def test_a_module_that_is_run_is_the_command_too() -> None:
    """`python -m dotflow start`."""
    record = run("start -w jobs:daily", program="/usr/lib/python3/site-packages/dotflow/__main__.py")

    assert resume_command(record) == "dotflow start -w jobs:daily --resume"
