"""Masks: replaces secrets with `***` in what dotflow writes, in every form that they are likely to have there."""

import binascii
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, AnyStr, Final

MASK: Final = "***"
MIN_LENGTH: Final = 4  # characters of a secret; a shorter one would mask ordinary text
MIN_BEGINNING: Final = 6  # characters of a secret's beginning at the end of a stream
MIN_LINE: Final = 8  # characters of a line of a secret with several, some of which are ordinary text, such as "}"
MIN_BASE64: Final = 6  # characters of a secret's own part in the base64 of a longer text
MIN_VARIABLE: Final = 8  # characters of an environment variable that is secret by its name
DIGEST_ROUNDS: Final = 200_000  # of the digest of a secret: about a twentieth of a second
MAX_HELD: Final = 1_000_000  # bytes that a stream holds back

#: The names of environment variables with secrets end so.
SECRET_NAMES: Final = (
    "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS", "DSN", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY",
)  # fmt: skip
#: What URLs leave as it is: in a query, in a path, by JavaScript's encodeURIComponent, by libraries that quote a URL.
SAFE_IN_URLS: Final = ("", "/", "!*'()", "!#$%&'()*+,/:;=?@[]~")

URL_SAFE: Final = str.maketrans("+/", "-_")  # the other alphabet of base64

Span = tuple[int, int]


class Masks:
    """The secrets of a run. Their forms are made on first use, since most runs write none of them.

    Forms are the secret itself, its lines, and its base64, percent-encoded, JSON- and repr-escaped forms. The base64
    forms are also found inside that of a longer text, such as `user:password`.

    Args:
        values: The secrets. Those of fewer than four characters are left out.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = frozenset(value for value in values if len(value) >= MIN_LENGTH)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __or__(self, other: "Masks") -> "Masks":
        """Returns the masks of the secrets of both."""
        return self if other._values <= self._values else Masks(self._values | other._values)

    def mask(self, text: str) -> str:
        """Returns the text with `***` in place of each secret."""
        if not self._values:
            return text
        return _replace(text, self.forms, MASK)

    def mask_bytes(self, data: bytes) -> bytes:
        """Returns the data with `***` in place of each secret in UTF-8. For chunks of a stream, use MaskedStream."""
        return _replace(data, self.byte_forms, MASK.encode())

    def mask_end(self, text: str) -> str:
        """Returns the same, and at the end of the text `***` in place of the beginning of a secret."""
        stream = MaskedStream(self)
        return (stream.feed(_encode(text)) + stream.flush()).decode(errors="surrogateescape")

    def mask_id(self, text: str) -> str:
        """Returns an id with a digest in place of each secret. Equal ids stay equal, and others differ."""
        if not any(value in text for value in self._values):
            return text
        return _replace(text, self.forms, digest_of_secret(text, ""))

    def mask_ref(self, ref: Any) -> Any:
        """Returns a reference to a task, whose name is masked as an id."""
        return self.mask_id(ref) if isinstance(ref, str) else ref

    @functools.cached_property
    def forms(self) -> Sequence[str]:
        """The texts that are replaced, the longest first."""
        return sorted({form for value in self._values for form in forms_of(value)}, key=lambda form: (-len(form), form))

    @functools.cached_property
    def byte_forms(self) -> Sequence[bytes]:
        """The bytes that are replaced."""
        return [_encode(form) for form in self.forms]

    def __reduce__(self) -> tuple[type["Masks"], tuple[frozenset[str]]]:
        """Leaves the forms out, which are many times as large."""
        return Masks, (self._values,)

    def __repr__(self) -> str:
        return f"<masks of {len(self._values)} secrets>"


NO_MASKS: Final = Masks()


class MaskedStream:
    """Masks a stream in chunks: together, the results are what `Masks.mask_bytes` returns for all of the data.

    What may be the beginning of a secret at the end of a chunk is held back for the next one. At the end of the stream
    it is masked, too: a step that is killed may have printed a part of a secret.
    """

    __slots__ = ("_held", "_masks")

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Returns what can be written by now."""
        if not self._masks:
            return data
        data = self._held + data
        forms = self._masks.byte_forms
        spans = _spans(data, forms)
        end = min(_partial(data, form) for form in forms)
        for begin, stop in reversed(spans):
            if begin < end < stop:  # a whole secret that overlaps what may be the next one
                end = begin
        if not end and len(data) > MAX_HELD:
            end = len(data)
        self._held = data[end:]
        return _without(data[:end], [span for span in spans if span[1] <= end], MASK.encode())

    def cut(self, data: bytes | bytearray, at: int) -> int:
        """Returns where the data that follows can be cut: at *at*, or at the end of the secret that is there."""
        if not self._masks:
            return at
        forms = self._masks.byte_forms
        reach = len(forms[0])  # the longest
        first = max(at - reach, 0)
        before = self._held if not first else b""
        near = before + bytes(data[first : at + reach])
        where = at - first + len(before)
        end = next((stop for begin, stop in _spans(near, forms) if begin < where < stop), where)
        return first + end - len(before)

    def flush(self) -> bytes:
        """Returns what was held back, at the end of the stream."""
        held, self._held = self._held, b""
        if not held:
            return b""
        forms = self._masks.byte_forms
        spans = _spans(held, forms)
        begin = min(_partial(held, form, MIN_BEGINNING) for form in forms)
        if begin < len(held):
            spans = _merged([*spans, (begin, len(held))])
        return _without(held, spans, MASK.encode())


