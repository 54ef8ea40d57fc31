"""Uses a workflow inside of another one, twice, each time with other parameters."""

from dotflow import DotFlow, action


@action
def read(path: str) -> list[str]:
    return [f"{path} {number}" for number in (1, 2)]


@action
def clean(read: list[str]) -> list[str]:
    return [row.upper() for row in read]


@action
def merge(left: list[str], right: list[str]) -> list[str]:
    return left + right


source = DotFlow(params={"path": ...})
source.task.add([read, clean])

workflow = DotFlow(params={"old": "old.csv", "new": "new.csv"})
workflow.task.add(source, name="left", needs={"path": "old"})
workflow.task.add(source, name="right", needs={"path": "new"})
workflow.task.add(merge)
run = workflow.start(mode="parallel")

print([task.name for task in run.tasks])
print(run.value("merge"))
# ['left.read', 'left.clean', 'right.read', 'right.clean', 'merge']
# ['OLD.CSV 1', 'OLD.CSV 2', 'NEW.CSV 1', 'NEW.CSV 2']
