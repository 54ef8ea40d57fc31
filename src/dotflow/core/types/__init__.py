"""The words that users may say: string enums that compare and print as their value."""

from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.status import TypeStatus
from dotflow.core.types.storage import TypeStorage

__all__ = ["TypeExecution", "TypeOverlap", "TypeStatus", "TypeStorage"]
