"""Sleep-EDF by its profile: pairs, stages by onset, channels at their own rates and units."""

from __future__ import annotations

import shutil
from datetime import date, time

import numpy as np
import pytest

import preprocess_sleepedf
from datasets.readers.profiles import declared_night
from datasets.store.store import Store
from tests.cohort_files.written import prepared
from tests.conftest import prepare
from tests.edf_files import (
    beside_a_psg,
    read_sleepedf,
    sleepedf_in,
    write_hypnogram,
    write_pair,
    write_psg,
)
from tests.odd_edf import note, write_odd
from utils.errors import UserError
from utils.stages import stage_counts

NIGHT = [("W", 4), ("1", 1), ("2", 3), ("3", 1), ("4", 2), ("R", 2), ("M", 1), ("2", 1), ("W", 3)]
CODES = [0] * 4 + [1] + [2] * 3 + [3] * 3 + [4] * 2 + [-1] + [2] + [0] * 3


def touch_pair(folder, psg, scorer="C"):
    folder.mkdir(exist_ok=True)
    (folder / f"{psg}-PSG.edf").touch()
    (folder / f"{psg[:7]}{scorer}-Hypnogram.edf").touch()


def test_pairs_on_seven_characters_whatever_the_letters(tmp_path):
    for psg, scorer in (("SC4001E0", "C"), ("SC4201F0", "9"), ("SC4701G0", "V"), ("SC4702G0", "W")):
        touch_pair(tmp_path, psg, scorer)
    pairs = sleepedf_in(tmp_path)
    assert [p.id for p in pairs] == ["SC4001E0", "SC4201F0", "SC4701G0", "SC4702G0"]
    assert [(p.subject, p.night) for p in pairs[-2:]] == [("SC470", 1), ("SC470", 2)]
    assert all(p.path.name[:7] == p.scored.name[:7] for p in pairs)


def test_names_in_any_case_make_the_same_night(tmp_path):
    (tmp_path / "sc4001e0-psg.EDF").touch()
    (tmp_path / "SC4001EC-Hypnogram.edf").touch()
    assert [(p.id, p.subject, p.night) for p in sleepedf_in(tmp_path)] == [("SC4001E0", "SC400", 1)]


def ids_taken(folder, *words) -> list[str]:
    """Ids of the nights that the script takes, each with both of its files."""
    flags = preprocess_sleepedf.parse_args(["--raw_path", str(folder), *words])
    return [night.id for night in preprocess_sleepedf.nights_of(flags)]


def test_cassette_and_telemetry_of_one_number_are_two_subjects(tmp_path):
    touch_pair(tmp_path / "sleep-cassette", "SC4011E0")
    touch_pair(tmp_path / "sleep-telemetry", "ST7011J0", "P")
    assert {p.subject for p in sleepedf_in(tmp_path)} == {"SC401", "ST701"}
    assert ids_taken(tmp_path) == ["SC4011E0"]
    assert ids_taken(tmp_path, "--study", "telemetry") == ["ST7011J0"]
    assert ids_taken(tmp_path, "--study", "both") == ["SC4011E0", "ST7011J0"]


def test_a_hypnogram_may_lie_in_another_folder(tmp_path):
    touch_pair(tmp_path / "a", "SC4011E0")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "SC4011EC-Hypnogram.edf").rename(tmp_path / "b" / "SC4011EC-Hypnogram.edf")
    assert ids_taken(tmp_path) == ["SC4011E0"]
    (tmp_path / "b" / "SC4011EC-Hypnogram.edf").rename(tmp_path / "SC4011EC-Hypnogram.edf")
    assert ids_taken(tmp_path) == ["SC4011E0"]


def test_version_2013_is_subjects_0_to_19(tmp_path):
    for psg in ("SC4191E0", "SC4201E0"):
        touch_pair(tmp_path, psg)
    assert ids_taken(tmp_path, "--version", "2013") == ["SC4191E0"]


@pytest.mark.parametrize("gone", ["PSG", "Hypnogram"])
def test_an_unpaired_file_is_named(tmp_path, gone):
    for psg in ("SC4001E0", "SC4002E0", "SC4011E0"):
        touch_pair(tmp_path, psg)
    lost = next(tmp_path.glob(f"SC4002*{gone}.edf"))
    lost.unlink()
    other = next(tmp_path.glob("SC4002*"))
    with pytest.raises(UserError, match=f"{other.name}: no .* file beside it"):
        ids_taken(tmp_path)


def test_a_second_hypnogram_or_psg_is_an_error(tmp_path):
    touch_pair(tmp_path, "SC4001E0", "C")
    (tmp_path / "SC4001EH-Hypnogram.edf").touch()
    with pytest.raises(UserError, match=r"could both be .*SC4001E\*-Hypnogram.edf; remove one"):
        ids_taken(tmp_path)
    (tmp_path / "SC4001EH-Hypnogram.edf").rename(tmp_path / "SC4001E1-PSG.edf")
    with pytest.raises(UserError, match=r"scores both .*SC4001E0-PSG.edf and .*SC4001E1-PSG.edf"):
        ids_taken(tmp_path)


