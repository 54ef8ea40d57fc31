from collections import Counter

from dotflow import DotFlow, action

FILES = {"a.txt": "red green", "b.txt": "red", "c.txt": None, "d.txt": "blue red"}


@action
def names() -> list[str]:
    return sorted(FILES)


@action(retry=2, retry_delay=0)
def count(name: str) -> Counter[str]:
    text = FILES[name]
    if text is None:
        raise OSError(f"{name} can't be read")
    return Counter(text.split())


@action
def total(count: list[Counter[str]]) -> dict[str, int]:
    return dict(sum(count, Counter[str]()))


workflow = DotFlow(name="words")
workflow.task.add(names).add(count, each=names, keep_going=True).add(total)
run = workflow.start(mode="parallel")
failed = [item.input for item in run.task("count").items if item.error]

print(run.status, run.value("total"), "failed:", failed)
