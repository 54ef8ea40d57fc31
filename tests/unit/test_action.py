"""@action: a callable stays callable, and becomes a step."""

import abc
import asyncio
import functools
import inspect
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from dotflow import Context, action
from dotflow.core.action import Action, action_of, actions_of
from dotflow.errors import InvalidPolicy, InvalidStep, UnknownParameter
from dotflow.processes.channel import dump_whole


@action
def extract(source: str = "here", *, limit: int = 3) -> list[str]:
    """Reads the source."""
    return [source] * limit


@action(retry=3, timeout=1.5, retry_delay=0.25, backoff=True, isolate=True)
def transform(previous_context: Context) -> Any:
    """Changes things."""
    return previous_context.storage


@action
async def fetch(initial_context: Context) -> Any:
    """Waits for things."""
    return initial_context.storage


class Report:
    """Plain class with a step."""

    def __init__(self, title: str = "untitled") -> None:
        self.title = title

    @action(retry=2)
    def load(self, previous_context: Context | None = None) -> str:
        """Loads it."""
        return self.title

    @action
    async def send(self) -> str:
        return f"sent {self.title}"


@action
class Pipeline:
    """A class as a step."""

    NAME = "pipeline"

    def __init__(self, initial_context: Context | None = None) -> None:
        self.seen = initial_context

    @action
    def first(self) -> int:
        return 1

    @action
    def second(self, previous_context: Context) -> int:
        return int(previous_context.storage) + 1

    @classmethod
    def named(cls) -> str:
        return cls.NAME


#: The action that the decorated class carries.
PIPELINE: Any = action_of(Pipeline)


class Longer(Pipeline):
    """Inherits from a decorated class."""

    @action
    def third(self) -> int:
        return 3

    @action
    def first(self) -> int:
        return super().first() * 10


class Annotated:
    """A class with a step whose annotation can't be pickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    @action
    def load(self) -> threading.Lock():  # type: ignore[valid-type]
        return self.number


#: A module that another process does not have.
CLASS_BY_VALUE = """
from dotflow import action

@action(retry=3)
class Report:
    def __init__(self, initial_context):
        self.again = Report

    @action
    def zebra(self):
        return Report

    @action
    def ape(self): ...
"""

#: Loads the class, its action or an instance, and prints what it is there.
SHOW_CLASS = """
import json, pickle, sys
sys.path[:] = json.loads(sys.argv[1])
from dotflow.core.action import Action, action_of, actions_of
loaded = pickle.loads(sys.stdin.buffer.read())
cls = loaded if isinstance(loaded, type) else loaded.function if isinstance(loaded, Action) else type(loaded)
step = action_of(cls)
assert loaded in (cls, step) or loaded.again is cls
assert step.function is cls and cls(None).zebra() is cls
print(cls.__name__, step.policy.attempts, step.context_params, [member.name for member in actions_of(cls(None))])
"""


class TestCalledDirectly:
    def test_is_the_plain_function(self) -> None:
        """extract() in a unit test returns what the function returns, arguments and defaults included."""
        assert extract() == ["here"] * 3
        assert extract("there", limit=1) == ["there"]

    def test_raises_the_functions_errors(self) -> None:
        """A wrong call is the function's own TypeError."""
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            extract(colour="red")

    def test_has_no_retry_and_no_timeout(self) -> None:
        """Options concern workflows: called directly, a step that fails raises at once."""
        calls = []

        @action(retry=5, retry_delay=60)
        def fails() -> None:
            calls.append(1)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            fails()
        assert len(calls) == 1

    def test_a_coroutine_function_gives_a_coroutine(self) -> None:
        """It is awaited like the function."""
        assert asyncio.run(fetch(Context(7))) == 7

    def test_a_method_is_bound_to_its_instance(self) -> None:
        """report.load() and Report.load(report) are the method."""
        report = Report("sales")

        assert report.load() == "sales"
        assert Report.load(report) == "sales"
        assert asyncio.run(report.send()) == "sent sales"

    def test_a_class_makes_instances(self) -> None:
        """A decorated class called is an instance of the class."""
        instance = Pipeline(Context(5))

        assert instance.seen == Context(5)
        assert instance.first() == 1
        assert instance.second(Context(1)) == 2

    def test_static_and_class_methods(self) -> None:
        """With @action above @staticmethod or @classmethod they are called as ever, from class and instance."""

        class Tools:
            @action
            @staticmethod
            def double(number: int) -> int:
                return number * 2

            @action
            @classmethod
            def label(cls) -> str:
                return cls.__name__

        assert Tools.double(2) == Tools().double(2) == 4
        assert Tools().label() == "Tools"
        assert Tools.label() == "Tools"

    def test_a_callable_instance_and_a_partial(self) -> None:
        """Any callable can be a step."""

        class Adder:
            def __call__(self, by: int) -> int:
                return 1 + by

        assert action(Adder())(2) == 3
        assert action(functools.partial(extract, "p", limit=2))() == ["p", "p"]


