"""A cleanup that always runs: after a failure, after Ctrl-C, and after a cancel, too."""

import shutil
from pathlib import Path
from tempfile import mkdtemp

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile


@action(checkpoint=False)  # a resume makes a new one
def folder() -> str:
    return mkdtemp(prefix="shop-")


@action
def convert(folder: str, source: Path) -> int:
    copy = Path(shutil.copy(source, folder))
    return len(copy.read_text().splitlines())


@action
def remove(folder: str) -> None:
    shutil.rmtree(folder)
    print("the folder is removed")


scratch = DotFlow(Config(storage=StorageFile()), workflow_id="scratch", params={"source": Path("src/shop/orders.csv")})
scratch.task.add(folder).add(convert).add(remove, always=True)
