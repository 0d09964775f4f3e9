"""Anybody's file as a recording without stages: channels found for what a checkpoint reads.

A channel is looked for by the checkpoint's own label, then by the names that the known cohorts have
for its role, then by labels that begin with the role; what was taken is always told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.readers import dreem, nsrr_signals, sleepedf, ucddb
from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import EdfFile
from datasets.readers.nsrr_signals import Found, find_role, normalised
from datasets.readers.recording import Recording, whole_epochs
from utils.errors import UserError
from utils.stages import UNSCORED

SUFFIXES = (".edf", ".bdf", ".rec", ".h5")
# of normalised labels, best first
_LOOKS_LIKE = {
    # O2 alone is oxygen as often as an electrode
    "EEG": tuple(
        f"{site}({'' if site[0] == 'o' else '$|'}[am][12]|ref|avg|le)"
        for site in ("c[34z]", "f[34z]", "fp[12z]", "p[34z]", "o[12z]")
    ),
    "EOG": (r"e[12]$", r"[lr]oc", r"left.?eye|right.?eye", r"e[12]m[12]|e[12]a[12]"),
    "EMG": (r"chin", r"submental"),
}


def opened(path: Path) -> EdfFile | DreemFile:
    """EDF or BDF, undated or with gaps too, or a Dreem record.

    Raises:
        UserError: it cannot be read.
    """
    if path.suffix.lower() == ".h5":
        return DreemFile(path)
    return EdfFile(path, undated=True, gaps=True)


def known_names(present: Sequence[str]) -> dict[str, list[str]]:
    """Role -> labels and differences of every cohort read here.

    The cohort whose names fit most of the labels ``present`` comes first: one name, such as EEG 2,
    is not the same electrode everywhere.
    """
    tables: list[Mapping[str, Sequence[str]]] = [sleepedf.ROLES, dreem.ROLES, ucddb.ROLES]
    tables += json.loads(nsrr_signals.TABLE.read_text(encoding="utf-8")).values()
    spelt = {normalised(label) for label in present}

    def fits(table: Mapping[str, Sequence[str]]) -> int:
        parts = {normalised(part) for labels in table.values() for label in labels
                 for part in label.split(" - ")}  # fmt: skip
        return len(parts & spelt)

    found: dict[str, list[str]] = {}
    for table in sorted(tables, key=fits, reverse=True):
        for role, labels in table.items():
            found.setdefault(role, []).extend(labels)
    return {role: list(dict.fromkeys(labels)) for role, labels in found.items()}


def match(
    file: EdfFile | DreemFile, channels: Sequence[tuple[str, str]], chosen: Mapping[str, str]
) -> dict[str, Found]:
    """Signals by the checkpoint's label, of those that the file has.

    ``channels`` are (label, role); ``chosen`` names the file's label, or a difference ``A - B``,
    for a label or role.

    Raises:
        UserError: a chosen label that the file lacks, or a channel that cannot be read.
    """
    names, found = known_names([channel.label for channel in file.channels]), {}
    for label, role in channels:
        asked = chosen.get(label) or chosen.get(role)
        wanted = [asked] if asked else [label, *names.get(role, []), *_alike(file, role)]
        one = find_role(file, role, wanted, strict=False)
        if asked and one is None:
            present = ", ".join(channel.label for channel in file.channels)
            raise UserError(f"{file.path}: no channel {asked!r} for {role}; it has: {present}")
        if one is not None:
            found[label] = one
    return found


def _alike(file: EdfFile | DreemFile, role: str) -> list[str]:
    """Labels such as ``EEG F4-A1`` for the role EEG, then electrodes of the 10-20 system."""
    kind = role.rstrip("0123456789")
    labels = [c.label for c in file.channels]
    named = [label for label in labels if normalised(label).startswith(normalised(kind))]
    found = [[x for x in labels if re.match(p, normalised(x))] for p in _LOOKS_LIKE.get(kind, ())]
    return list(dict.fromkeys([*named, *(label for some in found for label in some)]))


def recording_of(file: EdfFile | DreemFile, found: Mapping[str, Found]) -> Recording:
    """The night with the signals found and no stages.

    Raises:
        UserError: the file is shorter than an epoch.
    """
    n_epochs = whole_epochs(file.seconds)
    if not n_epochs:
        raise UserError(f"{file.path}: lasts {file.seconds:g} s; staging needs 30 s at least")
    notes = [one.note for one in found.values() if one.note]
    return Recording(
        id=Path(file.path).stem, subject=Path(file.path).stem, night=1,
        signals={label: one.signal for label, one in found.items()}, bouts=(),
        stages=np.full(n_epochs, UNSCORED, np.int8), start=file.start,
        note="; ".join(notes) or None,
        derivations={label: one.derivation for label, one in found.items()},
    )  # fmt: skip
