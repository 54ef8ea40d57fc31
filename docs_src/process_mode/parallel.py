"""Parallel: all tasks at the same time, each in a process. No `if __name__ == "__main__"` is needed for it."""

import os
import time

from dotflow import Context, DotFlow, action


@action
def resize(initial_context: Context) -> tuple[str, int]:
    time.sleep(0.5)  # stands for work
    return f"small-{initial_context.storage}", os.getpid()


workflow = DotFlow()
for photo in ("beach.jpg", "forest.jpg", "city.jpg", "lake.jpg"):
    workflow.task.add(step=resize, initial_context=photo)

began = time.monotonic()
workflow.start(mode="parallel")
print(f"4 tasks of 0.5 s took {time.monotonic() - began:.1f} s")  # 4 tasks of 0.5 s took ... s

photos, processes = zip(*workflow.result_storage(), strict=True)  # in the order of add
print(photos)  # ('small-beach.jpg', 'small-forest.jpg', 'small-city.jpg', 'small-lake.jpg')
print(os.getpid() in processes)  # False
