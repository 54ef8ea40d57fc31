"""Keeps values as compressed files, one for each task."""

import gzip
import os
import threading
from hashlib import sha256
from pathlib import Path

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.abc.storage import Storage
from dotflow.codec import decode, encode
from dotflow.errors import CheckpointUnreadable


class StorageGzip(Storage):
    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path)

    def post(self, key: str, context: Context) -> None:
        data = gzip.compress(encode(context).encode())  # encode refuses what would not come back as it was
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self._place(key)
        partial = place.with_name(f"{place.name}.{os.getpid()}.{threading.get_ident()}.partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)  # the old value or the new one, never half of one

    def get(self, key: str) -> Context:
        place = self._place(key)
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            return Context()  # nothing there is no error
        try:
            context = decode(gzip.decompress(data))
        except (OSError, EOFError, ValueError) as error:
            raise CheckpointUnreadable(f"it is cut off or damaged: {error}", str(place)) from error
        assert isinstance(context, Context)
        return context

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}/{task.task_id}"  # the same in every run

    def delete(self, key: str) -> None:  # better than the default, which saves an empty Context
        self._place(key).unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        """A key may be any text, and a file's name may not."""
        return self.folder / f"{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}.json.gz"


@action
def extract() -> dict[str, list[int]]:
    print("extract runs")
    return {"numbers": list(range(10_000))}


@action
def total(previous_context: Context) -> int:
    return sum(previous_context.storage["numbers"])


if __name__ == "__main__":
    workflow = DotFlow(Config(storage=StorageGzip("values")), workflow_id="totals")
    workflow.task.add([extract, total])

    print(workflow.start().status, workflow.result_storage()[1])
    print(workflow.start(resume=True).status, workflow.result_storage()[1])
    print(len(list(Path("values").iterdir())), "files")
