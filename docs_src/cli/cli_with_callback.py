"""A step and a callback, which is called when the step has ended:

dotflow start --step docs_src.cli.cli_with_callback.simple_step --callback docs_src.cli.cli_with_callback.callback
"""

from dotflow import Task, action


def callback(task: Task) -> None:
    print(f"callback: {task.name} is {task.status}")


@action
def simple_step() -> str:
    return "ok"


if __name__ == "__main__":
    print(__doc__)
