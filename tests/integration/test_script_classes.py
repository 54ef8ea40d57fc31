"""A script and the command that imports it read each other's values."""

from pathlib import Path

import pytest

from tests.integration.children import Script, Scripts

pytestmark = pytest.mark.processes

#: The second step fails in the first process, so that the next one has something to restore and something to do.
WEATHER = """
import dataclasses, enum, sys
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault, StorageFile

class Kind(enum.Enum):
    WET = "wet"

@dataclasses.dataclass(frozen=True)
class Row:
    city: str
    kinds: frozenset[Kind]

@action
def extract():
    with open("ran", "a") as file:
        file.write("extract ")
    return [Row("Seattle", frozenset({Kind.WET}))]

@action
def report(previous_context):
    if not Path("again").exists():
        raise ValueError("not yet")
    (row,) = previous_context.storage
    assert type(row) is Row and row == Row("Seattle", frozenset({Kind.WET}))
    return row

def build_workflow():
    workflow = DotFlow(Config(storage=StorageFile("kept"), log=LogDefault(output="none")), workflow_id="weather")
    workflow.task.add([extract, report])
    return workflow

if __name__ == "__main__":
    workflow = build_workflow()
    sys.exit(workflow.start(resume=True).status != "Completed")
"""


@pytest.mark.exhaustive(keep_every=6)
@pytest.mark.parametrize(
    ("path", "script", "module"),
    [
        ("weather.py", ["weather.py"], "weather"),
        ("weather.py", ["-m", "weather"], "weather"),
        ("pkg/jobs.py", ["-m", "pkg.jobs"], "pkg.jobs"),
    ],
    ids=["script", "module", "package"],
)
@pytest.mark.parametrize("first", ["script", "command"])
def test_values_of_a_scripts_classes_are_found_again(
    scripts: Scripts, tmp_path: Path, path: str, script: list[str], module: str, first: str
) -> None:
    """`python weather.py`, then `dotflow start --workflow weather:build_workflow --resume`, and in the other order."""
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(WEATHER)
    command = ("start", "--workflow", f"{module}:build_workflow", "--resume")

    with Script(script, tmp_path) if first == "script" else scripts.command(*command) as before:
        assert before.end().code == 1
    (tmp_path / "again").touch()
    with scripts.command(*command) if first == "script" else Script(script, tmp_path) as after:
        end = after.end()

    assert end.code == 0, end.err
    assert (tmp_path / "ran").read_text() == "extract "
    assert (
        f'"{"__main__/" if first == "script" else ""}{module}:Row"'
        in (tmp_path / "kept/weather.checkpoints/0.json").read_text()
    )
