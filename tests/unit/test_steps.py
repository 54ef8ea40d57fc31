"""Steps and callbacks, as users may pass them."""

import re
from pathlib import Path
from typing import Any

import pytest

from dotflow import action
from dotflow.core.steps import as_actions, as_callback, resolve
from dotflow.errors import InvalidCallback, InvalidPath, InvalidStep, UnknownParameter
from dotflow.graph.builder import TaskBuilder
from tests.names import plain

GOOD = """
from dotflow import action

NUMBER = 5

@action
def extract():
    return "extracted"

def plain():
    return "plain"

def notify(task):
    return "notify", task

@action
class Report:
    @action
    def load(self):
        return 1

class Box:
    @action
    @staticmethod
    def inner():
        return "inner"

    class Deeper:
        @action
        @staticmethod
        def still():
            return "still"

box = Box()
"""


@action
def one() -> int:
    return 1


@action
def two() -> int:
    return 2


class TestActions:
    def test_an_action_is_itself(self) -> None:
        """One action is a list of one."""
        assert as_actions(one) == [one]

    def test_lists_in_order_nested_ones_too(self) -> None:
        """A list or tuple of steps is flattened in order."""
        assert as_actions([one, (two, [one])]) == [one, two, one]

    def test_paths_among_actions(self, modules: dict[str, str]) -> None:
        """A list may have dotted paths beside actions."""
        modules["mem_steps"] = GOOD

        assert [step.name for step in as_actions(["mem_steps.extract", one, "mem_steps:Report"])] == [
            "extract",
            "one",
            "Report",
        ]

    @pytest.mark.parametrize(
        ("step", "expected", "hint"),
        [
            (len, "function", "Decorate it: @action above 'len'"),
            (lambda: 1, "function", "Make it one: action(lambda ...)"),
            (int, "the class 'int'", "@action above 'int'"),
            (None, "None", "without parentheses"),
            (5, "5 (int)", "put @action above it"),
            ({one}, "set", "put @action above it"),
            ([], "an empty list", "at least one"),
            ([one, []], "an empty list", "at least one"),
            ([one, 5], "5 (int)", "put @action above it"),
        ],
        ids=plain,
    )
    def test_anything_else_is_refused(self, step: object, expected: str, hint: str) -> None:
        """The message has the accepted steps, the wrong one, and what to do."""
        with pytest.raises(InvalidStep) as caught:
            as_actions(step)

        message = str(caught.value)
        assert "A step is an action, a list of actions or the dotted path of one" in message
        assert expected in message
        assert hint in message

    def test_an_instance_with_actions_gets_its_own_hint(self) -> None:
        """Its class has to be decorated."""

        class Report:
            @action
            def load(self) -> None: ...

        with pytest.raises(InvalidStep, match="Decorate its class with @action, and add 'Report' itself") as caught:
            as_actions(Report())

        assert "action(lambda: Report(...))" in str(caught.value)

    def test_a_path_to_something_else_shows_both(self, modules: dict[str, str]) -> None:
        """The message shows the path, the object there, and the cure."""
        modules["mem_steps"] = GOOD

        with pytest.raises(InvalidStep) as caught:
            as_actions("mem_steps.plain")

        assert "'mem_steps.plain', which leads to the function 'plain'" in str(caught.value)
        assert "@action above 'plain'" in str(caught.value)

    def test_parameters_are_checked(self) -> None:
        """A step with a parameter that nothing fills is refused at once, and the others of its list are not added."""
        builder = TaskBuilder("w")

        with pytest.raises(UnknownParameter):
            builder.add([one, action(lambda rows: rows)])

        assert len(builder) == 0