def test_the_error_for_an_empty_folder_names_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"generate_demo_data\.py.*--download.*--raw_path"):
        ids_taken(tmp_path / "absent")
    touch_pair(tmp_path, "ST7011J0")
    with pytest.raises(UserError, match=r"no recording is called SC4\*; there are ST7011J0"):
        ids_taken(tmp_path)


def test_stages_index_by_index(tmp_path):
    write_pair(tmp_path, [*NIGHT, ("?", 40)], n_epochs=18)
    recording = read_sleepedf(tmp_path)
    assert recording.stages.tolist() == CODES
    assert recording.stages.dtype == np.int8
    assert (recording.id, recording.subject, recording.night) == ("SC4001E0", "SC400", 1)


def test_one_epoch_bouts_and_the_last_epoch_survive(tmp_path):
    letters = list("W1W2W3W4WRW1")
    write_pair(tmp_path, [(letter, 1) for letter in letters], n_epochs=len(letters))
    assert read_sleepedf(tmp_path).stages.tolist() == [0, 1, 0, 2, 0, 3, 0, 3, 0, 4, 0, 1]


def test_annotations_end_before_the_signal(tmp_path):
    write_pair(tmp_path, [("W", 3), ("2", 2)], n_epochs=8)
    assert read_sleepedf(tmp_path).stages.tolist() == [0, 0, 0, 2, 2, -1, -1, -1]


def test_a_hypnogram_that_starts_late(tmp_path):
    write_hypnogram(tmp_path / "ST7011JP-Hypnogram.edf", [("W", 2), ("2", 2)], first_epoch=18)
    write_psg(tmp_path / "ST7011J0-PSG.edf", 22)
    recording = read_sleepedf(tmp_path)
    assert recording.stages.tolist() == [-1] * 18 + [0, 0, 2, 2]


def test_part_of_an_epoch_at_the_end_is_no_epoch(tmp_path):
    write_hypnogram(tmp_path / "SC4001EC-Hypnogram.edf", [("W", 5)])
    write_psg(tmp_path / "SC4001E0-PSG.edf", 4.5, record_seconds=15)
    assert len(read_sleepedf(tmp_path).stages) == 4


def test_channels_keep_rate_and_unit(tmp_path):
    truth = write_pair(tmp_path, NIGHT, n_epochs=18)
    signals = read_sleepedf(tmp_path).signals
    assert {label: s.fs for label, s in signals.items()} == {
        "EEG Fpz-Cz": 100,
        "EOG horizontal": 100,
        "EMG submental": 1,
    }
    for label, values in truth.items():
        np.testing.assert_allclose(signals[label].read(0, 540), values, atol=1e-9)


@pytest.mark.parametrize("wish", ["EOG1-EOG2", "EOG1 - EOG2"])
def test_a_difference_of_two_channels_in_a_store(tmp_path, wish):
    truth = write_pair(tmp_path / "raw", NIGHT, 18, channels={"EOG1": 100, "EOG2": 100})
    prepare(tmp_path / "raw", tmp_path / "s", "--keep_all", "--channels", wish)
    store = Store(tmp_path / "s")
    assert [channel.label for channel in store.channels] == ["EOG1-EOG2"]
    stored = np.array(store.night("SC4001E0").signals()).ravel()
    np.testing.assert_allclose(stored, truth["EOG1"] - truth["EOG2"], atol=1e-4)


@pytest.mark.parametrize("wish", ["EOG1-EOG2", "EOG1 - EOG2"])
def test_a_label_that_holds_a_hyphen_is_read_as_a_label(tmp_path, wish):
    rates = {"EOG1": 100, "EOG2": 100, "EOG1 - EOG2": 100}
    truth = write_pair(tmp_path / "raw", NIGHT, 18, channels=rates)
    prepare(tmp_path / "raw", tmp_path / "s", "--keep_all", "--channels", wish)
    store = Store(tmp_path / "s")
    assert [channel.label for channel in store.channels] == ["EOG1 - EOG2"]
    stored = np.array(store.night("SC4001E0").signals()).ravel()
    np.testing.assert_allclose(stored, truth["EOG1 - EOG2"], atol=1e-4)


def test_unknown_stages_are_named(tmp_path):
    write_pair(tmp_path, [("W", 3), ("Sleep stage X", 2)], n_epochs=5)
    with pytest.raises(UserError, match="'Sleep stage X' at 90 s is no word"):
        read_sleepedf(tmp_path)


@pytest.mark.parametrize("word", ["Sleep stage N2", "sleep stage 2", "Sleep stage 2 ", "Stage 2"])
def test_stages_have_the_words_that_they_have_elsewhere(tmp_path, word):
    write_pair(tmp_path, [("W", 3), (word, 2), ("Sleep stage REM", 1)], n_epochs=6)
    assert read_sleepedf(tmp_path).stages.tolist() == [0, 0, 0, 2, 2, 4]


