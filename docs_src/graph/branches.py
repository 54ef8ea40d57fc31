"""Chooses between tasks by a value: `when` runs a task if the value is true, `unless` if it is not."""

from dotflow import DotFlow, action


@action
def score() -> float:
    return 0.87


@action
def good_enough(score: float, limit: float) -> bool:
    return score >= limit


@action
def deploy(score: float) -> str:
    return f"deployed, {score}"


@action
def tell(score: float) -> str:
    return f"only {score}"


@action
def report(deploy: str = "", tell: str = "") -> str:  # whichever ran
    return deploy or tell


workflow = DotFlow(params={"limit": 0.9})
workflow.task.add([score, good_enough])
workflow.task.add(deploy, when=good_enough).add(tell, unless=good_enough).add(report)
run = workflow.start()

print(run.status, run.value("report"))  # Completed only 0.87
print(run.task("deploy").status, run.task("deploy").reason)  # Skipped good_enough was False
