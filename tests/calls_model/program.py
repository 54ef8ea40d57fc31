"""Random programs with a durable step, and their edits."""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

#: How much may be nested.
DEPTH: Final = 3

#: The kinds of edits.
EDITS: Final = ("insert", "delete", "swap", "wrap", "pull", "argument", "action", "fix")

HEAD: Final = """\
import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dotflow import action
from tests.calls_model.world import W, acall, Bug, call, Client, Fail, fresh, limited, pick, plain, spoil, task, thread

CAUGHT = (Fail, OSError)
"""


@dataclass
class Statement:
    """A statement of a body.

    Attributes:
        kind: Which.
        data: What it consists of.
        blocks: The statements in it.
    """

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    blocks: list[list["Statement"]] = field(default_factory=list)


@dataclass
class Function:
    """A function of a program.

    Attributes:
        kind: "leaf" for an action with an effect; "sub" for a durable one; "helper" for a plain function; "agent".
    """

    name: str
    kind: str
    is_async: bool
    options: str = ""
    form: str = "x"  # of a leaf: which parameters it has
    version: int = 1
    body: list[Statement] = field(default_factory=list)
    calls: str = ""  # of a leaf: another one, as a plain call


#: The parameters of leaves, and what they note.
FORMS: Final = {
    "x": ("x", '{"x": x}'),
    "y": ("x, y=1", '{"x": x, "y": y}'),
    "tag": ("x, *, tag='t'", '{"x": x, "tag": tag}'),
    "rest": ("x, **rest", '{"x": x, "rest": rest}'),
    "client": ("x, client=None", '{"x": x}'),
    "rows": ("rows", '{"rows": rows}'),
}


