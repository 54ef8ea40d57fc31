"""The enums of the public API. They compare and print as their string values."""

from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.core.types.storage import TypeStorage

__all__ = [
    "TypeAttemptState",
    "TypeCallState",
    "TypeCapture",
    "TypeExecution",
    "TypeOverlap",
    "TypeRunState",
    "TypeStatus",
    "TypeStorage",
]
