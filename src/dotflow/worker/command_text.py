"""The text of a shell command, with its parameters. A value is a variable of the command, and never its text.

`{rows}` becomes the reference `"$rows"` only where that is plainly data. The text before it is read as five things:
spaces, separators, redirections, comments and words; what is none of them, such as a heredoc, leaves it unknown.
A reference is data as the target of a redirection, as an assigned value, as the only word of a command, and as an
argument of a command whose name is a literal, and no builtin that evaluates arguments or takes names of variables.
"""

import keyword
import re
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

FIELD: Final = re.compile(r"\\.|(?<!\$)\{(?:(\{[^\W\d]\w*\})\}|([^\W\d]\w*)\})", re.DOTALL)
ESCAPED: Final = re.compile(r"\{(\{[^\W\d]\w*\})\}")  # the text `{name}`, in two pairs of braces
#: Expansions of the user's own, which hold no parameter.
OPAQUE: Final = (
    r"\$(?:\w++|[#?@*!$-]|\{[^\s{}'\"`\\$()]*\}|\(\([\w\s+*/%<>-]*\)\)|\((?:(?!\bcase\b)[^()'\"`\\{}$#<])*\))"
)
OPEN: Final = rf'"(?:[^"\\`$]|\\.|{OPAQUE}|\$(?=[\s"]))*+'  # double quotes, up to a parameter in them
QUOTED: Final = re.compile(OPEN, re.DOTALL)
TOKEN: Final = re.compile(
    r"(?P<space>[ \t]+)|(?P<redirect>\d*(?:<<<|<>|>>|>\||[<>]&|&>>?|<(?![<(])|>(?!\()))|(?P<comment>#[^\n]*)"
    rf"|(?P<word>(?:[^\s;&|()<>'\"`\\$#]|(?<=[^\s;&|()<>])#|\\(?!\n#).|'[^']*'|{OPEN}\"|{OPAQUE})+)"
    r"|(?P<separator>[<>$]\(|[;&|()\n])",
    re.DOTALL,
)
KEYWORDS: Final = frozenset({"!", "{", "do", "elif", "else", "if", "then", "until", "while"})  # a command follows
COMMAND: Final = re.compile(r"[\w./:][\w./:+-]*")
ASSIGNMENT: Final = re.compile(r"[^\W\d]\w*\+?=.*", re.DOTALL)
ASSIGNED: Final = re.compile(
    r"[a-z_][a-z0-9_]*=.*", re.DOTALL
)  # PS4, RANDOM and others evaluate what they are assigned
EVALUATION: Final = re.compile(r"\b(?:declare|typeset|local|readonly|let|eval|trap)\b|\(\(|\$\[|\[\[")
FORMAT: Final = re.compile(r"'[^'-][^']*'|\"[^\"$`{-][^\"$`{]*\"|[%\w][^'\"$`\\{]*")  # which is no option of printf
OPERAND: Final = r"""(?:"?\{\w+\}"?|"\$\w+"|'[^']*'|[\w.,/:+]+)"""
TEST: Final = re.compile(
    rf"(?:\[|test)[ \t]+(?:{OPERAND}[ \t]+(?:!?=|-(?:eq|ne|lt|le|gt|ge))[ \t]+{OPERAND}|-[a-hknprstuwxz][ \t]+"
    rf"{OPERAND})(?:[ \t]+\])?(?=[ \t]*(?:$|[;&|)\n]))"
)
#: What a reference is to the shell: a word of its own among arguments, other data, or the name of a command.
ARGUMENT, VALUE, NAME, UNKNOWN = "argument", "value", "name", ""
#: Builtins of bash and others that run or evaluate their arguments, or take names of variables. TEST has [ and test.
EVALUATING: Final = re.compile(
    r"\.|alias|bind|builtin|caller|command|compgen|complete|compopt|coproc|declare|enable|eval|exec|export|fc|function|"
    "getopts|hash|history|integer|jobs|let|local|mapfile|nameref|popd|print|pushd|read|readarray|readonly|return|select|"
    "set|shopt|source|suspend|time|trap|typeset|ulimit|umask|unalias|unset|wait"
)


class Place(NamedTuple):
    """Where a value stands in a command.

    Attributes:
        name: The parameter.
        is_quoted: Whether it stands in double quotes.
        is_word: Whether it is a word of its own, so that a list may stand there.
    """

    name: str
    is_quoted: bool
    is_word: bool


