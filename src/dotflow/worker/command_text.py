"""The text of a shell command, with its parameters. A value is a variable of the command, and never its text.

`{rows}` becomes the reference `"$rows"` where five sentences say that it is data; elsewhere the writer refers to it:

1. It stands outside of quotes and comments, in a word of letters, digits and `./:=,@%+-`.
2. It is not assigned, and the name of a command only where nothing follows.
3. No builtin that takes names or evaluates arguments stands in its line, such as `read`, `export` or `[`.
4. Nothing in the whole command evaluates text: `eval`, `trap`, arithmetic, `[[`, a here-document, backquotes.
5. In a line `: {rows}` it is always data.
"""

import keyword
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, NoReturn

FIELD: Final = re.compile(r"\\.|(?<!\$)\{(?:(\{[^\W\d]\w*\})\}|([^\W\d]\w*)\})", re.DOTALL)
ESCAPED: Final = re.compile(r"\{(\{[^\W\d]\w*\})\}")  # the text `{name}`, in two pairs of braces
WORD: Final = re.compile(r"(?<![^\s;&|()<>])(?:[\w./:=,@%+-]|(?<!\$)\{[^\W\d]\w*\})+(?![^\s;&|()<>])")
DECLARED: Final = re.compile(r"[ \t]*:(?:[ \t]+\{[^\W\d]\w*\})+[ \t]*")  # a line that only names parameters
ASSIGNED: Final = re.compile(r"\w+\+?=")
DUPLICATED: Final = re.compile(r"[<>]&[ \t]*$")  # a descriptor, not a file
#: What stands before the name of a command, and what behind a command without arguments.
BEGINS: Final = re.compile(
    r"(?:(?:^|[\n;&|(!{]|\b(?:do|elif|else|if|then|until|while)\b|(?<!\S)\w+\+?=[^\s()]*)[ \t]*"
    r"|[<>][&|]?[ \t]*[^\s<>&|()]+[ \t]+)$"
)
QUOTED: Final = re.compile(r"\\.|'[^']*'|\"(?:\\.|[^\"])*\"", re.DOTALL)
ENDS: Final = re.compile(r"[ \t]*(?:[\n;&|)]|$)")


def _words(names: str) -> str:
    return rf"(?<![\w./}}-])(?:{'|'.join(map(re.escape, names.split()))})(?![\w./-])"


#: What may evaluate text of the whole command. Quotes and backslashes have been taken out, as they may stand in a name;
#: a line that goes on behind a backslash has \v, and $'...' a backquote.
EVALUATES: Final = re.compile(
    r"`|\$\[|\(\(|\[\[|(?<!<)<<(?!<)|\v|\w\["
    r"|(?:^|[\n;&|({!]|\b(?:do|elif|else|if|then|until|while)\b)[ \t]*\$"  # a command whose name is a value
    + "|"
    + _words(
        "alias bind builtin case command compgen complete compopt coproc declare enable eval exec fc function "
        "getopts hash history integer jobs let local mapfile nameref readarray select source trap typeset"
    )
)
#: What takes names of variables, or evaluates arguments, in its own line. A format of printf may be an option.
TAKES_NAMES: Final = re.compile(
    r"printf\s+(?:--?\w*\s+)*[-{]|(?<!\S)\.\s+\S*\{|"
    + _words(
        "[ caller export popd pushd read readonly return set shopt suspend test time ulimit umask unalias unset wait"
    )
)


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
    fields = [field for field in FIELD.finditer(text) if field[1] or (field[2] and not keyword.iskeyword(field[2]))]
    words = {at: (word, may_be_list) for word, may_be_list in _data_words(text) for at in range(*word.span())}
    pieces: list[str | Place] = []
    end = 0
    for field in fields:
        escaped, name = field.groups()
        word, may_be_list = words.get(field.start(), (None, False))
        if word is None and not escaped:
            refuse(
                f"{{{name}}} stands where the shell might run or split its value, or take it as text. Write "
                f"\"${variable_of(name)}\" there and ': {{{name}}}' in a line before, or {{{{{name}}}}} for the text"
            )
        pieces += [
            text[end : field.start()],
            escaped or Place(name, word is not None and may_be_list and word[0] == field[0]),
        ]
        end = field.end()
    return [*pieces, text[end:]]


def _data_words(text: str) -> Iterator[tuple[re.Match[str], bool]]:
    """Yields the words with parameters that the shell takes as data, and whether they may be several."""
    evaluates = EVALUATES.search(_unquoted(text.replace("\\\n", "\v").replace("$'", "`"))) is not None
    for word in filter(lambda word: FIELD.search(word[0]), WORD.finditer(text)):
        line = text[text.rfind("\n", 0, word.start()) + 1 : text.find("\n", word.end()) % (len(text) + 1)]
        if DECLARED.fullmatch(line) and _is_outside_of_quotes(text, word):
            yield word, True
            continue
        scope = _unquoted(text if "$(" in text else line)
        before = QUOTED.sub("q", text[: word.start()])
        is_command = BEGINS.search(before) is not None
        may_run = is_command and not (ENDS.match(text, word.end()) and FIELD.fullmatch(word[0]))
        is_assigned = ASSIGNED.match(word[0]) or DUPLICATED.search(before)
        is_risky = evaluates or may_run or is_assigned or TAKES_NAMES.search(scope)
        if not is_risky and _is_outside_of_quotes(text, word):
            yield word, not is_command


def _unquoted(text: str) -> str:
    """Returns a text without its quotes and backslashes, and without the names of parameters."""
    return re.sub(r"['\"\\]", "", FIELD.sub(lambda field: field[0] if field[2] is None else "{}", text))


def _is_outside_of_quotes(text: str, word: re.Match[str]) -> bool:
    """Returns whether a word is one to the shell, too, and in no comment. Where it is not certain, it is not."""
    mark = "dotflow" + "_" * len(text)  # no word of the text
    lexer = shlex.shlex(text[: word.start()] + mark + text[word.end() :], posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return mark in lexer
    except ValueError:  # a quote that is not closed
        return False


def variable_of(name: str) -> str:
    """Returns the variable that has a parameter's value: its name, if neither the shell nor the system uses such."""
    return name if re.fullmatch(r"[a-z]\w*", name, re.ASCII) else f"dotflow_{name.encode().hex()}"
