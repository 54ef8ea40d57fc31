"""CodeForm: what a code object does, without its layout: no line numbers, docstrings or unused constants.

The module relies on CPython's bytecode: on `opcode`, on the units of `co_code` and on the exception table. A new minor
version of Python needs a look at these, by `tests/unit/test_fingerprint.py`:

- `SHIFTS`: which operands have flags below the index of a name.
- `PAIRS`: which instructions CPython joins to one if they stand on one line.
- `LAYOUT`: which names a class gets from its layout.
- The jumps and the exception table: their formats are those of 3.11 to 3.13.

What is missing there makes fingerprints change with the layout. It can't hide an edit, and fingerprints of different
minor versions are never compared.
"""

import functools
import hashlib
import opcode
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, Final, NamedTuple

SIZE: Final = 16  # bytes of a digest

#: The flags that belong to the meaning: *args, **kwargs, generators and coroutines.
FLAGS: Final = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200

OPS: Final = opcode.opmap
NOP, CACHE, EXTENDED_ARG = OPS["NOP"], OPS["CACHE"], OPS["EXTENDED_ARG"]
IMPORT_NAME, STORE_NAME, STORE_GLOBAL = OPS["IMPORT_NAME"], OPS["STORE_NAME"], OPS["STORE_GLOBAL"]
CONSTS: Final = frozenset(opcode.hasconst)
NAMES: Final = frozenset(opcode.hasname)
JUMPS: Final = frozenset((*opcode.hasjrel, *opcode.hasjabs))
BACKWARD: Final = frozenset(op for name, op in OPS.items() if "BACKWARD" in name)
GLOBALS: Final = frozenset(
    op for name, op in OPS.items() if name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
)
#: How many of an operand's lower bits are flags, where the rest is the index of a name.
SHIFTS: Final = {OPS["LOAD_GLOBAL"]: 1}
if "LOAD_SUPER_ATTR" in OPS:  # since 3.12
    SHIFTS.update({OPS["LOAD_ATTR"]: 1, OPS["LOAD_SUPER_ATTR"]: 2})
#: Two instructions in one, since 3.13. CPython only makes them of neighbours on one line.
PAIRS: Final = {
    OPS[f"{one}_{other}"]: (OPS[one], OPS[other])
    for one in ("LOAD_FAST", "STORE_FAST")
    for other in ("LOAD_FAST", "STORE_FAST")
    if f"{one}_{other}" in OPS
}
#: Whose operands are more than a number, or which do nothing by themselves.
SPECIAL: Final = JUMPS | CONSTS | NAMES | PAIRS.keys() | {NOP, EXTENDED_ARG}
#: Names that a class or module gets from its layout.
LAYOUT: Final = ("__doc__", "__firstlineno__", "__static_attributes__")

Instruction = tuple[int, Any]  # an opcode, and what its operand stands for


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
        assigned: The global names that it assigns.
    """

    shape: str
    globals: dict[str, None]
    attributes: dict[str, None]
    imports: dict[Import, None]
    assigned: dict[str, None]


@functools.lru_cache(maxsize=4096)  # many steps share their helpers
def form_of(code: CodeType) -> CodeForm:
    """Returns the form of a code object. It is comparable within one minor version of Python."""
    form = CodeForm("", {}, {}, {}, {})
    text = repr(_shape(code, form)).encode(errors="surrogatepass")
    return form._replace(shape=hashlib.blake2b(text, digest_size=SIZE).hexdigest())


def _shape(code: CodeType, form: CodeForm) -> tuple[Any, ...]:
    instructions: list[Instruction] = []
    targets: dict[int, int] = {}  # of jumps: the unit that each goes to, by the index of its instruction
    index_at: dict[int, int] = {}  # by unit: the index of its instruction
    units, extended = code.co_code + bytes((NOP, 0)), 0  # the last may be a jump, and handlers may reach up to there
    ops = units[::2]
    for unit, (op, operand) in enumerate(zip(ops, units[1::2], strict=True)):
        if op == CACHE:
            continue
        index_at[unit] = len(instructions)
        if extended:
            operand |= extended
            extended = 0
        if op not in SPECIAL:  # most
            instructions.append((op, operand))
        elif op in JUMPS:
            after = unit + 1
            while ops[after] == CACHE:
                after += 1
            targets[len(instructions)] = after - operand if op in BACKWARD else after + operand
            instructions.append((op, None))
        elif op in CONSTS:
            instructions.append((op, _const_shape(code.co_consts[operand], form)))
        elif op in NAMES:
            bits = SHIFTS.get(op, 0)
            _add_name((op, (code.co_names[operand >> bits], operand & ((1 << bits) - 1))), instructions, form)
        elif op in PAIRS:
            one, other = PAIRS[op]
            instructions += ((one, operand >> 4), (other, operand & 15))
        elif op == EXTENDED_ARG:
            extended = operand << 8
    for index, unit in targets.items():
        instructions[index] = (instructions[index][0], index_at[unit])
    return (
        code.co_flags & FLAGS,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        (code.co_varnames, code.co_cellvars, code.co_freevars),
        instructions,
        _handlers(code.co_exceptiontable, index_at),
    )


def _add_name(instruction: Instruction, instructions: list[Instruction], form: CodeForm) -> None:
    op, (name, _) = instruction
    if op == STORE_NAME and name in LAYOUT and instructions[-1][0] in CONSTS:
        del instructions[-1]
        return
    if op == IMPORT_NAME:
        level, names = instructions[-2][1], instructions[-1][1]  # shapes of constants
        imported = tuple(shape[1] for shape in names[1]) if isinstance(names[1], tuple) else ()
        form.imports[Import(name, imported, level[1])] = None
    (form.globals if op in GLOBALS else form.assigned if op == STORE_GLOBAL else form.attributes)[name] = None
    instructions.append(instruction)


def _const_shape(value: Any, form: CodeForm) -> tuple[Any, ...]:
    """Returns a constant with its type, since 1 == True == 1.0; the elements of a set are sorted."""
    kind = type(value)
    if kind is CodeType:
        return ("code", _shape(value, form))
    if kind is tuple:
        return ("tuple", tuple(_const_shape(element, form) for element in value))
    if kind is frozenset:
        return ("set", tuple(sorted((_const_shape(element, form) for element in value), key=repr)))
    return (kind.__name__, value)


def _handlers(table: bytes, index_at: Mapping[int, int]) -> list[tuple[int, ...]]:
    """Returns the exception table by index of instruction: (first, end, handler, depth)."""
    numbers = _varints(table)
    return [
        (index_at[first], index_at[first + length], index_at[target], depth)
        for first, length, target, depth in zip(*[iter(numbers)] * 4, strict=True)
    ]


def _varints(table: bytes) -> Iterator[int]:
    """Yields the numbers of an exception table: six bits a byte, 64 for one more byte, 128 for a first byte."""
    value = 0
    for byte in table:
        value = (value << 6) | (byte & 63)
        if not byte & 64:
            yield value
            value = 0
