"""Values in files: a readable JSON file for each step, from which it comes back with its types, a date as a date."""

import json
from datetime import date
from pathlib import Path

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import StorageFile


@action
def extract() -> dict[str, object]:
    return {"day": date(2026, 3, 1), "amounts": [120, 80]}


@action
def add_up(previous_context: Context) -> int:
    return sum(previous_context.storage["amounts"])


workflow = DotFlow(config=Config(storage=StorageFile(path=".output")), workflow_id="storage-file")
workflow.task.add(step=[extract, add_up])
workflow.start()

for path in sorted(Path(".output/storage-file.checkpoints").glob("*.json")):
    print(path, json.loads(path.read_text())["value"])
# .output/storage-file.checkpoints/0.json {'day': {'$date': '2026-03-01'}, 'amounts': [120, 80]}
# .output/storage-file.checkpoints/1.json 200
print(workflow.result_storage()[0])  # {'day': datetime.date(2026, 3, 1), 'amounts': [120, 80]}
