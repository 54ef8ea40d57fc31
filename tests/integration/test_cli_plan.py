"""`dotflow graph` and `dotflow plan`: what a workflow is, and what a run would do."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dotflow.cli.main import main

JOBS = """\
from dotflow import DotFlow, action

@action
def urls():
    return ["a", "b"]

@action
def fetch(url):
    return url

@action
def report(fetch, day):
    return day

def nightly():
    workflow = DotFlow(workflow_id="nightly", params={"day": ...})
    workflow.task.add(urls).add(fetch, each=urls).add(report)
    return workflow
"""


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "plan_jobs.py").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("plan_jobs", None)


def test_graph_prints_the_diagram(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a run would lack a parameter."""
    assert main(["graph", "--workflow", "plan_jobs:nightly"]) == 0
    mermaid = capsys.readouterr().out
    assert main(["graph", "--workflow", "plan_jobs:nightly", "--format", "dot"]) == 0

    assert mermaid.splitlines()[0] == "flowchart TD"
    assert capsys.readouterr().out.startswith("digraph {")


def test_graph_refuses_what_it_can_not_draw(capsys: pytest.CaptureFixture[str]) -> None:
    """A workflow that does not exist, and a format."""
    assert main(["graph", "--workflow", "plan_jobs:missing"]) == 2
    assert main(["graph", "--workflow", "plan_jobs:nightly", "--format", "svg"]) == 2
    assert main(["graph"]) == 2
    assert "Nothing to run" in capsys.readouterr().err
