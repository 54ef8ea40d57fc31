"""How a workflow runs."""

from enum import StrEnum


class TypeExecution(StrEnum):
    """The modes of `start(mode=...)`."""

    SEQUENTIAL = "sequential"
    BACKGROUND = "background"
    PARALLEL = "parallel"
