"""Wiring: the sources of a step's arguments, resolved when the step is added."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from dotflow.core.action import CONTEXTS, IDEMPOTENCY_KEY, Action, AnyAction, action_of, parts_of
from dotflow.core.callables import fixed_by_partials
from dotflow.core.context import Context
from dotflow.core.links import CONTEXT, PARAM, PARAMS, TRUE, VALUE, AllParams, Bind, Condition, Constant, Each
from dotflow.core.secret import SecretRef, SecretUse
from dotflow.core.task import Task
from dotflow.core.text import safe_repr, shorten
from dotflow.errors import InvalidLink, UnknownParameter, close_match
from dotflow.graph.names import MAX_REF, Refs, Scope, listed, name_of
from dotflow.graph.params import Params, settings_of

SUFFIX: Final = "_context"  # of a parameter that receives a task's Context
ALL_PARAMS: Final = "params"  # the parameter that receives all run parameters
PREVIOUS: Final = "previous_context"
PLAIN: Final = (bool, int, float, str)  # types of entries that are the same if they are equal
ORDER: Final = "To run after the task, write needs=[task], or after=[task] if it may fail."


def wire(
    step: AnyAction, scope: Scope, needs: Refs, params: Params, taken: Collection[str]
) -> tuple[tuple[Bind, ...], list[str]]:
    """Returns the sources of a step's arguments, and the parameters without a default or a source.

    Args:
        step: The step.
        scope: The names that it may refer to.
        needs: Tasks by parameter.
        params: Values by parameter.
        taken: The parameters that receive items.

    Raises UnknownTask, AmbiguousTask or InvalidLink.
    """
    by_name = step.named_params
    fixed = fixed_by_partials(step.function)
    binds = [_bind_needed(step, name, ref, scope) for name, ref in needs.items()]
    binds += [Bind(name, PARAM, Constant(value), by_name.get(name, True)) for name, value in params.items()]
    left = []
    for name, required in by_name.items():
        if name in taken or name in needs or name in params or name in fixed:
            continue
        bind = _bind_by_name(name, required, scope)
        if bind is not None:
            check_type(step, bind, scope)
            binds.append(bind)
        elif required:
            left.append(name)
    return tuple(binds), left


def secrets_of(step: AnyAction, filled: Collection[str] = ()) -> Iterator[SecretUse]:
    """Yields the secrets of a step and of the actions of its class. *filled* are its parameters with other sources."""
    for part in parts_of(step):
        for parameter, secret in part.secrets.items():
            has_source = part is step and parameter in filled
            yield SecretUse(part.name, parameter, secret, secret.default is None and not has_source)


def check_names(step: AnyAction, option: str, names: Collection[str]) -> None:
    """Raises InvalidLink for a parameter that the step does not have, or that only the engine fills."""
    for name in names:
        if name in CONTEXTS or name == IDEMPOTENCY_KEY or (name == ALL_PARAMS and option == "params"):
            raise InvalidLink(f"{option} can't fill '{name}'. Name the parameter like the task, or use another name.")
        if name not in step.named_params and not step.takes_any:
            names = " and ".join(f"'{own}'" for own in step.named_params)
            hint = close_match(name, step.named_params)
            hint = hint or f"It has {names}." if names else ORDER if option == "needs" else ""
            raise InvalidLink(
                f"{option}={{{name!r}: ...}}: step '{step.name}' has no parameter '{name}'. {hint}".rstrip()
            )


def target_of_each(step: AnyAction, left: Sequence[str], source: str) -> str:
    """Returns the parameter that receives the items of `each=list`. *source* is the list's name. Raises InvalidLink."""
    if len(left) == 1:
        return left[0]
    if left:
        refuse_several(left, f"step '{step.name}'")
    if PREVIOUS in step.context_params:
        return PREVIOUS
    if source in step.named_params:
        raise InvalidLink(
            f"each: step '{step.name}' has a parameter called like the list, '{source}', and gets the whole list for "
            f"it. For one item of it write each={{'{source}': '{source}'}}, or rename the parameter."
        )
    name = next(iter(step.named_params), None)  # one that is called like another task, perhaps
    hint = f"Name it: each={{'{name}': ...}}." if name else "Add one to the step."
    raise InvalidLink(f"each=... has no parameter for its items: step '{step.name}' has none left. {hint}")


