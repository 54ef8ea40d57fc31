from collections import Counter

from dotflow import Context, DotFlow, action

FILES = {"a.txt": "red green", "b.txt": "red", "c.txt": None, "d.txt": "blue red"}


@action
def names() -> list[str]:
    return sorted(FILES)


@action(retry=2, retry_delay=0)
def count(initial_context: Context) -> Counter[str]:
    text = FILES[initial_context.storage]
    if text is None:
        raise OSError(f"{initial_context.storage} can't be read")
    return Counter(text.split())


@action
def total(initial_context: Context) -> dict[str, int]:
    return dict(sum(initial_context.storage, Counter[str]()))


first = DotFlow(name="names")
first.task.add(names)
first.start()

second = DotFlow(name="count")  # built from the first one's value
for name in first.result_storage()[0]:
    second.task.add(count, initial_context=name)
run = second.start(mode="parallel", keep_going=True)
failed = [task.initial_context.storage for task in run.tasks if task.error]

third = DotFlow(name="total")
third.task.add(total, initial_context=[value for value in second.result_storage() if value is not None])
third.start()

print(run.status, third.result_storage()[0], "failed:", failed)
