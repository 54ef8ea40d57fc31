"""The text of a shell command, with its parameters. A value is a variable of the command, and never its text.

`{rows}` becomes the reference `"$rows"` in a plain command only. `COMMAND` has all that is plain; the rest is refused.

1. A value is an argument or a file, outside of quotes, or a program without arguments.
2. The name of a command is literal, and no builtin of a shell but those that evaluate nothing.
3. An assignment is literal.
4. Nothing else is plain: no function, `case`, `[`, arithmetic, here-document or backquote.
5. First lines such as `: {rows}` name parameters; without others, any text may follow.
"""

import keyword
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple, NoReturn

from dotflow.core.text import shorten

FIELD: Final = re.compile(r"\\.|(?<!\$)\{(?:(\{[^\W\d]\w*\})\}|([^\W\d]\w*)\})", re.DOTALL)
ESCAPED: Final = re.compile(r"\{(\{[^\W\d]\w*\})\}")  # the text `{name}`, in two pairs of braces
MAX_SHOWN: Final = 60  # characters of what is not plain, in the error

#: Builtins and reserved words of bash, dash, busybox and ksh. They may evaluate their arguments, take them as names of
#: variables, or change how the shell reads the commands behind them.
NOT_PLAIN: Final = (
    "[ [[ . alias autoload bg bind break builtin caller case chdir command compgen complete compopt continue coproc "
    "declare dirs disown do done elif else enable esac eval exec export fc fg fi float for function functions getopts "
    "global hash hist history if in integer jobs let local logout mapfile nameref newgrp popd print printf pushd "
    "read readarray readonly return select set shift shopt source stop suspend test then time times trap type typeset "
    "ulimit umask unalias unset until wait whence while"
)
END: Final = r"(?=[ \t\n;|&)]|\Z)"  # of a word
SPACE: Final = r"[ \t]+(?:\\\n[ \t]*)*+"
COMMENT: Final = r"(?<![^ \t\n;|&(])\#[^\n\0]*(?=\n|\Z)"  # not behind `$(x)`, as that is one word with what follows
GAP: Final = rf"(?:{SPACE}|\n|{COMMENT})*+"
SAFE: Final = r"[\w./:=,@%+-]"  # characters that mean nothing to a shell
VARIABLE: Final = r"\$(?:\w+|[@*\#?$!-]|\{\#?\w+(?:\[@\])?(?:(?::?[-+?]|\#\#?|%%?)[\w./:,@%+*?-]*)?\}|(?=[\" \t\n]))"
NAME: Final = r"[a-z][a-z0-9_]*"  # of a variable that a shell uses for nothing
ASSIGNED: Final = rf"[A-Za-z_]\w*={SAFE}*"
ARGUMENT: Final = rf"""
    {SPACE} | {COMMENT} | {VARIABLE} | \\[^\n\0] | \0
    | '[^'\0]*' | "(?:[^"\\`$\0]|\\[^\0]|{VARIABLE}|\$\((?:{SAFE}|[ ])+\))*+"
    | [<>]&(?:\d+|-){END} | (?:<<<|<>|>>|>\||[<>])(?![<>&|(])  # a descriptor, a file
    | [^\s\0'"\\`$\#;|&()<>][^\s\0'"\\`$;|&()<>]* | \)
"""
#: A command, until the next one or a substitution begins. \0 stands for a value.
COMMAND: Final = re.compile(
    rf"""
    {GAP}
    (?:
        (?:(?:if|then|elif|else|while|until|do|!|{{)(?=[ \t\n]) | \((?!\() | {ASSIGNED}(?=[ \t]+[^ \t\n;|&)\#])) {GAP}
    )*+
    (?:
        (?P<alone>
            \0 | {ASSIGNED} | export[ \t]+{ASSIGNED} | read(?:[ \t]+-r)?(?:[ \t]+{NAME})+ | set[ \t]+[-+][efuvx]+
            | wait | break | continue
        )(?=[ \t]*(?:[;\n|&)]|\Z))
        | (?:
            (?!(?:{"|".join(map(re.escape, NOT_PLAIN.split()))}){END})[\w./:+-]+{END}
            | printf[ \t]+(?=(?!-){SAFE}+{END}|%|'[^'-]|"(?!\\\n)[^"$-])  # a format that is no option
            | for[ \t]+{NAME}[ \t]+in{END} | (?:done|fi|}}){END} | \)
        )
        (?:{ARGUMENT})*+
    )
    [ \t]*(?:\|\||&&|[|;&\n]|[$<>]\((?!\()|\Z)
    """,
    re.VERBOSE | re.ASCII,
)
DECLARED: Final = re.compile(rf"(?:{GAP}:(?:[ \t]+\0)+[ \t]*(?:\n|\Z))*+")  # first lines that only name parameters
LAST: Final = re.compile(GAP)
WORD: Final = re.compile(r"(?<![^ \t\n;|&(])\0(?![^ \t\n;|&)<>])")


class Place(NamedTuple):
    """Where a value stands in a command.

    Attributes:
        name: The parameter.
        is_word: Whether it is a word of its own, so that a list may stand there.
    """

    name: str
    is_word: bool


def pieces_of(text: str, refuse: Callable[[str], NoReturn]) -> list[str | Place]:
    """Returns the texts of a command, and the places between them.

    Args:
        text: The command.
        refuse: Raises the error for a reason.
    """
    names: list[str] = []

    def mark(field: re.Match[str]) -> str:
        escaped, name = field.groups()
        if not name or keyword.iskeyword(name):
            return escaped or field[0]
        names.append(name)
        return "\0"

    whole = FIELD.sub(mark, text)
    words = {word.start() for word in WORD.finditer(whole)} - _programs(whole, names, refuse)
    places = [Place(name, place.start() in words) for name, place in zip(names, re.finditer("\0", whole), strict=True)]
    return [piece for pair in zip_longest(whole.split("\0"), places) for piece in pair if piece is not None]


def _programs(whole: str, names: Sequence[str], refuse: Callable[[str], NoReturn]) -> set[int]:
    """Returns where a value is the whole of a command. Refuses what is not plain, if a value stands in it."""
    programs: set[int] = set()
    at = DECLARED.match(whole).end()  # type: ignore[union-attr]  # it may be empty
    free = names[whole.count("\0", 0, at) :]
    while free and (command := COMMAND.match(whole, at)):
        programs.add(command.start("alone"))
        at = command.end()
    if free and not LAST.fullmatch(whole, at):
        left = list(names[whole.count("\0", 0, at) :])
        name = (left or free)[0]
        rest = re.sub("\0", lambda _: f"{{{left.pop(0)}}}", whole[at:].strip())
        refuse(
            f"{{{name}}} can't be replaced: the command is not plain from {shorten(rest, MAX_SHOWN)!r} on. Write "
            f"\"${variable_of(name)}\" there, and ': {{{'} {'.join(dict.fromkeys(free))}}}' in the first line, or "
            f"{{{{{name}}}}} for the text"
        )
    return programs


def variable_of(name: str) -> str:
    """Returns the variable that has a parameter's value: its name, if neither the shell nor the system uses such."""
    return name if re.fullmatch(r"[a-z]\w*", name, re.ASCII) else f"dotflow_{name.encode().hex()}"
