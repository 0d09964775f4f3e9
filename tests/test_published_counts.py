"""Published counts of whole cohorts, asserted where SLEEP_REAL_DATA has a folder of that name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.readers.profiles.profile import Expected, Profile
from datasets.readers.signal_files import opened
from tests.cohort_files import boas
from utils.stages import UNSCORED

PUBLISHED = [name for name in profile.names() if profile.load(name).expect != Expected()]

# files, their column of stages, and how often it has each word
WORDS = {
    "boas": (
        "*_acq-psg_events.tsv",
        "stage_hum",
        {"0": 19137, "1": 4462, "2": 72181, "3": 5225, "4": 18754, "8": 336},
    ),
    "nchsdb": (
        "*.tsv",
        "description",
        {
            "Sleep stage W": 665637, "Sleep stage N1": 128402, "Sleep stage N2": 1383442,
            "Sleep stage N3": 875111, "Sleep stage R": 611181, "Sleep stage ?": 347244,
        },
    ),
}  # fmt: skip


def counted(cohort: Profile, folder: Path, *, exclusions: bool) -> Expected:
    """What a folder has of a cohort: scored recordings, persons, and scored epochs if published."""
    nights = cohort_nights.find(folder, cohort)
    out = cohort_nights.excluded((night.id for night in nights), cohort) if exclusions else {}
    nights = [night for night in nights if night.id not in out and night.scored is not None]
    epochs = None
    if cohort.expect.epochs is not None:
        scored = (declared_night.stages_of(n, opened(n.path, n.signals)).stages for n in nights)
        epochs = sum(int(np.sum(stages != UNSCORED)) for stages in scored)
    return Expected(len(nights), len({night.subject for night in nights}), epochs)


def test_what_is_counted(tmp_path):
    """Of generated nights: two of one person, two epochs disconnected."""
    boas.write(tmp_path / "raw")
    counts = counted(profile.load("boas"), tmp_path / "raw", exclusions=True)
    assert counts == Expected(recordings=3, persons=2, epochs=23)


def words_in(folder: Path, pattern: str, column: str) -> Counter[str]:
    """How often a column of tables has each word; tables without it are passed over."""
    words = Counter[str]()
    for path in folder.rglob(pattern):
        header, *lines = path.read_text(encoding="latin-1").splitlines() or [""]
        if column in (names := header.split("\t")):
            place = names.index(column)
            words.update(line.split("\t")[place] for line in lines if line)
    return words


def test_which_words_are_counted(tmp_path):
    expected = boas.write(tmp_path / "raw")
    codes = [code for codes in expected.values() for code in codes]
    counts = words_in(tmp_path / "raw", *WORDS["boas"][:2])
    assert counts == Counter(boas.DISCONNECTED if code < 0 else str(code) for code in codes)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_published_words(real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name} in SLEEP_REAL_DATA")
    pattern, column, published = WORDS[name]
    counts = words_in(real_data / name, pattern, column)
    assert {word: counts[word] for word in published} == published


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name} in SLEEP_REAL_DATA")
    cohort = profile.load(name)
    # some publications count what is excluded here, others what is left
    counts = [counted(cohort, real_data / name, exclusions=one) for one in (True, False)]
    for field, published in vars(cohort.expect).items():
        assert published is None or published in [getattr(one, field) for one in counts], field