class TestResolve:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("mem.sub.steps.extract", "extract"),
            ("mem.sub.steps:extract", "extract"),
            ("mem.sub.steps.Report", "Report"),
            ("mem.sub.steps.Box.inner", "Box.inner"),
            ("mem.sub.steps:Box.inner", "Box.inner"),
            ("mem.sub.steps.Box.Deeper.still", "Box.Deeper.still"),
            ("mem.sub.steps:box.inner", "Box.inner"),
        ],
    )
    def test_both_separators_and_nested_names(self, modules: dict[str, str], path: str, name: str) -> None:
        """A dot or a colon before the name, and names inside classes and objects, all lead to the action."""
        modules.update({"mem": "", "mem.sub": "", "mem.sub.steps": GOOD})

        assert as_actions(path)[0].name == name

    def test_a_name_that_a_package_shares_with_its_module(self, modules: dict[str, str]) -> None:
        """The last part is always a name: pkg.fn is the function that the package imported, not the module fn."""
        modules.update({"mem": "from mem.fn import fn", "mem.fn": "from dotflow import action\n@action\ndef fn(): ..."})

        assert resolve("mem.fn").name == "fn"
        assert resolve("mem.fn.fn").name == "fn"
        assert resolve("mem:fn").name == "fn"

    @pytest.mark.parametrize(
        ("path", "hint"),
        [
            ("mem_steps", "'mem_steps' is a module: add a name in it, 'mem_steps:name'"),
            ("mem_steps:", "'mem_steps' is a module: add a name in it, 'mem_steps:name'"),
            ("mem_steps.py:extract", "without slashes and '.py': 'mem_steps:extract'"),
            ("./mem_steps.py:extract", "without slashes and '.py': 'mem_steps:extract'"),
            ("./mem_steps:extract", "without slashes and '.py': 'mem_steps:extract'"),
            ("jobs/mem_steps.py", "without slashes and '.py': 'jobs.mem_steps:name'"),
        ],
    )
    def test_the_path_of_a_file_or_a_module_alone(self, modules: dict[str, str], path: str, hint: str) -> None:
        """The error shows the right spelling."""
        modules["mem_steps"] = GOOD

        with pytest.raises(InvalidPath, match=re.escape(hint)):
            resolve(path)

    def test_the_path_of_a_module_in_a_package(self, modules: dict[str, str]) -> None:
        """The error calls it a module, also where it was not imported before: its package does have it."""
        modules.update({"mem": "", "mem.steps": GOOD})

        with pytest.raises(InvalidPath, match=r"'mem\.steps': it is a module\. Add a name in it: 'mem\.steps:name'"):
            resolve("mem.steps")
        with pytest.raises(InvalidPath, match=r"'mem' has no 'nothing'"):
            resolve("mem.nothing")

    def test_no_guess_is_made_below_a_module(self, modules: dict[str, str]) -> None:
        """A module has no modules below it, so the error proposes none."""
        modules["mem_steps"] = GOOD

        with pytest.raises(InvalidPath) as caught:
            resolve("mem_steps.jsn:extract")

        assert "there is no module 'mem_steps.jsn'" in str(caught.value)
        assert "Did you mean" not in str(caught.value)

    def test_a_module_that_was_made_by_hand(self, modules: dict[str, str]) -> None:
        """A module without a spec, such as a script's __main__, is like any other."""
        import sys
        from types import ModuleType

        modules["mem_main"] = ""
        module = ModuleType("mem_main")
        exec(GOOD, module.__dict__)
        sys.modules["mem_main"] = module

        assert resolve("mem_main:extract") is module.extract
        assert resolve("mem_main.extract") is module.extract

    @pytest.mark.parametrize("path", ["", ".", ":", "extract", "a..b", "a:", ":a", "a b.c", "a-b.c", "1a.b", "a:b:c"])
    def test_a_text_of_another_form_is_refused(self, path: str) -> None:
        """Text of another form is refused with the two forms that there are."""
        with pytest.raises(InvalidPath, match=r"'pkg\.mod\.name' or 'pkg\.mod:name'"):
            resolve(path)

    @pytest.mark.parametrize("path", ["no_such_module.fn", "no_such_module:fn", "no_such_module.sub.fn"])
    def test_a_missing_module(self, path: str) -> None:
        """The message names the missing module and the most frequent causes."""
        with pytest.raises(InvalidPath, match="there is no module 'no_such_module'") as caught:
            resolve(path)

        assert "installed or in a folder on sys.path" in str(caught.value)

    def test_no_private_module_is_proposed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor is a private name of a module."""
        (tmp_path / "_crawler_of_shops.py").write_text(GOOD)
        monkeypatch.syspath_prepend(tmp_path)

        with pytest.raises(InvalidPath, match="there is no module 'crawler_of_shops'") as caught:
            resolve("crawler_of_shops.extract")

        assert "Did you mean" not in str(caught.value)

    @pytest.mark.parametrize(("message", "sentence"), [("no", "no."), ("no.", "no."), ("why?", "why?")])
    def test_the_reason_has_one_end(self, modules: dict[str, str], message: str, sentence: str) -> None:
        """The message of an error may be a sentence already."""
        modules["mem_raises"] = f"raise ValueError({message!r})"

        with pytest.raises(InvalidPath, match=re.escape(f"raised ValueError: {sentence} To see where: ")):
            resolve("mem_raises.step")

    def test_a_missing_submodule(self, modules: dict[str, str]) -> None:
        """The colon shows which part is a module."""
        modules.update({"mem": "", "mem.sub": ""})

        with pytest.raises(InvalidPath, match=r"there is no module 'mem\.other'"):
            resolve("mem.other:fn")

    def test_a_missing_name_lists_the_actions(self, modules: dict[str, str]) -> None:
        """The message lists the actions of the module."""
        modules["mem_steps"] = GOOD

        with pytest.raises(InvalidPath) as caught:
            resolve("mem_steps.extrakt")

        assert (
            "'mem_steps' has no 'extrakt'. Did you mean 'mem_steps.extract'? Its actions are: Report, extract."
            in str(caught.value)
        )

    @pytest.mark.parametrize("path", ["mem_steps.NUMBER.nothing", "mem_steps:extract.nothing", "mem_steps.Box.nothing"])
    def test_a_missing_name_inside_anything(self, modules: dict[str, str], path: str) -> None:
        """A missing name has the same message in a module, a class and an object."""
        modules["mem_steps"] = GOOD

        with pytest.raises(InvalidPath, match="has no 'nothing'"):
            resolve(path)

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("import no_such_library", "No module named 'no_such_library'"),
            ("from math import nothing", "ImportError"),
            ("def broken(:", "SyntaxError"),
            ("raise RuntimeError('my own words')", "RuntimeError: my own words"),
            ("import sys; sys.exit(3)", "SystemExit: 3"),
        ],
    )
    @pytest.mark.parametrize("path", ["mem_broken.fn", "mem_broken:fn", "mem_pack.broken.fn", "mem_broken.sub.fn"])
    def test_a_module_that_does_not_import_shows_its_own_error(
        self, modules: dict[str, str], path: str, source: str, expected: str
    ) -> None:
        """The user's own error is in the message, and is the cause with its traceback."""
        modules.update({"mem_broken": source, "mem_broken.sub": "", "mem_pack": "", "mem_pack.broken": source})

        with pytest.raises(InvalidPath) as caught:
            resolve(path)

        assert path in str(caught.value)
        assert expected in str(caught.value)
        assert caught.value.__cause__ is not None


