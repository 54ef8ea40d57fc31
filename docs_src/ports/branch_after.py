from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

ORDERS = {"monday": [120, 80, 30], "sunday": []}


@action
def orders(day: str) -> list[int]:
    return ORDERS[day]


@action
def route(orders: list[int]) -> str:
    return "on_cluster" if len(orders) > 1000 else "in_memory"


@action
def in_memory(orders: list[int]) -> int:
    return sum(orders)


@action
def on_cluster(orders: list[int]) -> int:
    return sum(orders)  # stands for a job on a cluster


@action
def report(in_memory: int = 0, on_cluster: int = 0) -> str:
    return f"{in_memory or on_cluster} EUR"


workflow = DotFlow(Config(storage=StorageFile()), workflow_id="sales", params={"day": "monday"})
workflow.task.add(orders).add(route, when=orders)
workflow.task.add(in_memory, when={"route": "in_memory"}).add(on_cluster, when={"route": "on_cluster"})
workflow.task.add(report, needs=[route])

if __name__ == "__main__":
    for day in ORDERS:
        print(workflow.start(resume=True, params={"day": day}).task("report").value)
