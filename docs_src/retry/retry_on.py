"""retry_on: what may go away is repeated, when the service says; what will not go away fails at once."""

from dotflow import DotFlow, action


class Refused(Exception):
    """What a service answers."""

    def __init__(self, code: int, retry_after: float = 0) -> None:
        super().__init__(f"HTTP {code}")
        self.code = code
        self.retry_after = retry_after


answers = [Refused(503, retry_after=0.01), Refused(404)]


def is_busy(error: BaseException) -> bool | float:
    if isinstance(error, Refused) and error.code == 503:
        return error.retry_after
    return isinstance(error, ConnectionError)


@action(retry=5, retry_delay="2s", max_delay="1m", jitter=0.5, retry_on=is_busy)
def ask_shop() -> str:
    raise answers.pop(0)


workflow = DotFlow()
workflow.task.add(step=ask_shop)
task = workflow.start().tasks[0]

print(task.status, [error.message for error in task.errors])  # Failed ['HTTP 503', 'HTTP 404']
