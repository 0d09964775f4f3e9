"""What a profile declares of how its cohort's files are fetched, or the steps to get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasets.readers.profiles.checked_json import FieldError, check_pattern


@dataclass(frozen=True)
class Download:
    """How the files of a cohort are fetched.

    ``kind``: ``physionet`` (a folder with a list of checksums), ``openneuro`` (a data set in a
    public bucket), ``zip`` (members of one archive), or ``page``: by a person, in ``steps``.
    ``addresses``: of the folder, data set or archive; for PhysioNet the first that answers is used.
    ``files``: regular expressions of the paths there; the group ``subject`` names whose a file is,
    files without it are taken with any subject. ``subjects``: how many the server must list, as a
    list that was cut would go unnoticed.
    """

    kind: Literal["page", "physionet", "openneuro", "zip"] = "page"
    addresses: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    subjects: int = 0
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps",) if self.kind == "page" else ("addresses", "files"):
            if not vars(self)[name]:
                raise FieldError(name, f"is missing, which {self.kind} needs")
        for k, pattern in enumerate(self.files):
            check_pattern(f"files[{k}]", pattern)