#: The secrets of the command line, which this process masks in all that it writes.
hidden: Final[set[str]] = set()


def hide(name: str, value: str) -> None:
    """Masks the value of a parameter of the command line. A short one is masked with its name, as `--param` has it."""
    if value:
        hidden.add(value if len(value) >= MIN_LENGTH else f"{name}={value}")


def hide_all(masks: Masks) -> None:
    """Masks the secrets of a workflow that the command line has loaded: what people type may have one of them."""
    hidden.update(masks._values)


@functools.lru_cache(maxsize=64)
def digest_of_secret(text: str, salt: str) -> str:
    """Returns 32 hexadecimal digits that name a secret, the same in every process.

    It is slow on purpose: with a file name or an id in hand, each guess of the secret takes as long.
    """
    import hashlib  # here, since most runs have no such id

    return hashlib.pbkdf2_hmac("sha256", _encode(text), b"dotflow " + _encode(salt), DIGEST_ROUNDS, 16).hex()


def secret_variables() -> list[str]:
    """Returns the values of the environment's variables that are secret by their names."""
    values = [os.environ[name] for name in os.environ if name.upper().endswith(SECRET_NAMES)]  # others may be gone
    return [value for value in values if len(value) >= MIN_VARIABLE]


def environment_masks() -> Masks:
    """Returns the masks of the environment's secrets, and of the command line's, for messages outside of a run."""
    return Masks([*secret_variables(), *hidden])


@functools.lru_cache(maxsize=64)
def forms_of(value: str) -> frozenset[str]:
    """Returns the forms in which a secret may be written."""
    from urllib.parse import quote, quote_plus  # here, since most runs mask nothing

    forms = {value, value.strip(), *_escaped(value)}
    forms.update(line.strip() for line in value.splitlines() if len(line.strip()) >= MIN_LINE)
    data = _encode(value)
    for safe in SAFE_IN_URLS:
        forms.update(_either_case(quote(data, safe=safe)))
    forms.update(_either_case(quote_plus(data)))
    forms.update(_base64_forms(data))
    return frozenset(form for form in forms if len(form) >= MIN_LENGTH)


def _escaped(value: str) -> Iterator[str]:
    """Yields the value as it is inside of JSON and of Python's reprs, whose quotes depend on the text around it."""
    import json  # here, since most runs mask nothing

    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    data = _encode(value)
    yield from (repr(value)[1:-1], ascii(value)[1:-1], repr(data)[2:-1])
    yield from (repr(f'"{value}')[2:-1], ascii(f'"{value}')[2:-1], repr(b'"' + data)[3:-1])


def _either_case(encoded: str) -> tuple[str, str]:
    return encoded, re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)


def _base64_forms(data: bytes) -> Iterator[str]:
    """Yields the base64 of the data, and the characters that any longer text with it has, by the offset modulo 3."""
    encoded = [_base64(data)]
    for offset in range(3):
        first, end = -(-offset * 8 // 6), (offset + len(data)) * 8 // 6
        if end - first >= MIN_BASE64:
            encoded.append(_base64(bytes(offset) + data + bytes(2))[first:end])
    for form in encoded:
        yield form
        yield form.translate(URL_SAFE)


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _encode(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")  # as the environment's values were decoded
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def _replace(data: AnyStr, forms: Sequence[AnyStr], mask: AnyStr) -> AnyStr:
    spans = _spans(data, forms)
    return _without(data, spans, mask) if spans else data


def _spans(data: AnyStr, forms: Sequence[AnyStr]) -> list[Span]:
    """Returns what the forms cover, in order; overlapping ones are one span, so that no end of one remains."""
    matches: list[Span] = []
    for form in forms:
        begin = data.find(form)
        while begin >= 0:
            matches.append((begin, begin + len(form)))
            begin = data.find(form, begin + 1)
    return matches if len(matches) < 2 else _merged(matches)


def _merged(matches: list[Span]) -> list[Span]:
    matches.sort()
    spans = [matches[0]]
    for begin, end in matches[1:]:
        last, last_end = spans[-1]
        if begin < last_end:
            spans[-1] = last, max(end, last_end)
        else:
            spans.append((begin, end))
    return spans


def _without(data: AnyStr, spans: Sequence[Span], mask: AnyStr) -> AnyStr:
    ends = [0, *(end for _, end in spans)]
    begins = [*(begin for begin, _ in spans), len(data)]
    return mask.join([data[end:begin] for end, begin in zip(ends, begins, strict=True)])


def _partial(data: bytes, form: bytes, size: int = 1) -> int:
    """Returns where the beginning of a form begins that is the end of the data; the data's length if there is none.

    Only beginnings of *size* bytes or more count.
    """
    first = max(len(data) - len(form) + 1, 0)
    while (first := data.find(form[:size], first)) >= 0:
        if form.startswith(data[first:]):
            return first
        first += 1
    return len(data)
