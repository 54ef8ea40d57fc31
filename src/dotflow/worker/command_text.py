"""The text of a shell command: where its parameters stand, by the shell's own rules of quoting."""

import keyword
import re
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

PARAMETER: Final = re.compile(r"\{([^\W\d]\w*)\}")
#: The text `{name}`, in two pairs of braces.
ESCAPED: Final = re.compile(r"\{(\{[^\W\d]\w*\})\}")
HEREDOC: Final = re.compile(r"""<<(-?)[ \t]*(?:'([^'\n]+)'|"([^"\n]+)"|\\?([^\s'"\\;&|<>()]+))""")
FUNCTION: Final = re.compile(r"function\s+\w+(?:\s*\(\))?")
CASE: Final = re.compile(r"case\s[^\n;]*?\sin\b")
SUBSCRIPT: Final = re.compile(r"(?:^|[\s;&|(])(?:[^\W\d]\w*)?\[[^\]\s]*$")

#: Builtins that run or evaluate their arguments, at the beginning of a command.
EVALUATED: Final = re.compile(
    r"(?:^|[;&|({\n])(?:\s*(?:!|then|do|else|elif|if|while|until|time|command|builtin|\w+=\S*)(?=\s))*\s*\\?"
    r"(let|declare|typeset|local|unset|eval|trap|mapfile|readarray|(?:\[|test|printf)(?=[^;&|\n]*\s-v))[\s\[][^;&|\n]*$"
)
#: After it, an assignment is arithmetic, or is made to the variable that another one names.
DECLARED: Final = re.compile(r"\b(?:declare|typeset|local)\s+-[a-zA-Z]*[in]")

#: The contexts in which the shell does something else with a value than to pass it on, by what begins them: of each its
#: name, and what to write instead. In arithmetic and [[ ]], bash runs the commands in a value such as `a[$(touch x)]`.
REFUSED: Final = {
    "'": ("single quotes", "{0} without quotes"),
    "$'": ("single quotes", "{0} without quotes"),
    "`": ("backticks", "$(... {0} ...)"),
    "${": ("${...}", "{0} outside of it"),
    "((": ("arithmetic", "{0} outside of it"),
    "$[": ("arithmetic", "{0} outside of it"),
    "[[": ("[[...]]", "[ {0} ... ]"),
    "#": ("a comment", "{0} outside of it"),
    "<<": ("a heredoc", "printf '%s\\n' {0} | ..."),
    "f{": ("a function", "{0} where it is called, and $1 in it"),
    "f(": ("a function", "{0} where it is called, and $1 in it"),
}


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