class TestLooks:
    @pytest.mark.parametrize("step", [extract, transform, fetch, PIPELINE, Report.load])
    def test_keeps_name_docstring_and_module(self, step: Action[..., Any]) -> None:
        """help(), Sphinx and tracebacks see the function."""
        plain: Any = step.function

        assert step.__name__ == plain.__name__
        assert step.__qualname__ == plain.__qualname__
        assert step.__doc__ == plain.__doc__
        assert step.__module__ == __name__

    @pytest.mark.parametrize("step", [extract, transform, fetch, PIPELINE, Report.load])
    def test_keeps_the_signature(self, step: Action[..., Any]) -> None:
        """inspect.signature shows the function's parameters, types and defaults."""
        assert inspect.signature(step) == inspect.signature(step.function)

    def test_a_bound_method_shows_no_self(self) -> None:
        """The signature of report.load is that of a bound method."""
        assert list(inspect.signature(Report().load).parameters) == ["previous_context"]

    def test_is_a_coroutine_or_not(self) -> None:
        """Coroutine functions, bound ones and those inside a partial are distinguished from others."""
        assert fetch.is_coroutine
        assert Report().send.is_coroutine
        assert action(functools.partial(fetch.function, Context())).is_coroutine
        assert not extract.is_coroutine
        assert not PIPELINE.is_coroutine

    def test_repr_names_the_step(self) -> None:
        """A REPL and messages show its name."""
        assert repr(extract) == "<action extract>"
        assert repr(Report().load) == "<action Report.load>"

    def test_names_for_readers_and_for_machines(self) -> None:
        """The name is short; the identity has the module, and is the same in every run."""

        @action
        def local() -> None: ...

        assert (extract.name, extract.identity) == ("extract", f"{__name__}:extract")
        assert (Report().load.name, Report().load.identity) == ("Report.load", f"{__name__}:Report.load")
        assert local.name == "local"
        assert local.identity.startswith(f"{__name__}:")

    def test_identity_of_a_partial_is_that_of_its_function(self) -> None:
        """Two partials of functions in different modules are different steps."""
        assert action(functools.partial(extract.function, "x")).identity == f"{__name__}:extract"

    def test_keeps_the_functions_own_attributes(self) -> None:
        """The attributes that other decorators set on the function are accessible."""

        @functools.lru_cache
        def cached() -> int:
            return 1

        assert action(cached).cache_info().hits == 0

    def test_a_missing_attribute_is_an_attribute_error(self) -> None:
        """hasattr, copy and inspect rely on it."""
        assert not hasattr(extract, "nonsense")
        with pytest.raises(AttributeError, match="nonsense"):
            extract.nonsense  # noqa: B018


