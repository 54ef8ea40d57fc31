"""Writes to Python's own logging, as the rest of the program does."""

import logging
import sys

from dotflow import Config, DotFlow, Task, action
from dotflow.abc.log import Log


class LogPython(Log):
    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger

    def info(self, task: Task) -> None:
        self.logger.info("%s of %s: %s", task.name, task.workflow_id, task.status)

    def error(self, task: Task) -> None:
        error = task.errors[-1]
        text = f"{task.status}, attempt {error.attempt}: {error.exception}: {error.message}"
        self.logger.error("%s of %s: %s", task.name, task.workflow_id, text)
        self.logger.debug("%s", error.traceback)

    def report(self, message: str) -> None:
        self.logger.warning("%s", message)


@action(retry=2, retry_delay=0)
def flaky() -> str:
    attempts.append(1)
    if len(attempts) == 1:
        raise ConnectionError("not yet")
    return "here"


attempts: list[int] = []

if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level="INFO", format="%(levelname)s %(name)s: %(message)s")
    workflow = DotFlow(Config(log=LogPython(logging.getLogger("pipelines"))), workflow_id="nightly")
    workflow.task.add(flaky)
    workflow.start()
