from pathlib import Path

from dotflow import Config, DotFlow, NotYet, action
from dotflow.providers import StorageFile


@action
def reserve(order: str) -> str:
    return f"shelf {order[-1]}"  # stands for a reservation


@action(poll="30s", poll_timeout="3d")
def payment(order: str) -> float:
    paid = Path(f"{order}.paid")  # stands for the bank
    if not paid.exists():
        raise NotYet(f"order {order} is not paid")
    return float(paid.read_text())


@action
def ship(reserve: str, payment: float) -> str:
    return f"{payment:.2f} EUR: shipped from {reserve}"


workflow = DotFlow(Config(storage=StorageFile()), workflow_id="order", params={"order": "4711"})
workflow.task.add(reserve).add(payment, needs=[reserve]).add(ship)

if __name__ == "__main__":
    Path("4711.paid").write_text("120.50")  # the customer
    print(workflow.start(resume=True).value("ship"))
