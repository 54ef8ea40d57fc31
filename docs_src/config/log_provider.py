"""A log of your own has two methods: `error` is told of failed attempts, `info` of everything else."""

from dotflow import Config, DotFlow, Task, action
from dotflow.abc.log import Log


class LogPrint(Log):
    def info(self, task: Task) -> None:
        print(f"{task.name}: {task.status}")

    def error(self, task: Task) -> None:
        print(f"{task.name}: {task.status}, {task.errors[-1].message}")


@action(retry=2, retry_delay=0)
def load() -> None:
    raise OSError("the disk is full")


workflow = DotFlow(config=Config(log=LogPrint()))
workflow.task.add(step=load)
run = workflow.start()
print(run.status)
# load: In progress
# load: Retry, the disk is full
# load: In progress
# load: Failed, the disk is full
# Failed
