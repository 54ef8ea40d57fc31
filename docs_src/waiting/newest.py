"""Many edits of a page make one run, and a correction replaces the run before."""

import tempfile
from pathlib import Path

from dotflow import Config, Control, DotFlow, action, serve
from dotflow.providers import HistorySQLite, StorageFile

folder = tempfile.TemporaryDirectory()
files = Path(folder.name)


@action
def publish(text: str) -> str:
    return text.upper()


config = Config(history=HistorySQLite(files / "history.db"), storage=StorageFile(files / "values"))
page = DotFlow(config, workflow_id="page", params={"text": ""})
page.task.add(publish)


def edit(text: str) -> str:
    return page.submit({"text": text}, key="home", debounce="2m", within="10m")


def correct(text: str) -> str:
    return page.submit({"text": text}, key="home", replace=True)


if __name__ == "__main__":
    control = Control(page)
    edits = {edit("h"), edit("he"), edit("hello")}
    print(len(edits), control.run(*edits).params)  # 1 {'text': 'hello'}

    newest = correct("Hello!")
    print(control.run(*edits).state)  # Cancelled
    serve(page, once=True)
    print(page.value(newest, "publish"))  # HELLO!
    folder.cleanup()
