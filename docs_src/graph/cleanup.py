"""Cleans up after success and failure, if there is something to clean up."""

from dotflow import DotFlow, action


@action(checkpoint=False)
def cluster() -> str:
    print("cluster is up")
    return "cluster-1"


@action
def train(cluster: str, data: str) -> str:
    if data == "broken":
        raise ValueError("no such data")
    return f"model of {data}"


@action
def teardown(cluster: str) -> None:
    print(f"{cluster} is down")


workflow = DotFlow(params={"data": "sales"})
workflow.task.add([cluster, train]).add(teardown, always=True)

for data in ("sales", "broken"):
    run = workflow.start(params={"data": data})
    print(run.status)
# cluster is up
# cluster-1 is down
# Completed
# cluster is up
# cluster-1 is down
# Failed