class TestOptions:
    def test_reach_the_policy(self) -> None:
        """The options of @action are those of the policy."""
        policy = transform.policy

        assert (policy.attempts, policy.timeout, policy.delay, policy.backoff) == (3, 1.5, 0.25, True)
        assert transform.isolate

    def test_defaults(self) -> None:
        """Bare @action and @action() are the same: one try, no limit, a second's delay, no process of its own."""

        @action()
        def bare() -> None: ...

        assert bare.policy == extract.policy
        assert (bare.policy.attempts, bare.policy.timeout, bare.policy.delay) == (1, 0, 1)
        assert not bare.isolate
        assert not extract.isolate

    def test_a_bound_method_keeps_them(self) -> None:
        """Binding loses no option."""
        assert Report().load.policy.attempts == 2

    def test_resources_belong_to_the_step(self) -> None:
        """They are a copy of the dictionary, and they are pickled with the step."""
        resources = {"GPU": 1, "memory": 0.5}
        step = action(resources=resources)(lambda: None)
        resources["GPU"] = 9

        assert step.resources == {"GPU": 1, "memory": 0.5}
        assert cloudpickle.loads(cloudpickle.dumps(step)).resources == step.resources
        assert extract.resources == {}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"retry": 0}, "@action(retry=0)"),
            ({"retry": -3}, "@action(retry=-3)"),
            ({"retry": 2.0}, "@action(retry=2.0)"),
            ({"retry": True}, "@action(retry=True)"),
            ({"timeout": -1}, "@action(timeout=-1)"),
            ({"timeout": "10"}, "@action(timeout='10')"),
            ({"timeout": float("nan")}, "@action(timeout=nan)"),
            ({"retry_delay": -0.5}, "@action(retry_delay=-0.5)"),
            ({"backoff": 2}, "@action(backoff=2)"),
            ({"isolate": "yes"}, "@action(isolate='yes')"),
            ({"resources": "GPU"}, "@action(resources='GPU')"),
            ({"resources": {"GPU": 0}}, "@action(resources={'GPU': 0})"),
            ({"resources": {"GPU": float("nan")}}, "@action(resources={'GPU': nan})"),
            ({"resources": {"GPU": True}}, "@action(resources={'GPU': True})"),
            ({"resources": {1: 1}}, "@action(resources={1: 1})"),
        ],
    )
    def test_bad_ones_are_refused_where_they_stand(self, options: dict[str, Any], message: str) -> None:
        """The decorator line itself raises, before there is anything to decorate, and shows what was written."""
        with pytest.raises(InvalidPolicy) as caught:
            action(**options)

        assert message in str(caught.value)

    def test_unknown_ones_are_a_type_error(self) -> None:
        """A misspelt option is a TypeError, as Python itself would raise."""
        with pytest.raises(TypeError, match="retires"):
            action(retires=3)

    @pytest.mark.parametrize("target", [3, "extract", 2.5, object()])
    def test_only_callables_become_steps(self, target: object) -> None:
        """@action(3) was meant as an option: the message shows how to write options."""
        with pytest.raises(InvalidStep, match=r"@action\(retry=3\)"):
            action(target)

    def test_twice_is_refused(self) -> None:
        """Two @action on one function would have two policies."""
        with pytest.raises(InvalidStep, match="an action already"):
            action(retry=2)(extract)


class TestPickling:
    @pytest.mark.parametrize("step", [extract, transform, fetch, PIPELINE, Report.load, Pipeline.first])
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_by_reference(self, step: Action[..., Any], protocol: int) -> None:
        """An action that can be looked up by its name is unpickled as the same object."""
        assert pickle.loads(pickle.dumps(step, protocol)) is step

    def test_a_reference_is_short(self) -> None:
        """Only the name is pickled, no code."""
        assert len(pickle.dumps(extract)) < 150

    def test_a_bound_method_brings_its_instance(self) -> None:
        """It is unpickled bound to a copy of its instance, with its options."""
        step = pickle.loads(pickle.dumps(Report("sales").load))

        assert step() == "sales"
        assert step.policy == Report.load.policy

    def test_annotations_need_not_be_picklable(self) -> None:
        """They are of no use to a worker."""
        step = Annotated(1).load

        assert pickle.loads(pickle.dumps(step))() == 1

    def test_a_class_and_its_instances(self) -> None:
        """They are pickled as those of any class."""
        assert pickle.loads(pickle.dumps(Pipeline)) is Pipeline
        assert type(pickle.loads(pickle.dumps(Pipeline(Context(1))))) is Pipeline

    @pytest.mark.parametrize(
        "part", [lambda cls: cls, action_of, lambda cls: cls(None)], ids=["class", "action", "instance"]
    )
    def test_a_class_by_value(self, modules: dict[str, str], part: Callable[[type], object]) -> None:
        """A class and its action refer to each other after unpickling, whichever was pickled first."""
        modules["mem_class"] = CLASS_BY_VALUE
        cloudpickle.register_pickle_by_value(module := import_module("mem_class"))
        try:
            data = dump_whole(part(module.Report))
        finally:
            cloudpickle.unregister_pickle_by_value(module)

        done = subprocess.run([sys.executable, "-c", SHOW_CLASS, json.dumps(sys.path)], input=data, capture_output=True)

        assert done.stdout.decode() == "Report 3 ('initial_context',) ['Report.zebra', 'Report.ape']\n", done.stderr

    def test_a_local_one_is_an_error(self) -> None:
        """It can't be looked up by name, so plain pickle refuses it."""

        @action
        def local() -> None: ...

        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(local)