class Program:
    """A random program, and its edits.

    Args:
        seed: Of the first text and of all edits.
    """

    def __init__(self, seed: object) -> None:
        self.random = pick = random.Random(f"{seed}")
        self.is_async = pick.random() < 0.5
        self.functions: dict[str, Function] = {}
        self.helpers = 0
        for number in range(pick.randint(2, 4)):
            self._add_leaf(f"f{number}", self.is_async and pick.random() < 0.6)
        self._add_leaf("f9", False)  # one for threads
        if pick.random() < 0.12:
            self._add_leaf("m0", False, "rows")
        if pick.random() < 0.15:
            self._add_leaf("u0", False)
            self.functions["u0"].options = "checkpoint=False"
        for number in range(pick.choice((0, 1, 1, 2))):
            self._add_body(f"g{number}", "sub", self.is_async and pick.random() < 0.7)
        for number in range(pick.choice((0, 1, 1))):
            self._add_body(f"h{number}", "helper", self.is_async and pick.random() < 0.7)
            self.helpers = number + 1
        self._add_body("agent", "agent", self.is_async)
        self.functions["agent"].options = f"retry={pick.choice((1, 2, 3))}, retry_delay=0"

    def _add_leaf(self, name: str, is_async: bool, form: str = "") -> None:
        pick = self.random
        leaf = Function(name, "leaf", is_async, form=form or pick.choice(("x", "x", "y", "tag", "rest", "client")))
        options = ["retry=2, retry_delay=0"] if pick.random() < 0.2 else []
        if leaf.form == "client":
            options.append("key=['x']")
        leaf.options = ", ".join(options)
        others = [one.name for one in self.functions.values() if one.kind == "leaf" and one.form in "xy"]
        if others and not is_async and pick.random() < 0.15:
            other = self.functions[pick.choice(others)]
            leaf.calls = "" if other.is_async or other.calls else other.name
        self.functions[name] = leaf

    def _add_body(self, name: str, kind: str, is_async: bool) -> None:
        function = Function(name, kind, is_async)
        if kind == "sub" and self.random.random() < 0.2:
            function.options = "retry=2, retry_delay=0"
        function.body = self._block(
            function, 1 if kind == "agent" else 2, self.random.randint(2, 5 if kind == "agent" else 3)
        )
        self.functions[name] = function

    # Statements

    def _block(self, owner: Function, depth: int, count: int) -> list[Statement]:
        return [self._statement(owner, depth) for _ in range(count)]

    def _statement(self, owner: Function, depth: int) -> Statement:
        pick = self.random
        kinds = ["call"] * 6 + ["call many"] + ["spoil", "bug", "return"][: pick.choice((0, 0, 0, 1, 2, 3))]
        if depth < DEPTH:
            kinds += ["loop", "if", "try", "try", "try", "collect", "finally"]
        if owner.is_async:
            kinds += ["gather", "gather", "semaphore", "group", "later", "thread"]
        elif owner.kind != "helper":
            kinds += ["pool"]
        kind = pick.choice(kinds)
        statement = Statement(kind)
        data = statement.data
        match kind:
            case "call":
                data.update(self._call(owner))
            case "loop":
                data["count"] = pick.randint(1, 3)
                statement.blocks = [self._block(owner, depth + 1, pick.randint(1, 2))]
            case "if":
                data["equals"] = pick.randrange(3)
                statement.blocks = [self._block(owner, depth + 1, pick.randint(1, 2)) for _ in range(2)]
            case "try":
                data["then"] = pick.choice(("", "", "", "raise", "bug from", "bug", "note"))
                data["caught"] = pick.choice(("CAUGHT", "CAUGHT", "Exception", "BaseException"))
                statement.blocks = [
                    self._block(owner, depth + 1, pick.randint(1, 2)),
                    self._block(owner, depth + 1, pick.choice((0, 1, 1))),
                ]
            case "finally":
                statement.blocks = [self._block(owner, depth + 1, 1), self._block(owner, DEPTH, 1)]
            case "collect":
                data.update(
                    self._call(owner, "arm"),
                    count=pick.randint(2, 4),
                    raises=pick.choice(("group", "bug", "first", "")),
                )
            case "bug" | "return":
                data["equals"] = pick.randrange(4)
            case "gather" | "group" | "semaphore":
                data["arms"] = [self._call(owner, "arm") for _ in range(pick.randint(2, 4))]
                data["returns"] = pick.random() < 0.5
            case "later":
                data.update(self._call(owner, "async"))
            case "thread" | "pool" | "call many":
                data.update(self._call(owner, "sync"), count=pick.randint(2, 4), bare=pick.random() < 0.3)
        return statement

    def _call(self, owner: Function, want: str = "") -> dict[str, Any]:
        pick = self.random
        known = [
            one
            for one in self.functions.values()
            if (owner.is_async or not one.is_async)
            and (one.kind == "leaf" or (want in ("", "arm") and (owner.kind == "agent" or one.name < owner.name)))
            and one.kind != "agent"
            and (want != "sync" or not one.is_async)
            and (want != "async" or one.is_async)
            and (want != "arm" or one.is_async or one.kind == "leaf")
            and (one.form != "rows" or (not want and pick.random() < 0.2))
        ]
        if not known:
            known = [self.functions["f9"]]
        function = pick.choice(known)
        return {
            "name": function.name,
            "argument": pick.choice(("0", "1", "2", "x", "pick(out)", "pick(out)", "fresh(out)", "i")),
            "more": pick.randrange(4),
        }

    # Text

    def texts(self) -> dict[str, str]:
        """Returns the text of each function."""
        return {name: self._text(function) for name, function in self.functions.items()}

    def text(self) -> str:
        """Returns the text of the module."""
        return HEAD + "\n\n" + "\n\n\n".join(self.texts().values()) + "\n"

    def codes(self) -> dict[str, str]:
        """Returns what stands for the code of each function, with those that it uses."""
        texts = self.texts()
        found = {}
        for name in texts:
            reached: list[str] = [name]
            for one in reached:
                reached += [other for other in re.findall(r"\b[fghmu]\d+\b", texts[one]) if other not in reached]
            found[name] = hashlib.blake2b("".join(texts[one] for one in sorted(reached)).encode()).hexdigest()[:12]
        return found

    def _text(self, function: Function) -> str:
        define = f"{'async ' if function.is_async else ''}def {function.name}"
        if function.kind == "leaf":
            return self._leaf_text(function, define)
        body = ["    i, out = 0, []", *self._lines(function, function.body, 1), "    return out"]
        if function.kind == "helper":
            return "\n".join([f"{define}(s, x):", *body])
        lines = [
            f"{define}_body(s, x):",
            *body,
            "",
            "",
            f"@action(durable=True{function.options and ', '}{function.options})",
            f"{define}(x):",
            f'    s = W.body("{function.name}")',
            "    try:",
            f"        out = {'await ' if function.is_async else ''}{function.name}_body(s, x)",
            "    except BaseException as error:",
            "        W.raised(s, error)",
            "        raise",
            "    return W.end(s, out)",
        ]
        return "\n".join(lines)

    def _leaf_text(self, leaf: Function, define: str) -> str:
        parameters, noted = FORMS[leaf.form]
        kind = "await W.effect_async" if leaf.is_async else "W.effect"
        named = leaf.form in ("x", "tag", "y")
        if named:
            parameters += ", idempotency_key=None" if "*" in parameters else ", *, idempotency_key=None"
        key = "idempotency_key" if named else "None"
        lines = [f"@action({leaf.options})" if leaf.options else "@action", f"{define}({parameters}):"]
        if leaf.calls:
            lines += ["    try:", f"        {leaf.calls}(x)", "    except CAUGHT:", "        pass"]
        if leaf.form == "rows":
            lines += [f'    value = {kind}("{leaf.name}", {leaf.version}, {noted}, {key})', "    rows.append(1)"]
            lines += ["    return value"]
        else:
            lines.append(f'    return {kind}("{leaf.name}", {leaf.version}, {noted}, {key})')
        return "\n".join(lines)

    def _made(self, owner: Function, call: dict[str, Any], awaits: bool = True) -> str:
        """Returns the expression of a call."""
        function = self.functions[call["name"]]
        argument, more = call["argument"], call["more"]
        if function.kind == "helper":
            text = f"{function.name}(s, {argument})"
            return f"await {text}" if function.is_async and awaits else text
        arguments = argument
        match function.form, more:
            case "x" | "y", 1 if function.kind == "leaf":
                arguments = f"x={argument}"
            case "y", 2:
                arguments = f"{argument}, 1"
            case "y", 3:
                arguments = f"{argument}, y=2"
            case "tag", 1:
                arguments = f"{argument}, tag='t'"
            case "tag", 2:
                arguments = f"{argument}, tag=pick(out)"
            case "rest", 1:
                arguments = f"{argument}, a=1, b=2"
            case "rest", 2:
                arguments = f"b=2, x={argument}, a=1"
            case "client", _:
                arguments = f"{argument}, client=Client()"
            case "rows", _:
                arguments = f"[{argument}]"
        if function.is_async:
            return f"{'await ' if awaits else ''}acall(s, {function.name}, {arguments})"
        return f"call(s, {function.name}, {arguments})"

    def _lines(self, owner: Function, block: list[Statement], level: int) -> list[str]:
        lines = [line for statement in block for line in self._statement_lines(owner, statement)]
        return ["    " * level + line for line in lines or ["pass"]]

    def _statement_lines(self, owner: Function, statement: Statement) -> list[str]:
        data, blocks = statement.data, statement.blocks
        match statement.kind:
            case "call":
                return [f"out.append({self._made(owner, data)})"]
            case "call many":
                return [f"for i in range({data['count']}):", f"    out.append({self._made(owner, data)})"]
            case "loop":
                return [f"for i in range({data['count']}):", *self._lines(owner, blocks[0], 1)]
            case "if":
                return [
                    f"if pick(out) == {data['equals']}:",
                    *self._lines(owner, blocks[0], 1),
                    "else:",
                    *self._lines(owner, blocks[1], 1),
                ]
            case "try":
                then = {
                    "raise": ["    raise"],
                    "bug from": ['    raise Bug("from") from error'],
                    "bug": ['    raise Bug("within")'],
                    "note": ["    out.append(type(error).__name__)"],
                    "": [],
                }[data["then"]]
                handler = self._lines(owner, blocks[1], 1) if blocks[1] or not then else []
                caught = f"except {data['caught']} as error:"
                return ["try:", *self._lines(owner, blocks[0], 1), caught, *handler, *then]
            case "finally":
                return ["try:", *self._lines(owner, blocks[0], 1), "finally:", *self._lines(owner, blocks[1], 1)]
            case "collect":
                raised = {
                    "group": ['    raise ExceptionGroup("some failed", failed)'],
                    "bug": ['    raise Bug(f"{len(failed)} failed")'],
                    "first": ["    raise failed[0]"],
                    "": ["    out.append(plain(failed))"],
                }[data["raises"]]
                return [
                    "failed = []",
                    f"for i in range({data['count']}):",
                    "    try:",
                    f"        out.append({self._made(owner, data)})",
                    "    except CAUGHT as error:",
                    "        failed.append(error)",
                    "if failed:",
                    *raised,
                ]
            case "bug":
                return [f"if pick(out) <= {data['equals']}:", f'    raise Bug("{data["equals"]}")']
            case "return":
                return [f"if pick(out) == {data['equals']}:", "    return out"]
            case "spoil":
                return ["spoil(out)"]
            case "later":
                made = self._made(owner, data, awaits=False)
                if made.startswith("call("):
                    return [f"out.append({made})"]
                return [f"first, second = {made}, {made}", "out.append(await second)", "out.append(await first)"]
            case "thread":
                made = self._made(owner, data)
                return [f"out.append(await asyncio.to_thread(thread, call, {made.removeprefix('call(')})"]
            case "pool":
                submit = "thread" if data["bare"] and owner.kind == "agent" else "copy_context().run, thread"
                made = f"call, {self._made(owner, data).removeprefix('call(')}"
                return [
                    "with ThreadPoolExecutor(2) as pool:",
                    f"    futures = [pool.submit({submit}, {made} for i in range({data['count']})]",
                    "    out.append([one.result() for one in futures])",
                ]
            case _:
                return self._concurrent_lines(owner, statement.kind, data)

    def _concurrent_lines(self, owner: Function, kind: str, data: dict[str, Any]) -> list[str]:
        arms = []
        for call in data["arms"]:
            made = self._made(owner, call, awaits=False)
            function = self.functions[call["name"]]
            if function.is_async:
                arms.append(made)
            else:
                arms.append(f"asyncio.to_thread(thread, call, {made.removeprefix('call(')}")
        option = ", return_exceptions=True" if data["returns"] else ""
        if kind == "gather":
            return [f"out.append(plain(await asyncio.gather({', '.join(f'task({arm})' for arm in arms)}{option})))"]
        if kind == "semaphore":
            lines = ["few = asyncio.Semaphore(2)"]
            made = ", ".join(f"limited(few, lambda: {arm})" for arm in arms)
            return [*lines, f"out.append(plain(await asyncio.gather({made}{option})))"]
        lines = ["async with asyncio.TaskGroup() as group:"]
        lines += [f"    made = [{', '.join(f'group.create_task(task({arm}))' for arm in arms)}]"]
        return [*lines, "out.append([one.result() for one in made])"]

    # Edits

    def _blocks(self) -> Iterator[tuple[Function, list[Statement], int]]:
        """Yields the blocks of all bodies, with their depth."""

        def inner(function: Function, block: list[Statement], depth: int) -> Iterator[Any]:
            yield function, block, depth
            for statement in block:
                for one in statement.blocks:
                    yield from inner(function, one, depth + 1)

        for function in list(self.functions.values()):
            if function.kind != "leaf":
                yield from inner(function, function.body, 1)

    def edit(self) -> str:
        """Makes a random edit, and returns its kind."""
        pick = self.random
        blocks = list(self._blocks())
        owner, block, depth = pick.choice(blocks)
        kind = pick.choice((*EDITS, "insert", "action", "action", "action", "fix", "fix"))
        at = pick.randrange(len(block)) if block else 0
        match kind:
            case "insert":
                block.insert(pick.randint(0, len(block)), self._statement(owner, max(depth, 2)))
            case "delete" if block:
                del block[at]
            case "swap" if len(block) > 1:
                other = pick.randrange(len(block))
                block[at], block[other] = block[other], block[at]
            case "wrap" if block:
                if pick.random() < 0.5:
                    data = {"then": "", "caught": "CAUGHT"}
                    block[at] = Statement("try", data, [[block[at]], []])
                else:
                    block[at] = Statement("loop", {"count": pick.randint(1, 2)}, [[block[at]]])
            case "pull" if block and owner.kind == "agent" and "first" not in str(block[at]):
                name = f"h{self.helpers}"
                self.helpers += 1
                helper = Function(name, "helper", owner.is_async, body=[block[at]])
                functions = self.functions
                self.functions = {**{one: functions[one] for one in functions if one != "agent"}, name: helper}
                self.functions["agent"] = functions["agent"]
                block[at] = Statement("call", {"name": name, "argument": "x", "more": 0})
            case "argument":
                calls = [one for _, statements, _ in blocks for one in statements if "argument" in one.data]
                if calls:
                    pick.choice(calls).data["argument"] = pick.choice(("0", "1", "2", "x"))
            case "action":
                leaves = [one for one in self.functions.values() if one.kind == "leaf"]
                pick.choice(leaves).version += 1
            case "fix":
                for _, statements, _ in blocks:
                    statements[:] = [one for one in statements if one.kind != "bug" and one.data.get("name") != "m0"]
        return kind
