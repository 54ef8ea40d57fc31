"""The extras of pyproject.toml, and a program for each that needs it."""

import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent

#: Extra -> a program that needs this extra and no other. Without it, the program's error names what to install.
USES: Final = {
    "agents": "from dotflow.agents import DotFlowDurability; DotFlowDurability()",
    "arrow": "from dotflow.codec import decode; decode(TABLE)",
    "aws": "from dotflow.providers import StorageS3; StorageS3('bucket')",
    "dask": "from dotflow.providers import ExecutorDask; ExecutorDask()",
    "gcp": "from dotflow.providers import StorageGCS; StorageGCS('bucket')",
    "notify": "from dotflow.providers import NotifyApprise; NotifyApprise('json://localhost')",
    "otel": "from dotflow.providers import TracerOpenTelemetry; TracerOpenTelemetry()",
    "postgres": "from dotflow.providers import StoragePostgres; StoragePostgres('dbname=pipelines')",
    "ray": "from dotflow.providers import ExecutorRay; ExecutorRay()",
    "scheduler": "from dotflow.providers import SchedulerCron; SchedulerCron('@daily', timezone='Europe/Berlin')",
    "ui": "from dotflow.providers import HistorySQLite; from dotflow.ui import app; app(HistorySQLite())",
}

#: An Arrow table in a checkpoint: one column, named a, and one row, which is 1.
TABLE: Final = (
    '{"$arrow": {"kind": "Table", "ipc": "/////3gAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAEAAAA'
    "UAAAAEAAUAAgABgAHAAwAAAAQABAAAAAAAAECEAAAABwAAAAEAAAAAAAAAAEAAABhAAAACAAMAAgABwAIAAAAAAAAAUAAAAD/////iAAAABQAAAA"
    "AAAAADAAWAAYABQAIAAwADAAAAAADBAAYAAAACAAAAAAAAAAAAAoAGAAMAAQACAAKAAAAPAAAABAAAAABAAAAAAAAAAAAAAACAAAAAAAAAAAAAAA"
    'AAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAP////8AAAAA"}}'
)


def extras() -> list[str]:
    """Returns their names, sorted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return sorted(project["optional-dependencies"])


def program_for(extra: str) -> str:
    """Returns the program that needs *extra*."""
    return USES[extra].replace("TABLE", repr(TABLE))


def install_command(extra: str) -> str:
    """Returns the command that the error has to name; in quotes, without which zsh reads it as a pattern."""
    return f"pip install 'dotflow[{extra}]'"
