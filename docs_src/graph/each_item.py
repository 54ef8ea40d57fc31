"""Runs a step once for each item of a list, and passes on all results."""

from dotflow import Context, DotFlow, action


@action
def files() -> list[str]:
    return ["a.csv", "b.csv", "broken.csv", "c.csv"]


@action(retry=2, retry_delay=0)
def count(file: str) -> int:
    if file == "broken.csv":
        raise ValueError("no header")
    return len(file)


@action
def total(count: list[int], count_context: Context) -> str:
    return f"{sum(count)} from {len(count)} files, {len(count_context.errors)} failed"


workflow = DotFlow()
workflow.task.add(files)
workflow.task.add(count, each=files, max_parallel=20, keep_going=True)
workflow.task.add(total)
run = workflow.start(mode="parallel")

print(run.status, run.value("total"))
# Failed 15 from 3 files, 1 failed
for item in run.task("count").items:
    print(item.item, item.input, item.status, len(item.errors))
# 0 a.csv Completed 0
# 1 b.csv Completed 0
# 2 broken.csv Failed 2
# 3 c.csv Completed 0
