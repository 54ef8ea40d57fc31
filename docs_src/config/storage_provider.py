"""A storage of your own has three methods, and resume works with it. This one keeps values in a shelf of Python's."""

import shelve
import tempfile
from pathlib import Path

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.abc.storage import Storage


class StorageShelf(Storage):
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def post(self, key: str, context: Context) -> None:
        with shelve.open(self.path) as shelf:
            shelf[key] = context

    def get(self, key: str) -> Context:
        with shelve.open(self.path) as shelf:
            found: Context = shelf.get(key, Context())
            return found

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}/{task.task_id}"


@action
def extract() -> list[int]:
    print("extract")
    return [3, 5, 8]


with tempfile.TemporaryDirectory() as folder:
    storage = StorageShelf(Path(folder, "values"))
    workflow = DotFlow(config=Config(storage=storage), workflow_id="orders")
    workflow.task.add(step=extract)
    workflow.start()
    workflow.start(resume=True)  # runs nothing: the value is there
    print(storage.get("orders/0").storage)
    # extract
    # [3, 5, 8]
