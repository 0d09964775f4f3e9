"""Electrodes of the 10-20 and 10-10 systems, and the labels of derivations made of them."""

from __future__ import annotations

import re
from functools import lru_cache

# best first: where sleep is scored, then every other site
_BEST = (
    "c4",
    "c3",
    "cz",
    "f4",
    "f3",
    "fz",
    "fp1",
    "fp2",
    "fpz",
    "p3",
    "p4",
    "pz",
    "o1",
    "o2",
    "oz",
)
_SITE = (
    r"(?:fp[12z]|af[z3478]|f(?:10|[1-9z])|ft(?:10|[789])|fc[1-6z]|t(?:10|[3-9])|c[1-6z]|"
    r"tp(?:10|[789])|cp[1-6z]|p(?:10|[1-9z])|po[3478z]|o[12z]|iz)"
)
# ears and mastoids (a1, m1), linked ears (le), averages, and what is common to a recorder
_REFERENCE = r"(?:[am][12]|[am]1[am]2|[am]2[am]1|linked|ref|avg|av|car|le|ear|org|nz)"
_DERIVATION = re.compile(rf"(?:eeg)?({_SITE})({_REFERENCE}.*|{_SITE})?")
_REVERSED = re.compile(rf"(?:eeg)?(?:[am][12])({_SITE})()")  # A2-C3, of the opposite sign
_AROUND = re.compile(
    r"^\s*(pol|ch\s?\d+|\d+)\s+|\s*[\[(]?[u\u00b5\u03bc]v[\])]?\s*$", re.IGNORECASE
)


@lru_cache(maxsize=4096)  # every wish is compared with every label
def normalised(label: str) -> str:
    """A label without case, spaces and punctuation."""
    return "".join(character for character in label.lower() if character.isalnum())


def site_rank(label: str) -> int | None:
    """How good a derivation for staging a label names, 0 is best; None if it names no electrode.

    ``Fpz-Cz``, ``C4M1``, ``F7``, ``T3-AVG``, ``POL C3``, ``A2-C3``, ``C3 [uV]``; O2 alone is
    oxygen as often as an electrode.
    """
    bare = normalised(_AROUND.sub("", label))
    match = _DERIVATION.fullmatch(bare) or _REVERSED.fullmatch(bare)
    if match is None or (match[1] == "o2" and not match[2]):
        return None
    return _BEST.index(match[1]) if match[1] in _BEST else len(_BEST)


def electrode_of(label: str) -> str:
    """The electrode of a label without its reference: ``c4`` of ``EEG C4-M1``."""
    short = normalised(label).removeprefix("eeg")
    return re.sub(r"(?<=\d|z)([am][12]|ref|avg|le)$", "", short) or short
