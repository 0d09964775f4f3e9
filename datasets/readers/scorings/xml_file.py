"""XML that anyone may have written: any encoding of text, no entities, and bounded."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from utils.errors import UserError

_LARGEST_BYTES, _MOST_ELEMENTS = 1 << 26, 200_000  # annotations of a night: 2 MB, 30,000 elements
_DEEPEST = 100  # elements within one another
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"),
)  # fmt: skip
_DECLARED = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']", re.ASCII)
# Python has them among its encodings of text
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape"}


def root_of(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Entities, which may unfold to gigabytes or name other files, are refused: annotations have none.

    Raises:
        UserError: it cannot be read, is no XML, or has an encoding that is unknown.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError(f"above {_LARGEST_BYTES >> 20} MB, which no annotations are")
        text = _decoded(path.read_bytes())
        return parsed(text)
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        raise UserError(f"{path}: not readable as XML ({error}); fetch it again") from error


def parsed(text: str) -> ElementTree.Element:
    """The root of XML as text, whatever encoding it claims.

    Raises:
        ValueError: it declares entities, or has too many or too deeply nested elements.
        ElementTree.ParseError: not well formed.
    """
    if "<!ENTITY" in text:
        raise ValueError("it declares entities, which are not unfolded here")
    parser = ElementTree.XMLParser(target=_Builder())
    parser.feed(text)
    return parser.close()


class _Builder(ElementTree.TreeBuilder):
    """A tree of limited size: an element takes fifty times the memory that it takes in the file."""

    def __init__(self) -> None:
        super().__init__()
        self._left, self._depth = _MOST_ELEMENTS, 0

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        self._left -= 1
        self._depth += 1
        if self._left < 0:
            raise ValueError(f"more than {_MOST_ELEMENTS:,} elements")
        if self._depth > _DEEPEST:
            raise ValueError(f"elements nested deeper than {_DEEPEST}")
        return super().start(tag, attrs)

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)


def _decoded(raw: bytes) -> str:
    """Text by its byte order mark or declaration; bytes that are no UTF-8 are Latin-1."""
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding)
    declared = _DECLARED.match(raw[:1024])
    name = declared[1].decode().lower() if declared else "utf-8"
    # text that was written as UTF-16 somewhere, and saved as bytes, keeps its declaration
    if re.sub(r"[-_]", "", name).startswith(("utf8", "utf16", "utf32")):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    if name.replace("-", "_") in _NO_CHARSETS:
        raise LookupError(f"unknown encoding: {name}")
    return raw.decode(name)
