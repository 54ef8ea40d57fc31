"""The example of a build: compiles, links and tests a C program, and makes nothing twice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dotflow

EXAMPLE = Path(__file__).parents[2] / "examples" / "build"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of the example."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "build"))


def build(folder: Path) -> tuple[str, list[str]]:
    """Runs the build; returns what it prints, and the sources that it compiles."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "build.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(dotflow.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), sorted(
        line.split()[1] for line in done.stderr.splitlines() if line.startswith("compiling ")
    )


@pytest.mark.slow
def test_a_build_makes_everything_and_a_second_one_nothing(folder: Path) -> None:
    """The program is tested; nothing but the objects and the program lies in its folder."""
    assert build(folder) == ("3 words", ["src/count.c", "src/words.c"])
    assert sorted(path.name for path in (folder / "build").iterdir()) == ["count", "count.o", "words.o"]

    assert build(folder) == ("3 words", [])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_was_edited_or_deleted_is_made_again_alone(folder: Path) -> None:
    """A source, an object, and a header that both sources include."""
    build(folder)
    words, header = folder / "src" / "words.c", folder / "src" / "words.h"
    words.write_text(words.read_text() + "\n/* edited */\n")
    assert build(folder) == ("3 words", ["src/words.c"])

    (folder / "build" / "count.o").unlink()
    assert build(folder) == ("3 words", ["src/count.c"])

    header.write_text(header.read_text() + "\n/* edited */\n")
    assert build(folder) == ("3 words", ["src/count.c", "src/words.c"])
    assert build(folder) == ("3 words", [])