def test_float_noise_in_onsets_is_no_other_grid(tmp_path):
    write_pair(tmp_path, [("W", 3), ("2", 2), ("R", 1)], n_epochs=6)
    rows = [(0.0009, 89.9995, "W"), (89.9991, 60.0005, "2"), (149.9995, 30, "R")]
    texts = b"".join(note(t, f"Sleep stage {word}", seconds) for t, seconds, word in rows)
    write_odd(
        tmp_path / "SC4001EC-Hypnogram.edf", [], kind="EDF+C", seconds=0, notes={0: texts},
        note_bytes=200, date="24.04.89", time="16.13.00",
    )  # fmt: skip
    assert read_sleepedf(tmp_path).stages.tolist() == [0, 0, 0, 2, 2, 4]


def test_other_clocks_are_refused_where_a_date_cannot_be_read(tmp_path):
    write_pair(tmp_path, NIGHT, n_epochs=18)
    psg = tmp_path / "SC4001E0-PSG.edf"
    raw = psg.read_bytes()
    psg.write_bytes(raw[:168] + b"31.02.20" + raw[176:])
    night = read_sleepedf(tmp_path)
    assert night.start is None and "start unknown" in night.note
    psg.write_bytes(raw[:168] + b"31.02.2016.23.00" + raw[184:])
    with pytest.raises(UserError, match="not one night"):
        read_sleepedf(tmp_path)


def test_files_of_different_nights_are_refused(tmp_path):
    write_hypnogram(tmp_path / "SC4001EC-Hypnogram.edf", NIGHT)
    write_psg(tmp_path / "SC4001E0-PSG.edf", 18, start=(date(1989, 4, 25), time(16, 13)))
    with pytest.raises(UserError, match="not one night"):
        read_sleepedf(tmp_path)


def test_a_hypnogram_that_scores_nothing_is_refused(tmp_path):
    write_pair(tmp_path, [("?", 10)], n_epochs=10)
    with pytest.raises(UserError, match="holds none of the stages"):
        read_sleepedf(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"+120\x15", b"+125\x15"),  # off the grid
        (b"+120\x15", b"+090\x15"),  # overlaps the Wake before it
        (b"\x1530\x14", b"\x1535\x14"),
    ],
)
def test_annotations_off_the_grid_or_overlapping_are_refused(tmp_path, old, new):
    write_pair(tmp_path, NIGHT, n_epochs=18)
    path = next(tmp_path.glob("*Hypnogram*"))
    raw = path.read_bytes()
    assert raw.count(old) >= 1
    path.write_bytes(raw.replace(old, new, 1))
    with pytest.raises(UserError, match=r"30 s epochs|before the stage above|two stages"):
        read_sleepedf(tmp_path)


def test_an_unscored_bout_overlaps_nothing_either(tmp_path):
    write_pair(tmp_path, [("W", 4), ("?", 2), ("2", 2)], n_epochs=8)
    path = next(tmp_path.glob("*Hypnogram*"))
    path.write_bytes(path.read_bytes().replace(b"+120\x15", b"+090\x15", 1))
    with pytest.raises(UserError, match=r"'Sleep stage [?]' at 90 s begins before the stage above"):
        read_sleepedf(tmp_path)


def test_real_hypnogram_counts(real_data, tmp_path):
    night = beside_a_psg(real_data / "sleep_edf" / "SC4001EC-Hypnogram.edf", tmp_path, 2880)
    counts = {"W": 1997, "N1": 58, "N2": 250, "N3": 220, "REM": 125, "unscored": 230}
    assert stage_counts(night.stages) == counts


@pytest.mark.parametrize("name", ["ST7021JM", "ST7041JO", "ST7062JR"])
def test_real_telemetry_hypnograms_are_read(real_data, tmp_path, name):
    path = real_data / "sleep_edf" / f"{name}-Hypnogram.edf"
    bouts = beside_a_psg(path, tmp_path, 1000).bouts
    assert bouts[-1].stage == 0
    assert {bout.stage for bout in bouts} >= {0, 1, 2, 3, 4}


def test_the_real_excerpt(real_data, tmp_path):
    """Ten epochs of signal beside the hypnogram of the whole night."""
    for path in (real_data / "sleep_edf").glob("SC4001E*"):
        shutil.copy(path, tmp_path)
    recording = read_sleepedf(tmp_path)
    assert recording.stages.tolist() == [0] * 10
    assert recording.note is None and recording.bouts[0].length == 1021
    assert np.ptp(recording.signals["EEG Fpz-Cz"].read(0, 300)) > 10


def test_a_store_by_role(raw, tmp_path):
    store = prepared("sleepedf", raw, tmp_path / "store", "--roles", "EEG", "EOG")
    nights = sleepedf_in(raw)
    assert {row["subject"] for row in store.recordings.values()} == {n.subject for n in nights}
    assert store.settings["protocol"] == "tinysleepnet"
    assert store.cohort == "synthetic-sleepedf"


def test_a_link_to_nothing_is_one_line(tmp_path):
    write_pair(tmp_path, NIGHT, n_epochs=18)
    (tmp_path / "SC4001E0-PSG.edf").unlink()
    (tmp_path / "SC4001E0-PSG.edf").symlink_to("gone.edf")
    with pytest.raises(UserError, match=r"is a link to gone.edf, which is not there; fetch it"):
        declared_night.read(sleepedf_in(tmp_path)[0])
