"""TypeDrawing: the languages of diagrams."""

from enum import StrEnum


class TypeDrawing(StrEnum):
    """The languages of diagrams."""

    MERMAID = "mermaid"
    DOT = "dot"
