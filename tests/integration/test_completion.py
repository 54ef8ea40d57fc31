"""`dotflow completion`, and what shells complete, as they ask for it: by environment variables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite

VARIABLES = {"COMP_WORDBREAKS": " \t\n\"'@><=;|&(:"}


@action
def extract(day: str) -> str:
    return day


@action
def load(day: str) -> str:
    if day == "2026-12-02":
        raise ValueError(day)
    return day


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose history has two runs of a workflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOTFLOW_HISTORY", raising=False)
    workflow = DotFlow(Config(history=HistorySQLite()), workflow_id="etl", params={"day": ...})
    workflow.task.add([extract, load])
    for day in ("2026-12-01", "2026-12-02"):
        workflow.start(params={"day": day})
    return tmp_path


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run([sys.executable, "-m", "dotflow", *words], env=environment, capture_output=True, text=True)


def complete(line: str, shell: str = "bash") -> list[str]:
    """Returns what a shell gets for a line, without types and helps."""
    words = line.split(" ")
    fish = {"COMP_WORDS": line, "COMP_CWORD": words[-1]}
    others = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), **VARIABLES}
    ended = run(_DOTFLOW_COMPLETE=f"{shell}_complete", **(fish if shell == "fish" else others))
    assert ended.stderr == ""
    lines = ended.stdout.split("\n")
    return lines[1::3] if shell == "zsh" else [text.split(",")[1].split("\t")[0] for text in lines if text]


def test_runs_tasks_and_workflows_are_completed(runs: Path) -> None:
    """Bash gets what stands behind its last break of a word."""
    ids = [one.short_id for one in HistorySQLite().runs()]
    for line, found in {
        "dotflow sho": ["show"],
        "dotflow show ": ["last", "previous", "failed", "etl", *ids],
        "dotflow show failed:e": ["etl"],
        "dotflow show etl@": ["day=2026-12-02", "day=2026-12-01"],
        "dotflow show etl@day=2026-12-0": ["2026-12-02", "2026-12-01"],
        "dotflow replay failed:etl l": ["load"],
        "dotflow resume etl --rerun ": ["extract", "load"],
        "dotflow runs --workflow ": ["etl"],
        "dotflow show --inp": ["--input"],
        "dotflow show nothing:": [],
    }.items():
        assert complete(line) == found, line
    for shell in ("zsh", "fish"):
        assert complete("dotflow show failed:e", shell) == ["failed:etl"]


def test_errors_are_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a history there are no runs, and none is made; a file that is none is no error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOTFLOW_HISTORY", raising=False)
    assert complete("dotflow show etl") == []
    assert list(tmp_path.iterdir()) == []
    Path(".output").mkdir()
    Path(".output/history.db").write_text("no history")
    assert complete("dotflow show etl") == []


def test_it_is_installed_once(tmp_path: Path) -> None:
    """In files of the user's own; an unknown shell is refused."""
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")
    for _ in range(2):
        assert run("completion", "--install", SHELL="/bin/bash", **home).returncode == 0
    path = tmp_path / ".local/share/dotflow/completion.bash"
    assert (tmp_path / ".bashrc").read_text() == f"alias ll='ls -l'\nsource {path}\n"
    assert path.read_text() == run("completion", "bash").stdout
    assert run("completion", "fish", "--install", **home).returncode == 0
    assert "dotflow" in (tmp_path / ".config/fish/completions/dotflow.fish").read_text()
    assert "compdef _dotflow_completion dotflow" in run("completion", "zsh").stdout
    refused = run("completion", SHELL="/bin/tcsh")
    assert (refused.returncode, "bash, zsh, fish" in refused.stderr) == (2, True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(runs: Path) -> None:
    """The script defines the function that bash calls."""
    program = f"""
        dotflow() {{ {sys.executable} -m dotflow "$@"; }}
        eval "$(dotflow completion bash)"
        COMP_LINE='dotflow show etl@day=2026-12-01'; COMP_POINT=${{#COMP_LINE}}
        _dotflow_completion dotflow; printf '%s\\n' "${{COMPREPLY[@]}}"; complete -p dotflow
    """
    ended = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["2026-12-01", "complete -o nosort -F _dotflow_completion dotflow"]
