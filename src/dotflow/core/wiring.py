"""Wiring: what fills the parameters of a step, decided when the step is added."""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow.core.action import CONTEXTS, Action
from dotflow.core.annotations import misfit
from dotflow.core.links import CONTEXT, PARAM, PARAMS, TRUE, VALUE, Bind, Condition
from dotflow.core.names import Names
from dotflow.core.task import Task
from dotflow.errors import InvalidLink

SUFFIX: Final = "_context"  # of a parameter that is given a task's Context
ALL_PARAMS: Final = "params"  # the parameter that is given all parameters of the run
PREVIOUS: Final = "previous_context"


class Scope(NamedTuple):
    """What a name may mean where a task is added.

    Attributes:
        names: The tasks before it by name.
        tasks: The tasks before it.
        params: The names of the run's parameters.
    """

    names: Names
    tasks: Sequence[Task]
    params: Collection[str]

    def task(self, ref: object) -> int:
        """Returns the id of the task that is meant. Raises UnknownTask or AmbiguousTask."""
        return self.names.resolve(ref, self.tasks, self.params)


def wire(
    step: Action[..., Any], scope: Scope, needs: Mapping[str, Any], taken: Collection[str]
) -> tuple[tuple[Bind, ...], list[str]]:
    """Returns what fills each parameter of a step, and the parameters without a default that nothing fills.

    Args:
        step: The step.
        scope: What a name may mean.
        needs: Tasks by parameter.
        taken: Parameters that are given items.

    Raises UnknownTask, AmbiguousTask or InvalidLink.
    """
    by_name = step.named_params
    fixed = _fixed_by_partials(step.function)
    binds = [_bind_needed(step, name, ref, scope) for name, ref in needs.items()]
    left = []
    for name, required in by_name.items():
        if name in taken or name in needs or name in fixed:
            continue
        bind = _bind_by_name(name, required, scope)
        if bind is not None:
            _check_type(step, bind, scope)
            binds.append(bind)
        elif required:
            left.append(name)
    return tuple(binds), left


def check_names(step: Action[..., Any], option: str, names: Collection[str]) -> None:
    """Raises InvalidLink for the name of a parameter that the step does not have."""
    for name in names:
        if name in CONTEXTS:
            raise InvalidLink(f"{option} can't fill '{name}'. Name the parameter like the task, or use another name.")
        if name not in step.named_params and not step.takes_any:
            raise InvalidLink(f"{option}={{{name!r}: ...}}: step '{step.name}' has no parameter '{name}'.")


def target_of_each(step: Action[..., Any], left: Sequence[str]) -> str:
    """Returns the parameter that is given the items of `each=list`. Raises InvalidLink."""
    if len(left) == 1:
        return left[0]
    if left:
        names = " and ".join(f"'{name}'" for name in left)
        hint = f"Name the one for the items: each={{'{left[0]}': ...}}."
        raise InvalidLink(f"each=... has one list, and nothing fills {names} of step '{step.name}'. {hint}")
    if PREVIOUS in step.context_params:
        return PREVIOUS
    hint = "Name it: each={'parameter': ...}."
    raise InvalidLink(f"each=... finds no parameter for its items: nothing of step '{step.name}' is left open. {hint}")


def as_list(source: Any, scope: Scope) -> int | tuple[Any, ...]:
    """Returns a list that is written down as a tuple, or the id of the task that returns the list."""
    return tuple(source) if isinstance(source, list | tuple | range) else scope.task(source)


def make_conditions(when: Any, unless: Any, scope: Scope) -> tuple[Condition, ...]:
    """Returns the conditions that `add(when=..., unless=...)` was given."""
    return (*_conditions(when, False, scope), *_conditions(unless, True, scope))


def _bind_by_name(name: str, required: bool, scope: Scope) -> Bind | None:
    found = scope.names.find(name)
    if found is not None:
        return Bind(name, VALUE, found, required)
    if name.endswith(SUFFIX) and (found := scope.names.find(name.removesuffix(SUFFIX))) is not None:
        return Bind(name, CONTEXT, found, required)
    if name in scope.params:
        return Bind(name, PARAM, name, required)
    return Bind(name, PARAMS, name, required) if name == ALL_PARAMS else None


def _bind_needed(step: Action[..., Any], name: str, ref: Any, scope: Scope) -> Bind:
    required = step.named_params.get(name, True)
    if isinstance(ref, str) and ref not in scope.names and ref in scope.params:
        return Bind(name, PARAM, ref, required)
    bind = Bind(name, VALUE, scope.task(ref), required)
    _check_type(step, bind, scope)
    return bind


def _check_type(step: Action[..., Any], bind: Bind, scope: Scope) -> None:
    """Raises InvalidLink where two plain classes can't fit: the source's `->` and the parameter's annotation."""
    if bind.kind == VALUE:
        assert isinstance(bind.source, int)
        source = scope.tasks[bind.source]
        reason = misfit(source.step.function, step.function, bind.parameter, is_mapped=source.is_mapped)
        if reason:
            raise InvalidLink(f"Step '{step.name}' takes '{bind.parameter}' from task '{source.name}': {reason}")


def _conditions(given: Any, negated: bool, scope: Scope) -> list[Condition]:
    if given is None:
        return []
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = [(ref, TRUE) for ref in (given if isinstance(given, list | tuple) else [given])]
    found = []
    for ref, expected in pairs:
        if isinstance(ref, str) and ref not in scope.names and ref in scope.params:
            found.append(Condition(ref, ref, expected, negated))
        else:
            task_id = scope.task(ref)
            name = ref if isinstance(ref, str) else scope.tasks[task_id].name
            found.append(Condition(task_id, name, expected, negated))
    return found


def _fixed_by_partials(function: Any) -> set[str]:
    """The parameters that a partial has filled already."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names.update(function.keywords)
        function = function.func
    return names
