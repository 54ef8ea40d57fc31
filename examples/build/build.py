"""Compiles, links and tests a small C program, as make would: what is finished is not made again.

python build.py
"""

from pathlib import Path

from dotflow import Config, DotFlow, shell
from dotflow.providers import StorageFile

HEADER = Path("src/words.h")
SOURCES = [Path("src/count.c"), Path("src/words.c")]

compile_source = shell(
    """
    echo compiling {source} >&2
    cc -c -O1 -Wall -Werror -include {header} -o {object} {source}
    """,
    name="compile_source",
    outputs={"object": "build/{source.stem}.o"},
    value="object",
)
link = shell("cc -o {program} {compile_source}", name="link", outputs={"program": "build/count"}, value="program")
check = shell("printf 'three short words\n' | {link}", name="check", value="text", timeout=10)

workflow = DotFlow(Config(storage=StorageFile()), workflow_id="build", params={"header": HEADER})
workflow.task.add(compile_source, each={"source": SOURCES}, max_parallel=2).add([link, check])

if __name__ == "__main__":
    run = workflow.start(mode="parallel", resume=True)
    run.raise_for_failure()
    print(run.value(check))