class TestContextParams:
    @pytest.mark.parametrize(
        ("function", "params"),
        [
            (lambda: 0, ()),
            (lambda previous_context: 0, ("previous_context",)),
            (lambda previous_context, initial_context: 0, ("initial_context", "previous_context")),
            (lambda *, initial_context: 0, ("initial_context",)),
            (lambda other=1, previous_context=None: 0, ("previous_context",)),
            (lambda **kwargs: 0, ()),
            (lambda *args: 0, ()),
            (lambda previous_context=None, /: 0, ()),
            (lambda *previous_context: 0, ()),
            (lambda **initial_context: 0, ()),
        ],
    )
    def test_is_read_from_the_signature(self, function: Any, params: tuple[str, ...]) -> None:
        """A step gets the contexts that it takes by name, and only those."""
        assert action(function).context_params == params

    def test_of_a_class_are_those_of_its_init(self) -> None:
        """A class has the parameters of __init__."""
        assert PIPELINE.context_params == ("initial_context",)

    def test_of_a_method_leave_out_self(self) -> None:
        """self is no context."""
        assert Report().load.context_params == ("previous_context",)

    def test_of_a_classmethod(self) -> None:
        """A class method gets its contexts like any other."""

        class Tools:
            @action
            @classmethod
            def label(cls, previous_context: Context) -> Any:
                return previous_context.storage

        assert Tools().label.context_params == ("previous_context",)
        Tools().label.check_parameters()

    @pytest.mark.parametrize(
        ("function", "parameter", "hint"),
        [
            (lambda data: 0, "data", "no earlier action of its class has its name. Take it in the __init__"),
            (
                lambda previous_context, other: 0,
                "other",
                "no earlier action of its class has its name. Take it in the __init__",
            ),
            (lambda *, size: 0, "size", "no earlier action of its class has its name. Take it in the __init__"),
            (lambda previous_context, /: 0, "previous_context", "Remove the '/'"),
        ],
    )
    def test_a_parameter_that_no_context_fills(self, function: Any, parameter: str, hint: str) -> None:
        """The message names the parameter and the way out."""
        with pytest.raises(UnknownParameter) as caught:
            action(function).check_parameters()

        message = str(caught.value)
        assert f"'{parameter}'" in message
        assert hint in message

    @pytest.mark.parametrize("function", [lambda x=1: 0, lambda *a, **k: 0, lambda initial_context: 0, print, dict])
    def test_other_parameters_pass(self, function: Any) -> None:
        """Defaults, star parameters and callables written in C need nothing."""
        action(function).check_parameters()