def refuse_several(left: Sequence[str], of: str) -> NoReturn:
    """Raises InvalidLink for several parameters that could receive the items of `each=list`."""
    names = " and ".join(f"'{name}'" for name in left)
    hint = f"Name the one of the items: each={{'{left[0]}': ...}}."
    raise InvalidLink(f"each=... has one list, and nothing fills {names} of {of}. {hint}")


def refuse_parameter(step: AnyAction, name: str, scope: Scope) -> NoReturn:
    """Raises UnknownParameter for a parameter that nothing fills."""
    if name.endswith(SUFFIX) and scope.part(output := name.removesuffix(SUFFIX)) is not None:
        task = scope.tasks[scope.task(output)]
        hint = f"Take {name_of(task)}{SUFFIX}."
        raise UnknownParameter(step.name, name, hint, f"'{output}' is an output, which has no Context of its own")
    if name == "self":
        hint = "It is a method: add it from an instance, or decorate its class with @action and add that."
        raise UnknownParameter(step.name, name, hint)
    known = [*scope, *scope.params]
    contexts = [f"{known_name}{SUFFIX}" for known_name in known] if name.endswith(SUFFIX) else []
    hint = (
        f"Add the task '{name}' before it, wire another one with needs={{'{name}': task}}, or give it a default. Or "
        f"take initial_context, the value passed to add(), or previous_context, the result of the previous task."
    )
    raise UnknownParameter(step.name, name, close_match(name, [*known, *contexts]) or hint)


def as_list(source: Any, scope: Scope, option: str = "each") -> int | str | tuple[Any, ...]:
    """Returns a list as a tuple, the id of the task that returns the list, or the name of a run parameter.

    Raises UnknownTask, AmbiguousTask or, for other values, InvalidLink.
    """
    if isinstance(source, list | tuple | range):
        if source and action_of(source[0]) is not None:
            raise InvalidLink(f"{option}=[...] lists steps. Pass one task that returns a list: {option}=task.")
        return tuple(source)
    if not isinstance(source, str | Action | type):
        value = shorten(safe_repr(source), MAX_REF)
        raise InvalidLink(f"{option}={value} is neither a task nor a list. Pass a list: {option}=list(...).")
    if isinstance(source, str) and scope.is_param(source):
        if source in settings_of(scope.params):
            raise InvalidLink(f"{option}='{source}' is a Setting, which is no input. Declare a parameter without it.")
        check_list(source, scope.params[source], option)
        return source
    return scope.task(source)


def check_list(name: str, default: Any, option: str = "each", *, is_open: bool = True) -> None:
    """Raises InvalidLink for the default of a run parameter that is no list. One that *is_open* may get one yet."""
    if isinstance(default, list | tuple) or (is_open and (default is None or default is ...)):
        return
    if type(default) is SecretRef:
        raise InvalidLink(
            f"{option} can't go through '{name}': it is a secret. Declare the list as a parameter of its own."
        )
    kind = type(default).__name__
    raise InvalidLink(f"{option} can't go through '{name}': its default is of type {kind}. Declare a list: list(...).")


def check_is_saved(source: Task, name: str) -> None:
    """Raises InvalidLink if a resume does not know the value of a condition's source."""
    if not source.step.checkpoint:
        raise InvalidLink(
            f"A condition can't depend on '{name}', which has checkpoint=False: a resume does not have its value. "
            f"Return the value of the condition from another step."
        )


def make_conditions(when: Any, unless: Any, each: Sequence[Each], step: str, scope: Scope) -> tuple[Condition, ...]:
    """Returns the conditions of `add(when=..., unless=...)`, of which those on maps in step are decided for each item.

    Args:
        when: The option of `add`.
        unless: The option of `add`.
        each: The lists that the task goes through in step.
        step: Its step's name, for messages.
        scope: The names that it may refer to.

    Raises InvalidLink for a condition on a mapped task that is not in step.
    """
    conditions = [*_conditions(when, False, scope), *_conditions(unless, True, scope)]
    own = lists_behind(each, scope.tasks) if conditions else []
    for index, condition in enumerate(conditions):
        source = condition.source
        if isinstance(source, int) and scope.tasks[source].gives_items:
            if not any(_is_same(one, other) for one in own for other in lists_behind([Each("", source)], scope.tasks)):
                why = f"'{step}' is not mapped in step with it" if each else f"'{step}' is not mapped"
                raise InvalidLink(
                    f"{condition.word}: '{condition.name}' has a value for each item, and {why}. Return a bool from a "
                    f"step that takes the list of '{condition.name}', and use that."
                )
            conditions[index] = condition._replace(by_item=True)
    return tuple(conditions)


