"""Deploys only if the tests have passed, and reports the end in any case."""

from dotflow import DotFlow, action


@action
def build() -> str:
    return "shop-7"


@action
def tests(build: str) -> None:
    raise AssertionError(f"2 of 40 tests of {build} failed")


@action
def deploy(build: str) -> None:
    print(f"{build} is online")


@action
def tell() -> None:
    print("the night is over")


workflow = DotFlow()
workflow.task.add([build, tests]).add(deploy, needs=[tests]).add(tell, after=[deploy])
run = workflow.start(keep_going=True)

print(run.status, "-", run["deploy"].status, run["deploy"].reason)
# the night is over
# Failed - Skipped it needs 'tests', which failed
