"""The strict EDF reader: every broken header is one line, every annotation counts."""

from __future__ import annotations

import edfio
import numpy as np
import pytest

from datasets.readers.edf import EdfFile
from tests.edf_files import decode, write_discontinuous, write_hypnogram, write_psg
from utils.errors import UserError


@pytest.fixture
def psg(tmp_path):
    path = tmp_path / "SC4001E0-PSG.edf"
    write_psg(path, 4)
    return path


def patch(path, at, new):
    raw = bytearray(path.read_bytes())
    raw[at : at + len(new)] = new
    path.write_bytes(raw)


def test_header_and_samples(psg):
    file = EdfFile(psg)
    assert file.start.isoformat() == "1989-04-24T16:13:00"
    assert file.seconds == 120
    assert [(c.label, c.fs, c.unit) for c in file.channels] == [
        ("EEG Fpz-Cz", 100, "uV"),
        ("EOG horizontal", 100, "uV"),
        ("EMG submental", 1, "uV"),
    ]
    for label, (fs, values) in decode(psg)[0].items():
        read = file.read(label, 0, 120)
        np.testing.assert_allclose(read, values, atol=1e-9)
        np.testing.assert_allclose(file.read(label, 30, 90), read[round(30 * fs) : round(90 * fs)])


def test_saturated_samples_stay_saturated(psg):
    samples = EdfFile(psg).read("EEG Fpz-Cz", 0, 30)
    assert samples[0] == -192
    assert samples[1] == pytest.approx(192)


def test_sixty_second_records_hold_the_same_samples(tmp_path, psg):
    other = tmp_path / "long.edf"
    write_psg(other, 4, record_seconds=60)
    a, b = EdfFile(psg), EdfFile(other)
    assert a.seconds == b.seconds
    for channel in a.channels:
        np.testing.assert_array_equal(a.read(channel.label, 0, 120), b.read(channel.label, 0, 120))


BROKEN = {
    "other bytes": (0, b"RIFFabcd", "not an EDF file"),
    "biosemi": (0, b"\xffBIOSEMI", "truncated: its header promises"),
    "signal count": (252, b"5   ", "signal count|truncated"),
    "no signal count": (252, b"xx  ", "number of signals"),
    "header size": (184, b"9999    ", "signal count"),
    "zero records": (236, b"0       ", "holds no data"),
    "unfinished": (236, b"-1      ", "holds no data"),
    "many records": (236, b"5       ", "truncated: its header promises"),
    "few records": (236, b"3       ", "bytes after its last record"),
    "record duration": (244, b"0       ", "record duration"),
    "negative duration": (244, b"-30     ", "record duration"),
    "endless duration": (244, b"1e999   ", "record duration"),
    "absurd duration": (244, b"3e8     ", "claims to last"),
    "underscored number": (236, b"1_0     ", "number of records"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_headers_are_one_line(psg, case):
    at, new, message = BROKEN[case]
    patch(psg, at, new)
    with pytest.raises(UserError, match=message) as caught:
        EdfFile(psg)
    assert str(psg) in str(caught.value)


def field_at(column_start: int, signal: int, width: int) -> int:
    return 256 + column_start * 3 + signal * width


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (field_at(104, 0, 8), b"192     "),  # physical min = max
        (field_at(104, 0, 8), b"none    "),
        (field_at(104, 0, 8), b"-1e40   "),
        (field_at(120, 1, 8), b"2047    "),  # digital min = max
        (field_at(128, 1, 8), b"99999   "),  # beyond 16 bit
        (field_at(216, 2, 8), b"-30     "),
    ],
)
def test_broken_signal_fields_are_one_line(psg, at, new):
    patch(psg, at, new)
    with pytest.raises(UserError, match="fetch it again"):
        for label in ("EEG Fpz-Cz", "EOG horizontal", "EMG submental"):
            EdfFile(psg).read(label, 0, 30)


def test_a_broken_range_matters_only_to_who_reads_it(psg):
    # markers and sensors of real files carry odd ranges; they must not cost the EEG
    patch(psg, field_at(104, 2, 8), b"192     ")
    file = EdfFile(psg)
    assert len(file.read("EEG Fpz-Cz", 0, 120)) == 12_000
    with pytest.raises(UserError, match="'EMG submental' has an empty value range"):
        file.read("EMG submental", 0, 30)


@pytest.mark.parametrize("size", [0, 100, 255, 256, 700, 1023, 5000])
def test_truncated_files_are_one_line(psg, size):
    psg.write_bytes(psg.read_bytes()[:size])
    with pytest.raises(UserError, match=r"not an EDF|truncated"):
        EdfFile(psg)


def test_missing_channels_are_named(psg):
    with pytest.raises(UserError, match="no channel 'EEG C3'; it has: EEG Fpz-Cz, EOG horizontal"):
        EdfFile(psg).read("EEG C3", 0, 30)


def test_annotations_in_file_order(tmp_path):
    path = tmp_path / "h.edf"
    write_hypnogram(path, [("W", 3), ("1", 1), ("?", 2)], first_epoch=5)
    annotations = [(a.onset, a.duration, a.text) for a in EdfFile(path).annotations()]
    assert annotations == [
        (150, 90, "Sleep stage W"),
        (240, 30, "Sleep stage 1"),
        (270, 60, "Sleep stage ?"),
    ]
    assert annotations == decode(path)[1]


