"""Two runs of one workflow in two threads: saving and voiding take turns."""

import threading

from dotflow import Context
from dotflow.providers import StorageDefault
from tests.unit.test_checkpoint import TASKS, checkpoints, value


def test_a_value_on_its_way_does_not_land_after_a_new_beginning() -> None:
    """Saving and voiding take turns: else the older run's value would be resumed as the newer one's."""
    begun, go = threading.Event(), threading.Event()

    class StorageSlow(StorageDefault):
        def post(self, key: str, context: Context) -> None:
            begun.set()
            go.wait()
            super().post(key, context)

    storage = StorageSlow()
    old, new = checkpoints(storage), checkpoints(storage)
    old.open(TASKS, resume=False)
    saving = threading.Thread(target=old.save, args=(TASKS[0], value("old")))
    saving.start()
    begun.wait()
    starting = threading.Thread(target=new.open, args=(TASKS,), kwargs={"resume": False})
    starting.start()
    go.set()
    saving.join()
    starting.join()

    assert list(storage.list_keys()) == []
