"""The bytes of a scoring as text: byte order marks, UTF-16 without one, Latin-1, and safe XML."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from datasets.readers.scorings.scoring import Text
from datasets.readers.scorings.xml_file import parsed
from utils.errors import UserError, unreadable

_LARGEST_BYTES = 16_000_000  # a value per sample of a long night; no scoring is larger
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")
)  # fmt: skip
# first bytes of what is often named where text is wanted
_BINARY = {
    b"PK\x03\x04": "an Excel workbook or another zip; save its sheet as csv",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save its sheet as csv",
    b"\x89HDF": "an HDF5 file",
    b"MATLAB": "a MATLAB file; save its stages as text",
    b"%PDF": "a PDF; export the stages as text",
    b"\x93NUMPY": "an array of numpy; save it with numpy.savetxt",
}


def text_of(path: Path) -> Text:
    """Read a file as text, whatever its encoding.

    Raises:
        UserError: it cannot be read, is too large, or no text.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes; no scoring is that large")
        raw = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    for first, what in _BINARY.items():
        if raw.startswith(first):
            raise UserError(f"{path}: not a scoring as text but {what}")
    whole = _decoded(raw)
    if "\x00" in whole and "\x14" not in whole:  # SAF has them after each label
        raise UserError(f"{path}: not a scoring as text: it holds bytes of 0; export it again")
    # not splitlines(), which in Latin-1 also cuts at bytes such as 0x85; three forms of line ends
    lines = re.sub(r"\r\n?", "\n", whole).split("\n")
    return Text(path, whole, lines)


def _decoded(raw: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), None)
    if encoding is None and raw[:4096].count(0) >= len(raw[:4096]) // 4 > 0:
        # ASCII in UTF-16 without a mark: every other byte is zero
        encoding = "utf-16-be" if raw[:1] == b"\x00" else "utf-16-le"
    for name in (encoding or "utf-8", "latin-1"):
        try:
            return raw.decode(name)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes any byte")


def xml_of(text: Text) -> ElementTree.Element:
    """The root of an XML file, without entities and external files.

    Raises:
        UserError: not well formed, or with a document type, in which entities could be defined.
    """
    if "<!DOCTYPE" in text.whole or "<!ENTITY" in text.whole:
        raise text.wrong("XML with a DOCTYPE, which scorings have not; remove it")
    try:
        # as text, so that whatever encoding the file claims is no longer of interest
        return parsed(text.whole.lstrip("\ufeff \r\n\t"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise text.wrong(f"not readable as XML ({error}); fetch it again") from error