class TestCallbacks:
    def test_callables_and_none(self) -> None:
        """A callable is itself; None is no callback."""

        def notify(task: object) -> None: ...

        assert as_callback("callback", notify, "task") is notify
        assert as_callback("callback", None, "task") is None
        assert as_callback("callback", dict, "task") is dict

    @pytest.mark.parametrize("callback", [print, lambda: None, lambda tasks: None, lambda task, more: None])
    def test_one_without_the_parameter(self, callback: object) -> None:
        """It is refused before the run, not at its end."""
        with pytest.raises(InvalidCallback, match=re.escape("does not take 'task'")):
            as_callback("callback", callback, "task")

    def test_a_second_step_is_no_callback(self) -> None:
        """add(one, two): the message shows a list."""
        with pytest.raises(InvalidCallback, match=re.escape("as a list: add(step=[one, other])")):
            as_callback("callback", one, "task")

    def test_paths(self, modules: dict[str, str]) -> None:
        """A callback may be named by its dotted path; it need not be an action."""
        modules["mem_steps"] = GOOD

        callback: Any = as_callback("callback", "mem_steps:notify", "task")

        assert callback(task=1) == ("notify", 1)

    def test_a_path_that_leads_nowhere(self) -> None:
        """It is refused like that of a step."""
        with pytest.raises(InvalidPath):
            as_callback("callback", "no_such_module.fn", "task")

    @pytest.mark.parametrize("callback", [5, [print], object(), b"mod.fn", False, 0])
    def test_a_step_that_cannot_be_called_is_refused(self, callback: object) -> None:
        """The message has the argument, its value and the call."""
        with pytest.raises(InvalidCallback) as caught:
            as_callback("on_success", callback, "on_success(tasks=...)")

        assert "on_success is " in str(caught.value)
        assert "on_success(tasks=...)" in str(caught.value)

    def test_a_path_to_an_object_that_cannot_be_called_is_refused(self, modules: dict[str, str]) -> None:
        """The object at a path is checked too."""
        modules["mem_steps"] = GOOD

        with pytest.raises(InvalidCallback):
            as_callback("callback", "mem_steps.NUMBER", "task")

    def test_a_coroutine_function_is_refused(self) -> None:
        """dotflow does not await callbacks, so it would silently do nothing."""

        async def notify(task: object) -> None: ...

        with pytest.raises(InvalidCallback):
            as_callback("callback", notify, "task")
