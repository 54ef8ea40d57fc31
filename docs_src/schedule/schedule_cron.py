"""A workflow on a schedule, here each second until it has run twice; Ctrl-C or SIGTERM would end it just as well."""

import sys

from dotflow import Config, DotFlow, Task, action
from dotflow.providers import SchedulerCron

try:
    scheduler = SchedulerCron("* * * * * *")  # "30 2 * * *" would be 02:30 each night
except ImportError as problem:
    print(problem)
    sys.exit()

reports: list[str] = []


@action
def send_report() -> None:
    reports.append("sent")
    print(f"report {len(reports)} was sent")


def end_after_two(tasks: list[Task]) -> None:
    if len(reports) == 2:
        scheduler.stop()


workflow = DotFlow(config=Config(scheduler=scheduler))
workflow.task.add(step=send_report)
workflow.schedule(on_success=end_after_two)  # returns when the schedule has ended
print("the schedule is over")
# report 1 was sent
# report 2 was sent
# the schedule is over