class TestDecoratedClasses:
    def test_it_stays_the_class(self) -> None:
        """The decorator returns the class itself, whose instances are its instances."""
        assert isinstance(Pipeline, type)
        assert type(Pipeline()) is Pipeline
        assert issubclass(Longer, Pipeline)
        assert (Pipeline.NAME, Pipeline.named()) == ("pipeline", "pipeline")

    def test_it_carries_its_action(self) -> None:
        """With the options of the decorator."""

        @action(retry=3, isolate=True)
        class Report: ...

        step: Any = action_of(Report)

        assert (step.function, step.name, step.policy.attempts, step.isolate) == (Report, "Report", 3, True)

    def test_a_subclass_is_another_step(self) -> None:
        """It does not inherit the action of its base, and may be decorated with options of its own."""

        @action(retry=2)
        class Decorated(Pipeline): ...

        step: Any = action_of(Decorated)

        assert action_of(Longer) is None
        assert (step.function, step.policy.attempts) == (Decorated, 2)
        assert PIPELINE.function is Pipeline

    def test_a_copy_of_the_class_is_another_step(self) -> None:
        """Some decorators return a new class with the attributes of the old one."""
        copy = type(Pipeline)("Copy", (), dict(vars(Pipeline)))

        assert action_of(copy) is None

    def test_twice_is_refused(self) -> None:
        """As with a function: two @action on one class would have two policies."""
        with pytest.raises(InvalidStep, match="'Pipeline', which is an action already"):
            action(retry=2)(Pipeline)

    def test_can_be_inherited_from(self) -> None:
        """super() works in a subclass."""
        assert Longer.__mro__[1] is Pipeline
        assert Longer().first() == 10

    def test_a_function_step_cannot_be_inherited_from(self) -> None:
        """class X(some_function_step) is a TypeError."""
        with pytest.raises(TypeError, match="@action decorates a function"):

            class Child(extract): ...

    def test_a_built_in_type_is_wrapped(self) -> None:
        """It takes no attribute, so it becomes a step as a function does."""
        step: Any = action(retry=2)(dict)

        assert (step(a=1), step.policy.attempts) == ({"a": 1}, 2)
        assert action_of(step) is step
        assert action_of(dict) is None

    def test_a_decorator_above_may_change_the_class(self) -> None:
        """A dataclass takes the contexts that its fields name."""

        @dataclass
        @action
        class Point:
            previous_context: Context

        step: Any = action_of(Point)

        assert step.context_params == ("previous_context",)

    def test_a_class_with_slots(self) -> None:
        """A dataclass with slots is a class of its own; @action above it decorates that."""

        @action
        @dataclass(slots=True)
        class Point:
            initial_context: Context

        step: Any = action_of(Point)

        assert step.context_params == ("initial_context",)
        assert step(Context(1)) == Point(Context(1))

    def test_a_class_inside_of_another_is_one_of_its_actions(self) -> None:
        """As a method would be."""

        class Outer:
            @action
            class Inner: ...

            @action
            def load(self) -> None: ...

        assert [step.name.rpartition(".")[2] for step in actions_of(Outer())] == ["Inner", "load"]
        assert actions_of(Outer.Inner()) == []

    def test_dataclasses_and_abstract_classes(self) -> None:
        """Other decorators and metaclasses do their work below @action."""

        @action
        @dataclass
        class Point:
            x: int = 1

        class Shape(abc.ABC):
            @action
            @abc.abstractmethod
            def area(self) -> int: ...

        class Square(Shape):
            @action
            def area(self) -> int:
                return 4

        assert Point() == Point(1)  # and nothing warned of a class without methods
        assert Square().area() == 4
        with pytest.raises(TypeError, match="abstract"):
            Shape()

    @pytest.mark.parametrize("decorate", [action, action(retry=2)], ids=["bare", "with options"])
    def test_a_class_without_decorated_methods(self, decorate: Any) -> None:
        """A warning at that line names the class: none of its methods runs."""

        class Report:
            def load(self) -> None: ...

        with pytest.warns(UserWarning, match="Class 'Report' .* Put @action above the methods") as caught:
            decorate(Report)

        assert caught[0].filename == __file__


class TestActionsOf:
    def test_definition_order(self) -> None:
        """Not the alphabet: the order of the class body."""

        class Steps:
            @action
            def zebra(self) -> None: ...

            def plain(self) -> None: ...

            @action
            def ape(self) -> None: ...

        assert [step.name.rpartition(".")[2] for step in actions_of(Steps())] == ["zebra", "ape"]

    def test_base_classes_first_and_overrides_in_place(self) -> None:
        """An override keeps the position of its base; new ones come after."""
        steps = actions_of(Longer())

        assert [step.name for step in steps] == ["Longer.first", "Pipeline.second", "Longer.third"]
        assert steps[0]() == 10

    def test_several_bases_in_the_order_of_the_mro(self) -> None:
        """The farthest base comes first, as its attributes would be looked up last."""

        class A:
            @action
            def a(self) -> None: ...

        class B:
            @action
            def b(self) -> None: ...

        class C(A, B):
            @action
            def c(self) -> None: ...

        assert [step.name.rpartition(".")[2] for step in actions_of(C())] == ["b", "a", "c"]

    def test_an_override_without_action_takes_the_step_out(self) -> None:
        """A plain method in a subclass is no step any more."""

        class Shorter(Pipeline):
            def second(self) -> int:
                return 0

        assert [step.name for step in actions_of(Shorter())] == ["Pipeline.first"]

    def test_are_bound(self) -> None:
        """Each may be called without the instance."""
        assert [step.context_params for step in actions_of(Pipeline())] == [(), ("previous_context",)]
        assert actions_of(Pipeline())[0]() == 1

    @pytest.mark.parametrize("value", [None, 1, "x", [1], {}, object(), int, len, Context(1), ValueError("x")])
    def test_plain_values_have_none(self, value: object) -> None:
        """A value without actions is just a value."""
        assert actions_of(value) == []

    def test_a_class_whose_metaclass_has_no_hash(self) -> None:
        """An odd metaclass makes an instance no less a plain value."""

        class Odd(type):
            def __eq__(cls, other: object) -> bool:
                return cls is other

            __hash__ = None

        value = Odd("Value", (), {})()

        assert actions_of(value) == []
