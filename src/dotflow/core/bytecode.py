"""CodeForm: what a code object does, without its layout: no line numbers, docstrings or unused constants."""

import functools
import hashlib
import opcode
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any, Final, NamedTuple

SIZE: Final = 16  # bytes of a digest

#: The flags that belong to the meaning: *args, **kwargs, generators and coroutines.
FLAGS: Final = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200

_OPS: Final = opcode.opmap
_NOP: Final = _OPS["NOP"]
_CACHE: Final = _OPS["CACHE"]
_EXTENDED_ARG: Final = _OPS["EXTENDED_ARG"]
_LOAD_CONST: Final = _OPS["LOAD_CONST"]
_IMPORT_NAME: Final = _OPS["IMPORT_NAME"]
_RETURN_VALUE: Final = _OPS["RETURN_VALUE"]
_RETURN_CONST: Final = _OPS.get("RETURN_CONST", -1)
_CONSTS: Final = frozenset(opcode.hasconst)
_NAMES: Final = frozenset(opcode.hasname)
_JUMPS: Final = frozenset((*opcode.hasjrel, *opcode.hasjabs))
_BACKWARD: Final = frozenset(op for name, op in _OPS.items() if "BACKWARD" in name)
_GLOBALS: Final = frozenset(_OPS[name] for name in ("LOAD_GLOBAL", "LOAD_NAME") if name in _OPS)
#: How many of an operand's lower bits are flags, where the rest is the index of a name.
_NAME_FLAGS: Final = {
    _OPS[name]: bits
    for name, bits in (("LOAD_GLOBAL", 1), ("LOAD_ATTR", 1), ("LOAD_SUPER_ATTR", 2))
    if name in _OPS and (name == "LOAD_GLOBAL" or "LOAD_METHOD" not in _OPS or _OPS["LOAD_METHOD"] > 255)
}
#: Two instructions in one, which CPython only makes of neighbours on the same line.
_PAIRS: Final = {
    _OPS[f"{one}_{other}"]: (_OPS[one], _OPS[other])
    for one in ("LOAD_FAST", "STORE_FAST")
    for other in ("LOAD_FAST", "STORE_FAST")
    if f"{one}_{other}" in _OPS
}
#: Unconditional jumps: a jump to one of them goes on to its target, on the same line at once.
_PLAIN_JUMPS: Final = frozenset(_OPS[name] for name in ("JUMP_FORWARD", "JUMP_BACKWARD") if name in _OPS)
#: Jumps backward -> the same forward.
_FORWARD: Final = {
    op: _OPS[name.replace("BACKWARD", "FORWARD")]
    for name, op in _OPS.items()
    if name.replace("BACKWARD", "FORWARD") in _OPS
}
_STORE_FAST: Final = _OPS["STORE_FAST"]
_POP_TOP: Final = _OPS["POP_TOP"]
#: Names that a class or module gets from its layout.
_LAYOUT: Final = ("__doc__", "__firstlineno__", "__static_attributes__")


class Import(NamedTuple):
    """An import statement inside of a function."""

    module: str
    names: tuple[str, ...]
    level: int


class CodeForm(NamedTuple):
    """What a code object does, and the names that it looks up.

    Attributes:
        shape: A digest: code objects of the same shape do the same.
        globals: The global names, in the order of their first use, those of inner functions included.
        attributes: The names of attributes.
        imports: Its import statements.
    """

    shape: str
    globals: dict[str, None]
    attributes: dict[str, None]
    imports: dict[Import, None]


@functools.lru_cache(maxsize=4096)  # many steps share their helpers
def form_of(code: CodeType) -> CodeForm:
    """Returns the form of a code object. It is comparable within one minor version of Python."""
    form = CodeForm("", {}, {}, {})
    return form._replace(shape=hashlib.blake2b(_text(_shape(code, form)), digest_size=SIZE).hexdigest())


def _text(shape: tuple[Any, ...]) -> bytes:
    return repr(shape).encode(errors="surrogatepass")


