"""Worker: what a session keeps of one of its worker processes."""

import selectors
from typing import TYPE_CHECKING

from dotflow.core.call import Call
from dotflow.core.outcome import Outcome
from dotflow.processes import failures
from dotflow.processes.channel import Message
from dotflow.processes.encoding import CallEncoder, WorkerCache
from dotflow.processes.start import WorkerProcess

if TYPE_CHECKING:
    from dotflow.capture.worker_output import WorkerOutput


class Worker:
    """A worker process and its current call."""

    def __init__(self, process: WorkerProcess, encoder: CallEncoder) -> None:
        self.process = process
        self.encoder = encoder
        self.output: WorkerOutput | None = None
        self.cpu = 0.0  # seconds that earlier attempts have used
        self.call: Call | None = None
        self.starting = True
        self.kill_at: float | None = None
        self.cache = WorkerCache()
        self.events = selectors.EVENT_READ


def load_outcome(call: Call, message: Message) -> Outcome:
    """Returns the outcome that a worker has sent."""
    try:
        outcome: Outcome = message.load()
    except Exception as error:  # unpickling runs the value's own methods
        return failures.not_read(call, error)
    return outcome