@pytest.mark.parametrize("letter", [b"\x15", b"\x14", b"+", b"S"])
def test_a_damaged_annotation_is_never_skipped(tmp_path, letter):
    # edfio's own parser drops an entry it cannot match; an epoch would lose its stage in silence
    path = tmp_path / "h.edf"
    write_hypnogram(path, [("W", 3), ("1", 1), ("2", 2)])
    raw = path.read_bytes()
    at = raw.index(letter, raw.index(b"Sleep stage W") + 20 if letter != b"S" else 512)
    patch(path, at, b"\x00" if letter != b"S" else b"\xff")
    with pytest.raises(UserError, match="broken EDF"):
        EdfFile(path).annotations()


def test_discontinuous_recordings_are_refused(real_data):
    path = real_data / "edf_edge_cases" / "edfPlusD-discontinuous.edf"
    with pytest.raises(UserError, match="discontinuous"):
        EdfFile(path)


@pytest.mark.parametrize("name", ["invalid-date.edf", "zero-data-records.edf"])
def test_real_broken_files_are_refused(real_data, name):
    with pytest.raises(UserError, match=name):
        EdfFile(real_data / "edf_edge_cases" / name)


def test_real_utf8_annotations_are_read(real_data):
    file = EdfFile(real_data / "edf_edge_cases" / "test_utf8_annotations.edf")
    texts = [a.text for a in file.annotations()]
    assert any(not text.isascii() for text in texts)


def test_a_gap_between_annotations_alone_is_none(tmp_path):
    # format-faithful EDF+D: two records, the second ten seconds late, and no signal to be torn
    path = tmp_path / "d.edf"
    write_hypnogram(path, [("W", 1)])
    raw = path.read_bytes()
    stamps = b"".join(stamp.ljust(40, b"\x00") for stamp in (b"+0\x14\x14\x00", b"+40\x14\x14\x00"))
    header = bytearray(raw[:512])
    header[192:197] = b"EDF+D"
    header[236:244] = b"2       "
    header[244:252] = b"30      "
    header[256 + 216 : 256 + 224] = b"20      "
    path.write_bytes(bytes(header) + stamps)
    assert EdfFile(path).annotations() == []


def test_a_recording_with_gaps_lies_on_its_own_clock(tmp_path):
    path = tmp_path / "d.edf"
    digital = write_discontinuous(path, [0, 10, 45.5, 55.5])
    with pytest.raises(UserError, match=r"discontinuous \(EDF\+D\), first at 10 s"):
        EdfFile(path)
    file = EdfFile(path, gaps=True)
    assert file.seconds == 65.5
    np.testing.assert_allclose(file.gaps, [[20, 45.5]])
    values = -192 + (digital + 2048.0) * 384 / 4095
    whole = file.read("EEG", 0, file.seconds)
    expected = np.full(655, np.nan)
    for row, onset in zip(values, (0, 100, 455, 555), strict=True):
        expected[onset : onset + 100] = row
    np.testing.assert_allclose(whole, expected)
    np.testing.assert_allclose(file.read("EEG", 44, 47), expected[440:470])
    assert np.isnan(file.read("EEG", 25, 30)).all()
    write_discontinuous(path, [0, 5])
    with pytest.raises(UserError, match="records overlap"):
        EdfFile(path, gaps=True)


def test_bdf_is_read_with_all_its_bits(tmp_path):
    """24 bits, annotations and all; edfio reads the same."""
    rng = np.random.default_rng(0)
    digital = rng.integers(-(2**23), 2**23, (2, 60 * 16)).astype(np.int32)
    digital[:, :2] = -(2**23), 2**23 - 1
    signals = [
        edfio.BdfSignal.from_digital(
            row, 16, label=label, physical_dimension="uV", physical_range=(-262144, 262143)
        )
        for label, row in zip(("C3", "C4"), digital, strict=True)
    ]
    path = tmp_path / "a.bdf"
    edfio.Bdf(signals, annotations=[edfio.EdfAnnotation(30, 30, "Sleep stage W")]).write(path)
    ours, theirs = EdfFile(path), edfio.read_bdf(path)
    for label in ("C3", "C4"):
        np.testing.assert_allclose(
            ours.read(label, 0, 60), theirs.get_signal(label).data, rtol=1e-6, atol=1e-2
        )
    assert ours.read("C4", 0, 60)[1] == pytest.approx(262143)
    assert [(a.onset, a.text) for a in ours.annotations()] == [(30, "Sleep stage W")]
    with pytest.raises(UserError, match="truncated"):
        path.write_bytes(path.read_bytes()[:-3])
        EdfFile(path)


def test_held_channels_are_read_in_one_pass_and_never_again(tmp_path, monkeypatch):
    path = tmp_path / "a.edf"
    write_psg(path, 4, {"EEG Fpz-Cz": 100, "EOG": 50, "EMG": 1}, record_seconds=5)
    plain, held = EdfFile(path), EdfFile(path)
    wanted = {label: plain.read(label, 0, 120) for label in ("EEG Fpz-Cz", "EOG")}
    reads, original = [], np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *a, **k: reads.append(a) or original(*a, **k))
    held.hold([*wanted, "EOG"])
    assert sum(count for _, _, count in reads) == path.stat().st_size - held._header.n_bytes
    reads.clear()
    for label, samples in wanted.items():
        np.testing.assert_array_equal(held.read(label, 0, 120), samples)
        fs = held.channel(label).fs
        part = samples[round(7.3 * fs) : round(61 * fs)]
        np.testing.assert_array_equal(held.read(label, 7.3, 61), part)
    assert not reads
    held.read("EMG", 0, 30)  # one that nobody held
    assert reads
