"""Config says what a workflow works with: where values are kept, what is written, where steps run, who is told."""

from pathlib import Path

from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorThread, LogDefault, NotifyDefault, StorageFile

config = Config(
    storage=StorageFile(path=".output"),
    log=LogDefault(output="file", path=".output/config.log", level="INFO"),
    executor=ExecutorThread(max_workers=4),
    notify=NotifyDefault(),  # tells nobody
)


@action
def extract() -> list[int]:
    return [3, 5, 8]


workflow = DotFlow(config=config, workflow_id="config")
workflow.task.add(step=extract)
workflow.start()

print(Path(".output/config.log").read_text().splitlines()[-1])
# ... INFO    config run ... task 0 extract: Completed in ... s
print(Path(".output/config.checkpoints/0.json").exists())  # True