def pieces_of(text: str, refuse: Callable[[str], NoReturn]) -> list[str | Place]:
    """Returns the texts of a command, and the places between them.

    Args:
        text: The command.
        refuse: Raises the error for a reason.
    """
    pieces: list[str | Place] = []
    at = 0
    for match in FIELD.finditer(text):
        escaped, name = match.groups()
        if escaped or (name and not keyword.iskeyword(name)):
            pieces += [text[at : match.start()], escaped or _place(text, name, match.start(), match.end(), refuse)]
            at = match.end()
    return [*pieces, text[at:]]


def variable_of(name: str) -> str:
    """Returns the variable that has a parameter's value: its name, if neither the shell nor the system uses such."""
    return name if re.fullmatch(r"[a-z]\w*", name, re.ASCII) else f"dotflow_{name.encode().hex()}"


def _place(text: str, name: str, begin: int, end: int, refuse: Callable[[str], NoReturn]) -> Place:
    tokens: list[re.Match[str]] = []
    at = 0
    while at < begin and (token := TOKEN.match(text, at, begin)) is not None:
        tokens.append(token)
        at = token.end()
    quoted = text[at:begin]
    is_comment = not quoted and bool(tokens) and tokens[-1].lastgroup == "comment"
    if is_comment or quoted.startswith(("'", "$'")):
        where, instead = ("a comment", "outside of it") if is_comment else ("single quotes", "without quotes")
        refuse(f"{{{name}}} stands in {where}. Write {{{name}}} {instead}, or {{{{{name}}}}} for the text itself")
    role = _role(text, tokens, begin) if not quoted or QUOTED.fullmatch(quoted) else UNKNOWN
    if role == UNKNOWN:
        refuse(
            f'{{{name}}} stands where the shell might run or split its value. Write "${variable_of(name)}" there and '
            f"': {{{name}}}' in a line before, or {{{{{name}}}}} for the text itself"
        )
    is_whole = not quoted and (end == len(text) or text[end] in " \t\n;&|)")
    return Place(name, bool(quoted), role == ARGUMENT and is_whole)


def _role(text: str, tokens: list[re.Match[str]], begin: int) -> str:
    """Returns what a reference behind tokens is to the shell; UNKNOWN where it may be more than data."""
    words: list[re.Match[str]] = []  # of the command that the reference stands in
    opened: list[int] = []  # where parentheses began
    redirect = last = ""
    is_closed = False
    for index, token in enumerate(tokens):
        kind, piece = token.lastgroup, token.group()
        if piece == "[[" or (piece == "(" and last.endswith("(")):
            return UNKNOWN  # a test or arithmetic, whose end is not looked for
        if kind == "separator":
            words, redirect, is_closed = [], "", piece == ")"  # what goes on behind ")" began before "("
            if is_closed:
                del opened[-1:]
            elif piece.endswith("("):
                opened.append(index)
        elif kind == "redirect":
            redirect = piece
        elif kind == "word" and not redirect:
            words.append(token)
        elif kind == "space" and not last.endswith(("<", ">", "&", "|")):
            redirect = ""
        last = piece
    for index in opened:  # what a command prints becomes arguments, too
        if tokens[index].group() == "$(" and _role(text, tokens[:index], tokens[index].start()) in (UNKNOWN, NAME):
            return UNKNOWN
    if redirect or is_closed:
        return VALUE if redirect and not redirect.endswith("&") else UNKNOWN  # bash expands what stands after >& twice
    partial = words.pop().group() if words and words[-1].end() == tokens[-1].end() else ""
    while words and (words[0].group() in KEYWORDS or ASSIGNMENT.fullmatch(words[0].group())):
        del words[0]
    if not words:
        is_assigned = ASSIGNED.fullmatch(partial) is not None and not EVALUATION.search(text)
        return VALUE if is_assigned else UNKNOWN if partial else NAME
    command, *arguments = (word.group() for word in words)
    is_data = COMMAND.fullmatch(command) is not None and EVALUATING.fullmatch(command) is None
    if command in ("[", "test"):
        test = TEST.match(text, words[0].start())
        return VALUE if test is not None and test.end() > begin else UNKNOWN
    if command == "for":
        is_data = len(arguments) > 1 and arguments[1] == "in"
    elif command == "printf":
        is_data = bool(arguments) and FORMAT.fullmatch(arguments[0]) is not None
    return UNKNOWN if not is_data else VALUE if partial or command == "case" else ARGUMENT
