"""The known cohorts in lines, and a store's counts beside the published ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from textwrap import fill

from datasets.readers.profiles import profile
from datasets.readers.profiles.profile import Expected, Profile
from utils.stages import STAGES

UNDECLARED = "not prepared by --cohort yet, as its files are not declared"


def listing() -> str:
    """Every known cohort: name, title, access, licence, counts, roles, page, citation, folds."""
    return "\n\n".join(_described(profile.load(name)) for name in profile.names())


def _described(cohort: Profile) -> str:
    lines = [
        f"{cohort.name}: {cohort.title}",
        f"{cohort.access}; licence {cohort.licence}; {_counts(cohort.expect)}",
        f"roles: {', '.join(cohort.all_roles)}" if cohort.is_prepared else UNDECLARED,
        *([f"folds: {', '.join(cohort.folds)}"] if cohort.folds else []),
        *([f"left out: {_excluded(cohort)}"] if cohort.exclude else []),
        f"page: {cohort.page}",
        f"cite: {'; '.join(cohort.cite)}",
        *_fetched(cohort),
        *cohort.notes,
    ]
    first, *others = (fill(line, 100, subsequent_indent="    ") for line in lines)
    return "\n  ".join([first, *others])


def _fetched(cohort: Profile) -> list[str]:
    if cohort.download is None:
        return []
    by_hand = cohort.download.kind == "page"
    return ["fetched by hand: --download prints the steps" if by_hand else "fetched by --download"]


def _excluded(cohort: Profile) -> str:
    return ", ".join(f"{one.id} ({one.reason})" for one in cohort.exclude)


def _counts(expect: Expected) -> str:
    named = {
        "recordings": expect.recordings, "persons": expect.persons, "scored epochs": expect.epochs
    }  # fmt: skip
    known = [f"{n:,} {what}" for what, n in named.items() if n is not None]
    return ", ".join(known) or "counts not declared"


def compared(cohort: Profile, rows: Collection[Mapping[str, str]]) -> list[str]:
    """What a store's table has of the published numbers, one line; none if none is known."""
    expect = cohort.expect
    here = {
        "recordings": (len(rows), expect.recordings),
        "persons": (len({row["subject"] for row in rows}), expect.persons),
        "scored epochs": (sum(int(row[s]) for row in rows for s in STAGES), expect.epochs),
    }
    known = [f"{n:,} of {all_of:,} {what}" for what, (n, all_of) in here.items() if all_of]
    return [f"published of the whole cohort: {', '.join(known)}"] if known else []
