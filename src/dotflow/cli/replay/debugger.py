"""The debugger of `dotflow replay --pdb`."""

import pdb
from types import FrameType, TracebackType
from typing import Final

from dotflow.core.failure import CALLERS
from dotflow.core.own_code import INSTALLED

STDLIB: Final = pdb.__file__.removesuffix("pdb.py")


def debug(error: BaseException) -> None:
    """Opens the debugger where the user's own code raised an error, until the user leaves it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(CALLERS):
        trace = trace.tb_next
    debugger = StepDebugger()
    debugger.reset()
    debugger.interaction(None, trace)


class StepDebugger(pdb.Pdb):
    """pdb, which begins in the last frame of the user's own code. `down` leads into the libraries that it called."""

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        stack, index = super().get_stack(f, t)
        own = [number for number, (frame, _) in enumerate(stack) if _is_own(frame.f_code.co_filename)]
        return stack, own[-1] if own else index


def _is_own(file: str) -> bool:
    return not file.startswith((*CALLERS, STDLIB, "<")) and not any(folder in file for folder in INSTALLED)
