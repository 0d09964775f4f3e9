"""A data set of BIDS derivatives, one for all recordings of an output folder."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path

from utils.errors import UserError
from utils.files import is_ours, read_json, write_text
from utils.version import VERSION

FOLDER = "bids"
_LABEL = r"[0-9a-zA-Z+]+"
_NAME = re.compile(rf"sub-{_LABEL}(_[a-z]+-{_LABEL})*_(eeg|ieeg|meg)")
_ENTITIES = ("sub", "ses", "task", "acq", "run")  # that events may have, in their order
_DESCRIPTION = {
    "Name": "Sleep stages of sleep-staging",
    "BIDSVersion": "1.10.0",
    "DatasetType": "derivative",
    "GeneratedBy": [
        {
            "Name": "sleep-staging",
            "Version": VERSION,
            "Description": "Sleep stages per epoch of 30 s; each file's json names its model.",
        }
    ],
}
_README = """# Sleep stages

Stages that a program, not a person, gave to every epoch of 30 s of polysomnographic recordings.
Each `*_desc-staging_events.tsv` belongs to one recording: onsets count from its first second, `?`
is an epoch without a signal, and `probability` and `uncertainty` say how certain a stage is. A last
epoch that is cut short is left out. The json beside it names the recording and the model, and
describes the columns.
"""


def path_of(folder: Path, name: str) -> Path:
    """Path of a recording's events in the data set below ``folder``.

    ``name`` is that of its results. One that BIDS gave keeps its entities; of any other, letters
    and digits become the subject's label.
    """
    if _NAME.fullmatch(name):
        given = dict(part.split("-", 1) for part in name.split("_")[:-1])
    else:
        given = {"sub": _label(name)}
    given.setdefault("task", "sleep")
    entities = {key: given[key] for key in _ENTITIES if key in given}
    above = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    stem = "_".join(f"{key}-{value}" for key, value in entities.items())
    return folder.joinpath(FOLDER, *above, "eeg", f"{stem}_desc-staging_events.tsv")


def _label(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    bare = "".join(c for c in plain if c.isascii() and c.isalnum())
    # of a name in another alphabet nothing is left
    return bare or "x" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


def check(folder: Path) -> None:
    """Refuse a data set of recordings in the place of the derivatives.

    Raises:
        UserError: naming its description.
    """
    path = folder / FOLDER / "dataset_description.json"
    if path.exists() and read_json(path).get("DatasetType", "raw") != "derivative":
        raise UserError(
            f"{path}: describes a data set of recordings, among which no stages are written; "
            "choose another --output"
        )


def describe(folder: Path) -> None:
    """Write the data set's description and its README, unless somebody else did."""
    texts = {
        "dataset_description.json": json.dumps(_DESCRIPTION, indent=2) + "\n",
        "README.md": _README,
    }
    for name, text in texts.items():
        path = folder / FOLDER / name
        if not path.exists() or (is_ours(path) and path.read_text(encoding="utf-8") != text):
            write_text(path, text)
