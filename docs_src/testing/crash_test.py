"""A test that kills a workflow at every moment that matters, resumes it, and verifies that nothing was lost."""

import tempfile

from dotflow import Context, DotFlow, action
from dotflow.providers import StorageFile
from dotflow.testing import assert_survives_crashes


@action
def extract() -> list[int]:
    return [120, 80, 45]


@action
def add_up(previous_context: Context) -> int:
    return sum(previous_context.storage)


def build_workflow() -> DotFlow:
    workflow = DotFlow()
    workflow.task.add(step=[extract, add_up])
    return workflow


def test_orders_survive_crashes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = assert_survives_crashes(build_workflow, storage=StorageFile(path=folder))
    print(report)  # survived ... crashes, ... none of which had a checkpoint that counts


if __name__ == "__main__":
    test_orders_survive_crashes()
