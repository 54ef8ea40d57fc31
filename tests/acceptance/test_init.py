"""The way of a newcomer: make a project, and follow its own README, Dockerfile and checks."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)

#: Packages come over the network, as they do for a newcomer.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(command: Sequence[str | Path], folder: Path, first_on_path: Path = BIN, **settings: str) -> str:
    """Returns the output of a command that has to succeed; it has no access to the sources under test."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment["PATH"] = os.pathsep.join([str(first_on_path), environment["PATH"]])
    environment["PIP_NO_COMPILE"] = "1"  # most modules are never imported
    ended = subprocess.run(
        command, cwd=folder, env=environment | settings, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that the installed command made, in a folder with a space in its name."""
    folder = tmp_path / "my work"
    folder.mkdir()
    run(["dotflow", "init", "my-project"], folder)
    return folder / "my-project"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment without dotflow; what dotflow requires, it takes from that of the tests."""
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for entry in (entry for path in sys.path if path.endswith("site-packages") for entry in Path(path).iterdir()):
        if "dotflow" not in entry.name and not (requirements / entry.name).exists():
            (requirements / entry.name).symlink_to(entry)
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "environment"], tmp_path)
    packages = next((tmp_path / "environment" / "lib").glob("python3*")) / "site-packages"
    (packages / "requirements.pth").write_text(f"{requirements}\n")
    return tmp_path / "environment"


@pytest.mark.exhaustive
def test_every_command_of_its_readme_works(project: Path) -> None:
    """In a fresh environment, in their order: installed, run, resumed, tested, linted, formatted and typed."""
    blocks = SHELL_BLOCK.findall((project / "README.md").read_text())
    script = "\n".join(block for block in blocks if not block.startswith("docker "))
    assert len(blocks) == 8
    checks = re.findall(r"^      - run: (.*)$", (project / ".github/workflows/ci.yml").read_text(), re.MULTILINE)
    assert len(checks) == 6
    assert set(checks) <= set(script.splitlines())  # so CI passes, too

    printed = run(["sh", "-e", "-c", script], project)

    assert "3 of 3 tasks completed" in printed
    assert "(3 restored)" in printed
    assert re.search(r"\b8 passed\b", printed)
    assert len(re.findall(r" 0[23]:\d\d:00 E[SD]T ", printed)) == 3  # the schedule
    assert "All checks passed!" in printed
    assert "already formatted" in printed
    assert (project / "output" / "revenue.db").stat().st_size > 0


@pytest.mark.exhaustive
def test_its_image_can_be_built_and_run(project: Path, environment: Path, tmp_path: Path) -> None:
    """What its Dockerfile installs, from what it copies, is enough for its command and for a schedule.

    Docker itself is left out: a copy stands for /app, an environment for the image and an empty folder for /data.
    """
    lines = (project / "Dockerfile").read_text().splitlines()
    schedule = re.findall(r"^    (dotflow schedule .*)$", (project / "README.md").read_text(), re.MULTILINE)[0]
    app, data = tmp_path / "app", tmp_path / "data"
    ignored = [line.removeprefix("**/") for line in (project / ".dockerignore").read_text().splitlines()[1:]]
    shutil.copytree(project, app, ignore=shutil.ignore_patterns(*ignored))
    shutil.rmtree(project)
    data.mkdir()

    install = next(line for line in lines if line.startswith("RUN pip ")).removeprefix("RUN ").replace("/app", str(app))
    run(["sh", "-c", install], data, PIP_PYTHON=str(environment / "bin" / "python"))
    printed = run(json.loads(lines[-1].removeprefix("CMD ")), data, environment / "bin")
    nightly = run(["sh", "-c", f"{schedule} --preview 1"], data, environment / "bin")

    assert (environment / "bin" / "dotflow").exists()
    assert "3 of 3 tasks completed" in printed
    assert re.search(r" 0[23]:\d\d:00 E[SD]T ", nightly)
    assert {path.name for path in data.iterdir()} == {".output", "output"}


@pytest.mark.exhaustive
def test_the_project_of_a_project_is_as_good(project: Path, environment: Path, tmp_path: Path) -> None:
    """The dotflow that a project carries packs itself, byte for byte."""
    wheel = next((project / "wheels").iterdir())
    packed = wheel.read_bytes()
    run(["pip", "install", "--no-deps", wheel], tmp_path, PIP_PYTHON=str(environment / "bin" / "python"))

    run(["dotflow", "init", "again"], tmp_path, environment / "bin")

    assert (environment / "bin" / "dotflow").exists()
    assert next((tmp_path / "again" / "wheels").iterdir()).read_bytes() == packed
