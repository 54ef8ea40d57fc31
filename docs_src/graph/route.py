"""Chooses one of several ways by a text, and a fallback where the best one fails."""

from dotflow import DotFlow, action


@action
def route(size: int) -> str:
    return "cluster" if size > 1_000_000 else "laptop"


@action
def on_laptop(size: int) -> str:
    return f"{size} rows on this machine"


@action(retry=2, retry_delay=0)
def on_cluster(size: int) -> str:
    raise ConnectionError("the cluster is away")


@action
def in_pieces(size: int) -> str:
    return f"{size} rows in pieces"


workflow = DotFlow(params={"size": 10})
workflow.task.add(route)
workflow.task.add(on_laptop, when={"route": "laptop"})
workflow.task.add(on_cluster, when={"route": "cluster"}, fallback=in_pieces)

for size in (10, 5_000_000):
    run = workflow.start(params={"size": size})
    print(run.status, [task.value for task in run.tasks[1:]])
    print([error.message for error in run.task("on_cluster").errors])
# Completed ['10 rows on this machine', None]
# []
# Completed [None, '5000000 rows in pieces']
# ['the cluster is away', 'the cluster is away']