class Parser:
    """Splits a command into texts and the places of its parameters, by the shell's rules of quoting.

    Args:
        text: The command.
        refuse: Raises the error for a reason.

    Attributes:
        pieces: The texts, and the places between them.
    """

    def __init__(self, text: str, refuse: Callable[[str], NoReturn]) -> None:
        self.pieces: list[str | Place] = []
        self._text = text
        self._refuse = refuse
        self._at = 0
        self._contexts: list[str] = []  # what is open here, the innermost last; "$(" and "(" hold commands again
        self._heredocs: list[re.Match[str]] = []  # whose bodies begin in the next line
        self._is_function = False  # whether a function's body begins with the next brace
        while self._at < len(text):
            if not self._take_braces():
                self._take(self._length())

    def _take(self, length: int) -> None:
        """Takes characters as they are."""
        self.pieces.append(self._text[self._at : self._at + length])
        self._at += length

    def _take_braces(self) -> bool:
        """Takes a parameter, or the text of one in two pairs of braces; returns whether there is one."""
        text, at = self._text, self._at
        if text[at] != "{" or text[at - 1 : at] == "$":
            return False
        if match := ESCAPED.match(text, at):
            self.pieces.append(match[1])
        elif (match := PARAMETER.match(text, at)) and not keyword.iskeyword(match[1]):
            self.pieces.append(self._place(match))
        else:
            return False
        self._at = match.end()
        return True

    def _place(self, match: re.Match[str]) -> Place:
        name, begin, end = match[1], match.start(), match.end()
        is_quoted = False
        for depth, context in enumerate(reversed(self._contexts)):
            is_quoted = is_quoted or context == '"'
            if context in REFUSED:
                self._refuse_place(name, *REFUSED[context])
            if context in ("$(", "(") and not {"`", "<<"}.intersection(self._contexts[: -depth - 1]):
                break
        if SUBSCRIPT.search(self._text, 0, begin):
            self._refuse_place(name, "the subscript of an array", "{0} outside of it")
        if (evaluated := EVALUATED.search(self._text, 0, begin)) is not None:
            builtin = f"{evaluated[1]} -v" if evaluated[1] in ("[", "test", "printf") else evaluated[1]
            self._refuse_place(name, f"the arguments of {builtin}, which evaluates them", "{0} outside of them")
        if DECLARED.search(self._text):
            self._refuse_place(name, "a command that declares integers or references", "{0} in another command")
        before, after = self._text[:begin], self._text[end : end + 1]
        starts = self._is_start(begin) and not before.rstrip(" \t").endswith(("<", ">"))
        return Place(name, is_quoted, starts and not is_quoted and (not after or after in " \t\n;&|)"))

    def _refuse_place(self, name: str, where: str, instead: str) -> NoReturn:
        field = f"{{{name}}}"
        self._refuse(f"{field} stands in {where}. Write {instead.format(field)}, or {{{field}}} for the text itself")

    def _is_start(self, at: int) -> bool:
        """Returns whether a word begins here."""
        return self._text[at - 1 : at] in ("", *" \t\n;&|()")

    def _length(self) -> int:
        """Returns how many characters to take, and notes which contexts begin and end with them."""
        text, at, contexts = self._text, self._at, self._contexts
        top = contexts[-1] if contexts else "$("
        char = text[at]
        if char == "\\" and top not in ("'", "#"):
            return 2
        if char == top[-1] and top in ("'", "$'", '"', "`"):
            contexts.pop()
            return 1
        if top in ("'", "$'", "`", "#"):
            if top == "#" and text.startswith("\n", at + 1):
                contexts.pop()
            return 1
        for begin in ("$((", "$(", "${", "`") if top == '"' else ("$((", "$(", "${", "$[", "$'", "'", '"', "`"):
            if text.startswith(begin, at):
                contexts.append("((" if begin == "$((" else begin)
                return len(begin)
        return 1 if top == '"' else self._length_in_command(top)

    def _length_in_command(self, top: str) -> int:
        """Returns the same outside of quotes."""
        text, at, contexts = self._text, self._at, self._contexts
        char, pair = text[at], text[at : at + 2]
        if (char == "}" and top == "${") or (char == "]" and top == "$["):
            contexts.pop()
        elif char == ")" and top in ("$(", "(", "(in", "f("):
            del contexts[-1:]
        elif char == ")" and top == "((":
            contexts[-1:] = [] if pair == "))" else ["("]  # it was no arithmetic, but two subshells
            return 2 if pair == "))" else 1
        elif top in ("((", "(in", "$[", "${"):
            if char == "(":
                contexts.append("(in")
        elif pair == "()":  # a function's, whose arguments are others
            self._is_function = True
            return 2
        elif self._is_start(at) and pair in ("((", "[["):
            contexts.append(pair)
            return 2
        elif self._is_start(at) and (match := FUNCTION.match(text, at)):
            self._is_function = True
            return len(match[0])
        elif char == "(" or (char == "{" and self._is_start(at) and pair[1:].isspace()):
            contexts.append(f"f{char}" if self._is_function else char)
            self._is_function = False
        elif char == "}" and self._is_start(at) and top in ("f{", "{"):
            contexts.pop()
        elif pair == "]]" and top == "[[":
            contexts.pop()
            return 2
        elif char == "#" and self._is_start(at):
            contexts.append("#")
        elif self._is_start(at) and CASE.match(text, at):  # its patterns end with a parenthesis
            contexts.append("case")
            return len("case")
        elif top == "case" and self._is_start(at) and text.startswith("esac", at):
            contexts.pop()
        elif pair == "<<":
            return self._begin_heredoc()
        elif char == "\n" and self._heredocs:
            self._take_heredocs()
            return 0
        return 1

    def _begin_heredoc(self) -> int:
        if self._text.startswith("<<<", self._at):
            return 3
        match = HEREDOC.match(self._text, self._at)
        if match is None:
            return 2
        self._heredocs.append(match)
        return len(match[0])

    def _take_heredocs(self) -> None:
        """Takes the bodies that begin with this line."""
        self._take(1)
        self._contexts.append("<<")
        for match in self._heredocs:
            tabs = "\t*" if match[1] else ""
            last = re.compile(f"^{tabs}{re.escape(match[match.lastindex or 0])}$", re.MULTILINE).search(
                self._text, self._at
            )
            end = len(self._text) if last is None else last.end()
            while self._at < end:
                if not self._take_braces():
                    self._take(1)
        self._heredocs.clear()
        self._contexts.pop()
