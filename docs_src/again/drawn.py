"""Prints a diagram: a map, a branch, a cleanup and an added workflow."""

from dotflow import DotFlow, action


@action
def files() -> list[str]:
    return ["a.csv", "b.csv"]


@action
def read(file: str) -> int:
    return len(file)


@action
def report(rows: list[int]) -> int:
    return sum(rows)


@action
def complete(report: int) -> bool:
    return report > 3


@action
def publish(report: int) -> None: ...


@action
def warn() -> None: ...


@action
def close() -> None: ...


january = DotFlow()
january.task.add(files).add(read, each=files)

workflow = DotFlow()
workflow.task.add(january.task, name="january").add(report, needs={"rows": "january.read"}).add(complete)
workflow.task.add(publish, when=complete).add(warn, unless=complete).add(close, always=True)

if __name__ == "__main__":
    print(workflow.task.graph())