def _shape(code: CodeType, form: CodeForm) -> tuple[Any, ...]:
    instructions: list[tuple[int, Any]] = []
    jumps: list[tuple[int, int]] = []  # the index of an instruction, and the unit that it jumps to
    index_at: list[int] = []  # for each unit, the index of its instruction
    for unit, op, operand, after in _units(code.co_code):
        index_at += [len(instructions)] * (unit + 1 - len(index_at))
        if op in _JUMPS:
            jumps.append((len(instructions), after - operand if op in _BACKWARD else after + operand))
            instructions.append((_FORWARD.get(op, op), None))
        elif op in _CONSTS:
            instructions.append((_LOAD_CONST, _const_shape(code.co_consts[operand], form)))
            if op == _RETURN_CONST:
                instructions.append((_RETURN_VALUE, 0))
        elif op in _NAMES:
            _add_name(op, operand, code.co_names, instructions, form)
        elif op in _PAIRS:
            one, other = _PAIRS[op]
            _add_local(one, operand >> 4, instructions)
            _add_local(other, operand & 15, instructions)
        else:
            _add_local(op, operand, instructions)
    index_at += [len(instructions)] * (len(code.co_code) // 2 + 1 - len(index_at))
    _set_targets(instructions, jumps, index_at)
    return (
        code.co_flags & FLAGS,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        (code.co_varnames, code.co_cellvars, code.co_freevars),
        tuple(instructions),
        _handlers(code.co_exceptiontable, index_at),
    )


def _units(code: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields the unit, opcode and operand of each instruction but NOPs, and the unit after it and its caches."""
    extended = 0
    count = len(code) // 2
    unit = 0
    while unit < count:
        op, operand = code[2 * unit], code[2 * unit + 1] | extended
        after = unit + 1
        while after < count and code[2 * after] == _CACHE:
            after += 1
        extended = 0
        if op == _EXTENDED_ARG:
            extended = operand << 8
        elif op != _NOP:
            yield unit, op, operand, after
        unit = after


def _add_name(
    op: int, operand: int, names: tuple[str, ...], instructions: list[tuple[int, Any]], form: CodeForm
) -> None:
    bits = _NAME_FLAGS.get(op, 0)
    name = names[operand >> bits]
    if name in _LAYOUT and instructions and instructions[-1][0] == _LOAD_CONST:
        instructions.pop()
        return
    if op == _IMPORT_NAME:
        _note_import(name, instructions, form)
    (form.globals if op in _GLOBALS else form.attributes)[name] = None
    instructions.append((op, (name, operand & ((1 << bits) - 1))))


def _add_local(op: int, operand: int, instructions: list[tuple[int, Any]]) -> None:
    """Adds an instruction. CPython removes a value that is overwritten at once only on the same line."""
    if op == _STORE_FAST:
        before = len(instructions) - 1
        while before >= 0 and (instructions[before][0] in (_STORE_FAST, _POP_TOP)):
            if instructions[before] == (_STORE_FAST, operand):
                instructions[before] = (_POP_TOP, 0)
                break
            before -= 1
    instructions.append((op, operand))


def _set_targets(
    instructions: list[tuple[int, Any]], jumps: Sequence[tuple[int, int]], index_at: Sequence[int]
) -> None:
    target_of = {index: index_at[unit] for index, unit in jumps}
    for index, target in target_of.items():
        passed = {index}
        while target not in passed and target in target_of and instructions[target][0] in _PLAIN_JUMPS:
            passed.add(target)
            target = target_of[target]
        instructions[index] = (instructions[index][0], target)


def _note_import(name: str, instructions: list[tuple[int, Any]], form: CodeForm) -> None:
    level, names = instructions[-2][1], instructions[-1][1]
    imported = tuple(each[1] for each in names[1]) if isinstance(names[1], tuple) else ()
    form.imports[Import(name, imported, level[1] if isinstance(level, tuple) else level)] = None


def _const_shape(value: Any, form: CodeForm) -> tuple[Any, ...]:
    """Returns a constant with its type, since 1 == True == 1.0; the elements of a set are sorted."""
    kind = type(value)
    if kind is CodeType:
        return ("code", _shape(value, form))
    if kind is tuple:
        return ("tuple", tuple(_const_shape(each, form) for each in value))
    if kind is frozenset:
        return ("set", tuple(sorted((_const_shape(each, form) for each in value), key=repr)))
    return (kind.__name__, repr(value) if kind in (float, complex) else value)  # 0.0 == -0.0


def _handlers(table: bytes, index_at: list[int]) -> tuple[tuple[int, ...], ...]:
    """Returns the exception table by index of instruction: (first, end, handler, depth), neighbours merged."""
    handlers: list[tuple[int, ...]] = []
    numbers = _varints(table)
    for first, length, target, depth in zip(numbers[::4], numbers[1::4], numbers[2::4], numbers[3::4], strict=True):
        start, end, handler = index_at[first], index_at[first + length], index_at[target]
        if start == end:
            continue
        last = handlers[-1] if handlers else ()
        if last and last[1:] == (start, handler, depth):
            handlers[-1] = (last[0], end, handler, depth)
        else:
            handlers.append((start, end, handler, depth))
    return tuple(handlers)


def _varints(table: bytes) -> list[int]:
    """Returns the numbers of an exception table: six bits a byte, 64 for one more byte, 128 for a first byte."""
    numbers = []
    value = 0
    for byte in table:
        value = (value << 6) | (byte & 63)
        if not byte & 64:
            numbers.append(value)
            value = 0
    return numbers
