"""Secret: a text that is shown nowhere."""

from typing import Final

MASK: Final = "***"


class Secret:
    """Holds a text for those who ask for it by name; printed, formatted or dumped it is three stars.

    A pickle holds it, since what is rebuilt elsewhere has to work there.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text. Keep it in no attribute and in no message."""
        return self._text

    def hide_in(self, text: str) -> str:
        """*text*, with stars wherever the secret stood in it."""
        return text.replace(self._text, MASK) if self._text else text

    def __repr__(self) -> str:
        return MASK
