"""Sequential, the default: the tasks run in order, in the calling thread, and start() returns when all is done."""

import os

from dotflow import DotFlow, action


@action
def extract() -> int:
    print("extract")
    return os.getpid()


@action
def load() -> int:
    print("load")
    return os.getpid()


workflow = DotFlow()
workflow.task.add(step=[extract, load])
run = workflow.start(mode="sequential")
print("done")
# extract
# load
# done

print(workflow.result_storage() == [os.getpid(), os.getpid()])  # True
