"""A flight is of no use without a hotel: as a branch of the graph, and as `try` in a durable step."""

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile


class SoldOut(Exception):
    """There is no room."""


@action
def book_flight() -> str:
    return "flight LH 1"


@action
def book_hotel() -> str:
    raise SoldOut("no room in May")


@action
def cancel(book_flight: str) -> str:
    return f"cancelled {book_flight}"


as_graph = DotFlow(Config(storage=StorageFile(path=".trips")), workflow_id="trip_as_graph")
as_graph.task.add(book_flight)
as_graph.task.add(book_hotel, fallback={SoldOut: cancel})
print(as_graph.start().value("book_hotel"))
# cancelled flight LH 1


@action(durable=True)
def trip() -> str:
    flight = book_flight()
    try:
        return book_hotel()
    except SoldOut:
        return cancel(flight)


as_step = DotFlow(Config(storage=StorageFile(path=".trips")), workflow_id="trip_as_step")
as_step.task.add(trip)
print(as_step.start().value("trip"))
# cancelled flight LH 1