def lists_behind(each: Sequence[Each], tasks: Sequence[Task]) -> list[Any]:
    """Returns the lists that maps over these lists go through: tasks that return one, maps, and written-down lists."""
    lists: list[Any] = []
    left = [link.source for link in each]
    while left:
        source = left.pop()
        if not any(_is_same(source, known) for known in lists):
            lists.append(source)
            links = tasks[source].links if isinstance(source, int) and tasks[source].gives_items else None
            if links is not None and not links.levels[0].is_cross:
                left += [link.source for link in links.levels[0].each]
    return lists


def _is_same(one: Any, other: Any) -> bool:
    """Returns whether two lists are the same: of one task, or of the same objects."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(
            left is right or (type(left) is type(right) in PLAIN and left == right)
            for left, right in zip(one, other, strict=True)
        )
    return type(one) is type(other) and bool(one == other)


def _bind_by_name(name: str, required: bool, scope: Scope) -> Bind | None:
    task_id = scope.find(name)
    if task_id is not None:
        return Bind(name, VALUE, task_id, required, scope.part(name))
    task_name = name.removesuffix(SUFFIX)
    if task_name != name and (task_id := scope.find(task_name)) is not None and scope.part(task_name) is None:
        return Bind(name, CONTEXT, task_id, required)
    if name in scope.params:
        return Bind(name, PARAM, scope.param(name), required)
    settings = settings_of(scope.params)
    return Bind(name, PARAMS, AllParams(name, settings), required) if name == ALL_PARAMS else None


def _bind_needed(step: AnyAction, name: str, ref: Any, scope: Scope) -> Bind:
    required = step.named_params.get(name, True)
    if scope.is_param(ref):
        bind = Bind(name, PARAM, scope.param(ref), required)
    else:
        bind = Bind(name, VALUE, scope.task(ref), required, scope.part(ref))
    check_type(step, bind, scope)
    return bind


def check_type(step: AnyAction, bind: Bind, scope: Scope) -> None:
    """Raises InvalidLink if a task's value or Context, or a run parameter's default, can't fit the parameter."""
    if bind.kind == PARAM and isinstance(bind.source, str):
        default = scope.params[bind.source]
        if default is None or default is ... or type(default) is SecretRef:
            return
        from dotflow.graph.type_check import check_argument

        check_argument(step, bind.parameter, default, f"the default of '{bind.source}'")
    if isinstance(bind.source, int):
        from dotflow.graph.type_check import check_value, value_type  # here, since most workflows need no types

        source = scope.tasks[bind.source]
        if bind.kind == CONTEXT:
            check_value(step, bind.parameter, source, Context, "has a")
        else:
            check_value(step, bind.parameter, source, value_type(source, bind.part))


def _conditions(option: Any, negated: bool, scope: Scope) -> list[Condition]:
    pairs = option.items() if isinstance(option, Mapping) else [(ref, TRUE) for ref in listed(option)]
    conditions = []
    for ref, expected in pairs:
        if scope.is_param(ref):
            conditions.append(Condition(scope.param(ref), ref, expected, negated))
        else:
            task_id = scope.task(ref)
            name = ref if isinstance(ref, str) else scope.tasks[task_id].name
            check_is_saved(scope.tasks[task_id], name)
            part = scope.part(ref)
            if expected is not TRUE:
                from dotflow.graph.type_check import check_expected, returned_type

                given = returned_type(scope.tasks[task_id], part)  # a mapped condition is decided for each item
                check_expected("unless" if negated else "when", name, given, expected)
            conditions.append(Condition(task_id, name, expected, negated, part))
    return conditions
