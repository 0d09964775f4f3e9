"""Published counts of whole cohorts, asserted where SLEEP_REAL_DATA has a folder of that name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.readers.profiles.profile import Expected, Profile
from datasets.readers.signal_files import opened
from tests.cohort_files import boas
from utils.stages import UNSCORED

PUBLISHED = [name for name in profile.names() if profile.load(name).expect != Expected()]


def counted(cohort: Profile, folder: Path, *, exclusions: bool) -> Expected:
    """What a folder has of a cohort: scored recordings, persons, and scored epochs if published."""
    nights = cohort_nights.find(folder, cohort)
    out = cohort_nights.excluded(nights, cohort) if exclusions else {}
    nights = [night for night in nights if night.id not in out and night.scored is not None]
    epochs = None
    if cohort.expect.epochs is not None:
        scored = (declared_night.stages_of(n, opened(n.path, n.signals)).stages for n in nights)
        epochs = sum(int(np.sum(stages != UNSCORED)) for stages in scored)
    return Expected(len(nights), len({night.subject for night in nights}), epochs)


def test_what_is_counted(tmp_path):
    """Of generated nights: two of one person, two epochs disconnected."""
    boas.write(tmp_path / "raw")
    found = counted(profile.load("boas"), tmp_path / "raw", exclusions=True)
    assert found == Expected(recordings=3, persons=2, epochs=23)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name} in SLEEP_REAL_DATA")
    cohort = profile.load(name)
    # some publications count what is excluded here, others what is left
    found = [counted(cohort, real_data / name, exclusions=one) for one in (True, False)]
    for field, published in vars(cohort.expect).items():
        assert published is None or published in [getattr(one, field) for one in found], field
