"""The extras: which there are, and what each is for. Whoever adds one to pyproject.toml adds a line here."""

import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent

#: For whoever works on dotflow; nothing in it asks for them.
OURS: Final = {"bench", "check", "docs", "test"}

#: Extra -> what takes it and nothing else. Without the extra it raises, and names what to install.
USES: Final = {
    "arrow": "from dotflow.codec import decode; decode(TABLE)",
    "aws": "from dotflow.providers import StorageS3; StorageS3('bucket')",
    "dask": "from dotflow.providers import ExecutorDask; ExecutorDask()",
    "gcp": "from dotflow.providers import StorageGCS; StorageGCS('bucket')",
    "notify": "from dotflow.providers import NotifyApprise; NotifyApprise('json://localhost')",
    "otel": "from dotflow.providers import TracerOpenTelemetry; TracerOpenTelemetry()",
    "postgres": "from dotflow.providers import StoragePostgres; StoragePostgres('dbname=pipelines')",
    "ray": "from dotflow.providers import ExecutorRay; ExecutorRay()",
    "scheduler": "from dotflow.providers import SchedulerCron; SchedulerCron('@daily', timezone='Europe/Berlin')",
}

#: An Arrow table with one column, named a, and one row, which is 1; as a checkpoint has it.
TABLE: Final = (
    '{"$arrow": {"kind": "Table", "ipc": "/////3gAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAEAAAA'
    "UAAAAEAAUAAgABgAHAAwAAAAQABAAAAAAAAECEAAAABwAAAAEAAAAAAAAAAEAAABhAAAACAAMAAgABwAIAAAAAAAAAUAAAAD/////iAAAABQAAAA"
    "AAAAADAAWAAYABQAIAAwADAAAAAADBAAYAAAACAAAAAAAAAAAAAoAGAAMAAQACAAKAAAAPAAAABAAAAABAAAAAAAAAAAAAAACAAAAAAAAAAAAAAA"
    'AAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAP////8AAAAA"}}'
)


def extras() -> list[str]:
    """Those that are for users, in order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return sorted(set(project["optional-dependencies"]) - OURS)


def program_for(extra: str) -> str:
    """A program that takes the extra."""
    return USES[extra].replace("TABLE", repr(TABLE))


def asked_for(extra: str) -> str:
    """What the error has to name where the extra is missing; in quotes, without which zsh reads it as a pattern."""
    return f"pip install 'dotflow[{extra}]'"
