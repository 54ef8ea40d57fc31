"""Hidden: a text that no repr shows."""

from typing import Final

MASK: Final = "***"


class Hidden:
    """Holds a text. Printing, formatting or dumping it shows three asterisks; a pickle holds the text itself."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Returns the text. Keep it in no attribute and in no message."""
        return self._text

    def hide_in(self, text: str) -> str:
        """Returns *text* with the secret masked."""
        return text.replace(self._text, MASK) if self._text else text

    def __repr__(self) -> str:
        return MASK
