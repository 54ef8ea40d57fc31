"""What the agents pay for, whichever engine runs them. Each call leaves a line; the third search asks to be killed.

Standard library only: it runs in any venv. The folder is the program's own.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Final

TURNS: Final = 4  # answers until it is done
LEDGER: Final = Path("ledger")
SAVING: Final = 0.5  # seconds for engines that save beside the run, before all is killed


async def read(about: str) -> str:
    """The text of a source. *prices* takes longer than *rules*."""
    await asyncio.sleep(0.05 if about == "rules" else 0.1)
    return pay("read", about, f"the {about}")


async def notify(about: str) -> str:
    """Writes to the user."""
    return pay("notify", about, "sent")


async def ask(messages: list[str]) -> str:
    """The model's answer, which costs: no two are equal. It is done when it was asked with enough messages."""
    done = "DONE " if sum(text.startswith("found") for text in messages) == TURNS - 1 else ""
    return pay("ask", messages, f"{done}an answer to {digest(messages)}")


async def search(query: str) -> str:
    """What a search finds. In the first life the third one is where all processes are killed."""
    if len(ledger("search")) == 2 and not Path("killed").exists():
        await asyncio.sleep(SAVING)
        Path("kill-me").touch()
        await asyncio.sleep(60)
    return pay("search", query, f"found for {digest(query)}")


def pay(name: str, argument: object, value: str) -> str:
    """Adds a line to the ledger, and returns the value with the line's number, so that no two values are equal."""
    value = f"{value} ({len(ledger()) + 1})"
    with LEDGER.open("a") as file:
        file.write(json.dumps([name, argument, value]) + "\n")
    return value


def ledger(name: str | None = None) -> list[tuple[str, object, str]]:
    """The calls that were made, or those of this name."""
    lines = [json.loads(line) for line in LEDGER.read_text().splitlines()] if LEDGER.exists() else []
    return [(found, argument, value) for found, argument, value in lines if name in (None, found)]


def digest(value: object) -> str:
    """Six letters that stand for a value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:6]


def is_first_life() -> bool:
    """Whether the program runs for the first time: then it starts the agent, else it goes on with it."""
    return sys.argv[1] == "first"


def returned(value: object) -> None:
    """Keeps what the agent has returned."""
    Path("returned").write_text(json.dumps(value))
