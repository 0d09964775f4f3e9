"""The matcher of channels: labels first, differences in both spellings, alternatives in order."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.readers import dreem
from datasets.readers.channels import (
    choose,
    first_of,
    match,
    named,
    normalised,
    parts_of,
    role_of,
)
from datasets.readers.edf import EdfFile
from datasets.readers.known_channels import COHORTS, alternatives, known_names
from datasets.readers.recording import FileSignals, Signal
from tests.edf_files import write_psg
from utils.errors import UserError

BOTH = ("E1-E2", "E1 - E2")
ROLES = {"EOG": ("E1", "E2"), "EEG": ("C4-M1",)}


def signals(**rates: float) -> dict[str, Signal]:
    """Channels whose samples are all their place in the list, from 1."""
    return {
        label: Signal(fs, "uV", 30.0, lambda start, stop, k=k: np.full(round(stop - start), k))
        for k, (label, fs) in enumerate(rates.items(), 1)
    }


@pytest.mark.parametrize(
    ("wish", "labels", "parts"),
    [
        ("E1-E2", ["E1", "E2"], ("E1", "E2")),
        ("E1 - E2", ["E1", "E2"], ("E1", "E2")),
        ("e1 -E2", ["E1", "E2"], ("E1", "E2")),
        ("E1 - E2", ["E1", "E2", "E1 - E2"], ("E1 - E2",)),  # a label that holds the hyphen
        ("E1-E2", ["E1", "E2", "E1 - E2"], ("E1 - E2",)),
        ("E1 - E2", ["E1", "E2", "E1-E2"], ("E1-E2",)),
        ("C4-M1", ["C4_M1", "C4-M1"], ("C4-M1",)),  # as it is spelt, before what is like it
        ("c4 m1", ["C4_M1", "C4-M1"], ("C4_M1",)),
        ("EOG-L - EOG-R", ["EOG-L", "EOG-R"], ("EOG-L", "EOG-R")),  # parts that hold hyphens
        ("EOG-L-EOG-R", ["EOG-L", "EOG-R"], ("EOG-L", "EOG-R")),
        ("A - B-C", ["A", "A-B", "B-C", "C"], ("A", "B-C")),  # cut at the spaces
        ("EOG(L)-EOG(R)", ["EOG (L)", "EOG (R)"], ("EOG (L)", "EOG (R)")),
        ("E1-E2", ["E1"], ()),
        ("C9-", ["C9 x", ""], ()),
        ("-", ["+", "E1"], ()),
    ],
)
def test_what_a_wish_means(wish, labels, parts):
    assert parts_of(wish, labels) == parts


def test_labels_are_compared_without_case_spaces_and_punctuation():
    assert normalised("EOG (L)") == normalised("eog-l") == "eogl"


@pytest.mark.parametrize("wish", BOTH)
def test_a_difference_is_the_first_minus_the_second(wish):
    one = named(wish, signals(E2=100, E1=100), "night")
    assert one.signal.read(0, 2).tolist() == [1, 1]
    assert (one.derivation, one.label) == ("E1 - E2", "E1-E2")


@pytest.mark.parametrize("wish", BOTH)
def test_unlike_channels_are_refused_by_name_and_passed_over_among_alternatives(wish):
    unlike = signals(E1=100, E2=50)
    with pytest.raises(UserError, match=f"night: --channels {wish}: E1 has 100 Hz in uV, E2 50 Hz"):
        named(wish, unlike, "night")
    assert first_of([wish, "E2"], unlike).parts == ("E2",)
    assert first_of([wish], unlike) is None
    spelt = {"E1": Signal(100, "uV", 30, np.empty), "E2": Signal(100, "µV", 30, np.empty)}
    assert first_of([wish], spelt).parts == ("E1", "E2")  # one unit, spelt in two ways


def test_stores_call_a_difference_the_same_however_it_is_asked_for():
    present = signals(E1=100, E2=100)
    assert list(choose(["E1-E2", "E1"], present, ROLES, "x")) == ["E1-E2", "E1"]
    assert list(choose(["E1 - E2", "E1"], present, ROLES, "x")) == ["E1-E2", "E1"]
    with pytest.raises(UserError, match="'E1-E2' is asked for twice"):
        choose(BOTH, present, ROLES, "x")
    held = present | {"E1 - E2": present["E1"]}
    assert list(choose(["E1-E2"], held, ROLES, "x")) == ["E1 - E2"]
    assert [role_of(label, ROLES) for label in ("E1-E2", "E1 - E2", "C4-M1", "C3-M2")] == [
        "EOG",
        "EOG",
        "EEG",
        "C3-M2",
    ]
    parts = choose(["EEG"], signals(C4=100, M1=100), ROLES, "x")["C4-M1"].parts
    assert parts == ("C4", "M1")


@pytest.mark.parametrize("wish", BOTH)
def test_a_checkpoint_of_a_difference_finds_it_in_other_files(tmp_path, wish):
    write_psg(tmp_path / "a.edf", 2, {"E2": 100, "E1": 100})
    file = EdfFile(tmp_path / "a.edf")
    expected = file.read("E1", 0, 60) - file.read("E2", 0, 60)
    for channels, chosen in (([(wish, "EOG")], {}), ([("EOG horizontal", "EOG")], {"EOG": wish})):
        (one,) = match(file, channels, chosen).values()
        assert one.derivation == "E1 - E2"
        assert np.array_equal(one.signal.read(0, 60), expected)


@pytest.mark.parametrize("wish", BOTH)
def test_a_label_that_holds_a_hyphen_is_no_difference(tmp_path, wish):
    truth = write_psg(tmp_path / "a.edf", 2, {"E1": 100, "E2": 100, "E1 - E2": 100})
    one = match(EdfFile(tmp_path / "a.edf"), [("EOG", "EOG")], {"EOG": wish})["EOG"]
    assert one.parts == ("E1 - E2",)
    np.testing.assert_allclose(one.signal.read(0, 60), truth["E1 - E2"], atol=1e-9)


def test_broken_channels_matter_to_who_asks_for_them(tmp_path):
    write_psg(tmp_path / "a.edf", 2, {"EEG": 100, "E1": 100, "E2": 100})
    path = tmp_path / "a.edf"
    path.write_bytes(path.read_bytes().replace(b"E2".ljust(16), b"E1".ljust(16), 1))
    signals = FileSignals(EdfFile(path))
    assert list(signals) == ["EEG", "E1"] and len(signals) == 2 and "E2" not in signals
    assert first_of(["EEG"], signals).parts == ("EEG",)
    assert first_of(["E1"], signals).parts == ("E1",)


def test_every_table_of_names_is_read():
    files = sorted(path.name for path in COHORTS.glob("*_channels.json"))
    assert files == [f"{name}_channels.json" for name in ("dreem", "nsrr")]
    for cohort in ("sleepedf", "dreem", "ucddb", "shhs", "mesa", "mros", "wsc", "apples"):
        table = alternatives(cohort)
        assert {"EEG", "EOG", "EMG"} <= set(table)
        assert all(set(labels) <= set(known_names([])[role]) for role, labels in table.items())
    assert alternatives("dreem") == dreem.ROLES
    assert alternatives("somewhere else") == {}
    first = {role: labels[0] for role, labels in known_names([]).items()}
    assert (first["EEG"], first["EOG"], first["ECG"]) == ("EEG Fpz-Cz", "EOG horizontal", "ECG")


@pytest.mark.parametrize("text", ['["EEG"]', '{"EEG": "C4-M1"}', '{"EEG": [1]}', "{", "no"])
def test_what_is_no_channel_map_is_refused(tmp_path, text):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError, match=r"map\.json: not a channel map"):
        alternatives("shhs", tmp_path / "map.json")


def test_sums_and_opposite_signs_of_labels():
    """Chains are added up, C4-P4 + P4-A1 = C4-A1, and what was recorded upside down is turned."""
    values = {"C4-P4": 1.0, "P4-A1": 10.0, "Chin2-Chin1": 100.0}
    signals = {
        label: Signal(100.0, "uV", 30.0, lambda a, b, v=v: np.full(round((b - a) * 100), v))
        for label, v in values.items()
    }
    for wish, value, label in (
        ("C4-P4 + P4-A1", 11.0, "C4-P4+P4-A1"),
        ("- Chin2-Chin1", -100.0, "-Chin2-Chin1"),
        ("c4p4 - P4-A1 + Chin2-Chin1", 91.0, "C4-P4-P4-A1+Chin2-Chin1"),
        ("- C4-P4 - P4-A1", -11.0, "-C4-P4-P4-A1"),
        ("C4-P4 - P4-A1", -9.0, "C4-P4-P4-A1"),
    ):
        one = first_of([wish], signals)
        assert set(one.signal.read(0, 1)) == {value}, wish
        assert one.label == label
    assert first_of(["- Chin2-Chin1"], signals).derivation == "- Chin2-Chin1"
    assert first_of(["C4-P4 + Cz"], signals) is None


def test_a_channel_turned_upside_down_is_no_pair():
    """``- ROC-LOC`` is LOC - ROC; where the two are alone it must not become ROC - LOC."""
    pair = {x: Signal(100.0, "uV", 30.0, lambda a, b: np.ones(100)) for x in ("ROC", "LOC")}
    assert first_of(["- ROC-LOC"], pair) is None
    assert first_of(["- ROC-LOC", "LOC - ROC"], pair).derivation == "LOC - ROC"
