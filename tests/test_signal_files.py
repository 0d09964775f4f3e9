"""Recordings in formats of other libraries: U-Time's HDF5, MATLAB, EEGLAB, BrainVision, FIF."""

from __future__ import annotations

import h5py
import mne
import numpy as np
import pytest
import scipy.io

from datasets.readers.channels import find_role
from datasets.readers.profiles.profile import SignalFiles
from datasets.readers.signal_files import opened, parts_beside
from utils.errors import UserError

FS, SECONDS = 100.0, 60
RNG = np.random.default_rng(0)
VALUES = {"C4-M1": 30 * RNG.normal(size=6000), "E1-M2": 50 * RNG.normal(size=6000)}


def of_utime(path):
    with h5py.File(path, "w") as file:
        file.attrs["sample_rate"] = FS
        for label, values in VALUES.items():
            file[f"channels/{label}"] = values.astype(np.float32)


def of_matlab_4(path):
    scipy.io.savemat(path, {k.replace("-", "_"): v for k, v in VALUES.items()}, format="4")


def of_matlab_5(path):
    """Epochs in rows, as in ISRUC's extracted files, beside what is no signal."""
    epochs = {k.replace("-", "_"): v.reshape(2, 3000) for k, v in VALUES.items()}
    scipy.io.savemat(path, epochs | {"who": "nobody", "age": 40.0}, do_compression=True)


def of_matlab_73(path):
    """HDF5 behind 512 bytes of MATLAB's own, lists being matrices of one column."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for label, values in VALUES.items():
            file[label.replace("-", "_")] = values[:, None]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


def of_fif(path):
    about = mne.create_info(list(VALUES), FS, "eeg")
    volts = 1e-6 * np.stack(list(VALUES.values()))
    mne.io.RawArray(volts, about, verbose="error").save(path, verbose="error")


def of_brainvision(path):
    samples = np.stack(list(VALUES.values()), axis=1).astype("<f4")
    path.with_suffix(".eeg").write_bytes(samples.tobytes())
    channels = "\n".join(f"Ch{k}={label},,1,µV" for k, label in enumerate(VALUES, 1))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels=2\nSamplingInterval={1e6 / FS:g}\n[Binary Infos]\n"
        f"BinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )


def of_eeglab(path):
    labels = np.array([(label,) for label in VALUES], dtype=[("labels", object)])
    eeg = {
        "data": np.stack(list(VALUES.values())), "srate": FS, "nbchan": 2.0, "pnts": 6000.0,
        "trials": 1.0, "xmin": 0.0, "xmax": 59.99, "chanlocs": labels, "event": [], "epoch": [],
    }  # fmt: skip
    scipy.io.savemat(path, {"EEG": eeg})


KINDS = {
    "x.h5": (of_utime, SignalFiles("x", "h5", unit="uV")),
    "4.mat": (of_matlab_4, SignalFiles("x", "mat", rate=FS, unit="uV")),
    "5.mat": (of_matlab_5, SignalFiles("x", "mat", rate=FS, unit="uV")),
    "73.mat": (of_matlab_73, SignalFiles("x", "mat", rate=FS, unit="uV")),
    "x_raw.fif": (of_fif, SignalFiles("x", "mne")),
    "x.vhdr": (of_brainvision, SignalFiles("x", "mne")),
    "x.set": (of_eeglab, SignalFiles("x", "mne")),
}


@pytest.mark.parametrize("name", KINDS)
def test_samples_rates_and_units(tmp_path, name):
    write, kind = KINDS[name]
    path = tmp_path / name
    write(path)
    file = opened(path, kind)
    assert file.path == path
    assert file.seconds == pytest.approx(SECONDS)
    one = find_role(file, "EEG", ["C4-M1"])
    assert one.signal.fs == FS
    factor = {"V": 1e6, "uV": 1}[one.signal.unit]
    for start, stop in ((0, 60), (12.5, 13)):
        expected = VALUES["C4-M1"][round(start * FS) : round(stop * FS)]
        np.testing.assert_allclose(factor * one.signal.read(start, stop), expected, rtol=1e-5)
    assert find_role(file, "EMG", ["Chin"]) is None


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("damage", ["cut", "none", "zeros"])
def test_damaged_files_are_refused(tmp_path, name, damage):
    write, kind = KINDS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    path.unlink()
    if damage != "none":
        path.write_bytes(whole[: len(whole) // 3] if damage == "cut" else bytes(4096))
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        file = opened(path, kind)
        file.read(file.channels[0].label, 0, SECONDS)


def test_parts_of_a_recording_belong_to_it(tmp_path):
    of_brainvision(tmp_path / "x.vhdr")
    assert parts_beside(tmp_path / "x.vhdr", "mne") == [tmp_path / "x.eeg"]


def test_a_rate_that_nobody_names_is_asked_for(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["channels/C4"] = np.ones(6000)
    with pytest.raises(UserError, match=r"x.h5: .*rate of C4; declare it: signals.rate"):
        opened(tmp_path / "x.h5", SignalFiles("x", "h5"))
