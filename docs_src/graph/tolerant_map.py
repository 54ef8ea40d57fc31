"""keep_going with a number: a map completes though some of its items fail, and fails beyond that."""

from dotflow import DotFlow, action


@action
def days() -> list[int]:
    return list(range(1, 21))


@action
def rate(day: int) -> float:
    if day == 13:
        raise ConnectionError("the bank was closed")
    return 1 + day / 100


@action
def mean(rate: list[float]) -> str:
    return f"{sum(rate) / len(rate):.2f} from {len(rate)} days"


workflow = DotFlow()
workflow.task.add(days).add(rate, each=days, keep_going=0.95).add(mean)
run = workflow.start(mode="parallel")

print(run.status, run.value("mean"))
# Completed 1.10 from 19 days
print(run.task("rate").reason)
# failed, as keep_going allows: [12] 13 ConnectionError
