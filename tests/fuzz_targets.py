"""What is damaged by ``tests.fuzzing``: sound files of every kind, their readers, and the truth.

Readers of experts' stages all go through ``expert_annotations.read``: a new layout is an entry of
``SCORINGS``.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.dom import minidom

import h5py
import numpy as np
import torch

from datasets.band_tables import read_table
from datasets.readers import dreem, expert_annotations, partial_night
from datasets.readers.any_file import opened
from datasets.readers.edf import EdfFile
from datasets.readers.known_channels import alternatives
from datasets.readers.profiles import profile
from datasets.readers.scorings import nsrr_annotations
from datasets.readers.wfdb_file import WfdbFile, notes_of
from datasets.store import folds
from datasets.store.store import Store
from datasets.store.stored_file import StoredFile
from datasets.store.views import View
from evaluation.stagers.published_files import read_dreem, read_state
from experiments import search_space
from models.published import NotThese
from tests.cohort_files.written import matlab_record, wfdb_notes
from tests.edf_files import decode, write_hypnogram, write_psg
from tests.small_store import write_small_store
from tests.test_checkpoint import FACTS
from training import ssl_flags
from utils import manifest
from utils.arguments import ScriptParser, add_flag, add_list
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError

EPOCHS = 8


@dataclass(frozen=True)
class Target:
    """One kind of file. ``write(folder)`` returns the files that may be damaged, ``read(folder)``
    what is read of all of them; ``check(folder, what was read, what the sound ones gave)`` compares
    with the truth. ``is_text``: numbers and encodings are changed, too.
    """

    write: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    check: Callable[[Path, Any, Any], None] | None = None
    is_text: bool = False


# --- recordings ---------------------------------------------------------------------------------


def write_edf(folder: Path) -> list[Path]:
    channels = {"EEG Fpz-Cz": 4, "EOG horizontal": 4, "EMG": 1}
    write_psg(folder / "night.edf", EPOCHS, channels)
    return [folder / "night.edf"]


def read_recording(path: Path) -> dict[str, tuple[float, np.ndarray]]:
    """Every channel that can be read: rate and samples."""
    file, channels = opened(path), {}
    assert 0 <= file.seconds <= 10 * 86_400
    for channel in file.channels:
        try:
            one = file.channel(channel.label)
            channels[one.label] = one.fs, file.read(one.label, 0, file.seconds)
        except UserError:
            continue
    return channels


def check_edf(folder: Path, channels: Any, sound: Any) -> None:
    """Samples are those that an independent decoder reads of the same bytes."""
    try:
        truth, _ = decode(folder / "night.edf")
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        return  # what the decoder cannot read it cannot judge
    with (folder / "night.edf").open("rb") as file:
        is_labelled_twice = len(truth) < int(file.read(256)[252:256])
    if is_labelled_twice:
        return
    # what cannot be printed is shown as a question mark
    truth = {"".join(c if c.isprintable() else "?" for c in k): one for k, one in truth.items()}
    for label, (fs, samples) in channels.items():
        expected_fs, expected = truth[label]
        assert abs(fs - expected_fs) <= 1e-9 * fs, f"{label}: {fs} Hz"
        n = min(len(samples), len(expected))
        np.testing.assert_allclose(samples[:n], expected[:n], rtol=1e-6, atol=1e-6)


def write_annotated(folder: Path) -> list[Path]:
    write_edf(folder)
    write_hypnogram(folder / "hypnogram.edf", [("W", 2), ("1", 1), ("2", 2), ("3", 1), ("R", 2)])
    return [folder / "hypnogram.edf"]


def read_annotated(folder: Path) -> Any:
    return read_expert(folder, "hypnogram.edf")


def check_annotated(folder: Path, stages: Any, sound: Any) -> None:
    """No stage is made up: a text of the file stands for each."""
    check_codes(folder, stages, sound)
    try:
        texts = {text for _, _, text in decode(folder / "hypnogram.edf")[1]}
        # the decoder passes over what follows a byte that is out of place
        raw = (folder / "hypnogram.edf").read_bytes()
        texts |= {text.decode() for text in re.findall(rb"Sleep stage [\w?]+", raw)}
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        return
    letters = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4, "N1": 1, "N2": 2, "N3": 3}
    known = {letters[word] for text in texts if (word := text.split(" ")[-1]) in letters}
    assert set(stages.tolist()) - {-1} <= known, f"{stages} of {texts}"


def write_hdf5(folder: Path) -> list[Path]:
    described = {"fs": 10, "unit": "uV", "path": "signals/eeg/C3", "name": "C3"}
    with h5py.File(folder / "night.h5", "w") as file:
        samples = np.arange(300.0 * EPOCHS)
        # blocks with checksums: what is damaged in them cannot be read
        whole = {"chunks": (300,), "fletcher32": True}
        file.create_dataset("signals/eeg/C3", data=samples, **whole)
        file.create_dataset("hypnogram", data=np.arange(EPOCHS) % 5, chunks=(4,), fletcher32=True)
        file.attrs["description"] = json.dumps([described])
        file.attrs["start_time"] = 3600
    return [folder / "night.h5"]


def check_hdf5(folder: Path, channels: Any, sound: Any) -> None:
    for _, samples in channels.values():
        n = min(len(samples), 300 * EPOCHS)
        # a list that grew by its description has zeros behind its end
        np.testing.assert_array_equal(samples[:n], np.arange(n))


def write_zip(folder: Path) -> list[Path]:
    (record,) = write_hdf5(folder)
    with zipfile.ZipFile(folder / "dodh.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(record, "dodh/night.h5")
    record.unlink()
    return [folder / "dodh.zip"]


def read_zip(folder: Path) -> Any:
    for record in dreem.find_records(folder / "dodh.zip"):
        with record.at_hand() as local:
            return {"C3": (10, dreem.read(local).signals["C3"].read(0, 30.0 * EPOCHS))}


def write_partial(folder: Path) -> list[Path]:
    arrays = {
        "x": np.ones((2, 300), np.int16), "scale": 0.5, "epoch": [0, 9], "n_epochs": 10,
        "stage": [0] * 10, "fs": 10,
    }  # fmt: skip
    np.savez(folder / "night.npz", **arrays)
    return [folder / "night.npz"]


def read_partial(folder: Path) -> Any:
    file, expert = partial_night.read(folder / "night.npz")
    return file.read("EEG C4-A1", 0, 300), expert


def check_same(folder: Path, arrays: Any, sound: Any) -> None:
    """What has a checksum is read as it was, or not at all."""
    for one, other in zip(arrays, sound, strict=True):
        np.testing.assert_array_equal(one, other)


# --- experts' stages ----------------------------------------------------------------------------

_CODES = [0, 1, 2, 3, 5, 2, 0, 1]
_NAMES = ["W", "N1", "N2", "N3", "R", "N2", "W", "N1"]
_EVENTS = "".join(
    f"<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Stage|{code}</EventConcept>"
    f"<Start>{30 * k}</Start><Duration>30</Duration></ScoredEvent>"
    for k, code in enumerate(_CODES)
)
SCORINGS = {
    "profusion.xml": '<?xml version="1.0" encoding="utf-8"?><CMPStudyConfig><EpochLength>30'
    "</EpochLength><SleepStages>"
    + "".join(f"<SleepStage>{code}</SleepStage>" for code in _CODES)
    + "</SleepStages></CMPStudyConfig>",
    "nsrr.xml": f"<PSGAnnotation><ScoredEvents>{_EVENTS}</ScoredEvents></PSGAnnotation>",
    "list.txt": "\n".join(_NAMES) + "\n",
    "numbers.txt": "\n".join(map(str, _CODES)) + "\n",
    "night_stage.txt": "\n".join(map(str, _CODES)) + "\n",
    "table.csv": "epoch,onset_s,stage\n"
    + "".join(f"{k},{30 * k},{name}\n" for k, name in enumerate(_NAMES)),
    "events.tsv": "onset\tduration\ttrial_type\n"
    + "".join(f"{30 * k}\t30\t{name}\n" for k, name in enumerate(_NAMES)),
}
# layouts of cohorts that are read where their names are known
_START = datetime(2000, 1, 1, 22)
_CLOCKED = "".join(
    f"22:{k // 2:02}:{30 * (k % 2):02}\tSTAGE - {name}\n" for k, name in enumerate(_NAMES)
)
OF_COHORTS = {
    "apples": (
        "class\tinstance\tchannel\tstart\tstop\tmeta\n"
        + "".join(f"{n}\t.\t.\t{30 * k}\t{30 * k + 30}\t.\n" for k, n in enumerate(_NAMES)),
        lambda path: nsrr_annotations.read_apples(path, _START, EPOCHS),
    ),
    "wsc gamma": (
        "Epoch\tStage\n" + "".join(f"{k + 1}\t{code}\n" for k, code in enumerate(_CODES)),
        lambda path: nsrr_annotations.read_wsc_gamma(path, EPOCHS),
    ),
    "wsc twin": (
        "22:00:00\tSTART RECORDING\n" + _CLOCKED,
        lambda path: nsrr_annotations.read_wsc_twin(path, EPOCHS, _START),
    ),
}


def of_cohort(text: str, read: Callable[[Path], np.ndarray]) -> Target:
    """The target of one layout that has a reader of its own."""

    def write(folder: Path) -> list[Path]:
        (folder / "night.txt").write_text(text)
        return [folder / "night.txt"]

    def check(folder: Path, stages: Any, sound: Any) -> None:
        assert stages.shape == (EPOCHS,) and ((stages >= -1) & (stages <= 4)).all()

    return Target(write, lambda folder: read(folder / "night.txt"), check, is_text=True)


def read_expert(folder: Path, name: str) -> np.ndarray:
    return expert_annotations.read(folder / name, EdfFile(folder / "night.edf"), EPOCHS)[0]


def check_codes(folder: Path, stages: Any, sound: Any) -> None:
    assert stages.dtype == np.int8 and stages.shape == (EPOCHS,)
    assert ((stages >= -1) & (stages <= 4)).all() and (stages >= 0).any()


def check_profusion(folder: Path, stages: Any, sound: Any) -> None:
    """Stages of bytes that another parser understands."""
    check_codes(folder, stages, sound)
    raw = (folder / "profusion.xml").read_bytes()
    try:
        document = minidom.parseString(raw)
    except Exception:  # it reads fewer encodings, and judges nothing else
        return
    texts = [
        "".join(node.data for node in stage.childNodes if node.nodeType == node.TEXT_NODE).strip()
        for stage in document.getElementsByTagName("SleepStage")
        if stage.parentNode.tagName == "SleepStages"
        and stage.parentNode.parentNode is document.documentElement
        and len(stage.childNodes) <= 1
    ]
    codes = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 3, "5": 4}
    expected = [codes.get(text.lstrip("0") or "0" if text else "", -1) for text in texts][:EPOCHS]
    if len(expected) == EPOCHS:
        assert stages.tolist() == expected, f"{stages} of {texts}"


def scoring(name: str, text: str) -> Target:
    """The target of one layout of an expert's stages."""

    def write(folder: Path) -> list[Path]:
        write_edf(folder)
        (folder / name).write_text(text)
        return [folder / name]

    check = check_profusion if name == "profusion.xml" else check_codes
    return Target(write, lambda folder: read_expert(folder, name), check, is_text=True)


# --- weights ------------------------------------------------------------------------------------

_STATE = {"layer.weight": torch.arange(12.0).reshape(3, 4), "n": torch.tensor(3)}


def write_checkpoint(folder: Path) -> list[Path]:
    content = {
        "model": "chambon2018", "settings": {"num_seq": 3}, "channels": [["EEG", "EEG"]],
        "fs": 100.0, "standardise": "recording", "state": _STATE, "trained": FACTS,
    }  # fmt: skip
    save_checkpoint(folder / "best.pt", content)
    return [folder / "best.pt"]


def read_checkpoint(folder: Path) -> Any:
    one = load_checkpoint(folder / "best.pt")
    return one.fingerprint(), one.model, dict(one.settings), one.channels, one.fs


def check_equal(folder: Path, value: Any, sound: Any) -> None:
    assert value == sound, f"{value} of {sound}"


def write_state(folder: Path) -> list[Path]:
    torch.save(_STATE, folder / "state.pt")
    torch.save(_STATE, folder / "old.pt", _use_new_zipfile_serialization=False)
    return [folder / "state.pt", folder / "old.pt"]


def read_published(folder: Path) -> Any:
    return [
        _as_user_error(read_state, (folder / f"{name}.pt").read_bytes())
        for name in ("state", "old")
    ]


def _as_user_error(read: Callable, *given: Any) -> Any:
    try:
        return read(*given)
    except NotThese as error:  # which convert_checkpoint.py prints with the file's name
        raise UserError(str(error)) from error


def write_tar(folder: Path) -> list[Path]:
    import tarfile

    torch.save(_STATE, folder / "state.torch")
    statistics = {"mu": [0.0] * 129, "sigma": [1.0] * 129}
    (folder / "normalization_parameters.json").write_text(json.dumps(statistics))
    with tarfile.open(folder / "w.gz", "w") as archive:
        for name in ("state.torch", "normalization_parameters.json"):
            archive.add(folder / name, name)
    return [folder / "w.gz"]


# --- stores -------------------------------------------------------------------------------------


def write_store(folder: Path) -> list[Path]:
    store = write_small_store(folder / "store")
    names = ("recordings.csv", "dataset.json", "nights/a/night.json")
    return [store / name for name in names]


def write_arrays(folder: Path) -> list[Path]:
    store = write_small_store(folder / "store")
    return [store / "nights/a/signals.npy", store / "nights/a/stages.npy"]


def read_store(folder: Path) -> Any:
    """As training reads it, in memory and in pieces, and as stagers do."""
    arrays = []
    for budget in (1.0, 0.0):
        store = Store(folder / "store")
        view = View(store, sorted(store.recordings), standardise="none", budget_gb=budget)
        batches = list(view.epochs(4, scored_only=False))
        arrays.append(torch.cat([batch.signals for batch in batches]).numpy())
        arrays.append(torch.cat([batch.stages for batch in batches]).numpy())
    file = StoredFile(store, "a")
    return [*arrays, file.read(file.channels[0].label, 0, file.seconds)]


def check_arrays(folder: Path, arrays: Any, sound: Any) -> None:
    """Both ways give the bytes behind the header, which is 128 bytes long."""
    night = folder / "store/nights/a"
    n = sound[0][: len(sound[0]) // 2].size
    signals = np.frombuffer((night / "signals.npy").read_bytes()[128:], "<f4", n)
    stages = np.frombuffer((night / "stages.npy").read_bytes()[128:], np.int8)
    for given, codes in (arrays[:2], arrays[2:4]):
        np.testing.assert_array_equal(given[: len(given) // 2].ravel(), signals)
        np.testing.assert_array_equal(codes[: len(stages)].ravel(), stages)


def check_store(folder: Path, arrays: Any, sound: Any) -> None:
    """A description may name other channels, but never other samples."""
    for one, other in zip(arrays[:4], sound[:4], strict=True):
        np.testing.assert_array_equal(one, other)


def write_folds(folder: Path) -> list[Path]:
    parts = [
        {"train": ["S1"], "val": ["S2"], "test": ["S3"]},
        {"train": ["S3"], "val": ["S2"], "test": ["S1"]},
    ]
    (folder / "f.json").write_text(json.dumps({"name": "x", "source": "y", "folds": parts}))
    return [folder / "f.json"]


def check_folds(folder: Path, table: Any, sound: Any) -> None:
    for fold in table.folds:
        parts = [*fold.train, *fold.val, *fold.test]
        assert len(set(parts)) == len(parts) and all(isinstance(one, str) for one in parts)


def write_band_table(folder: Path) -> list[Path]:
    np.savez(
        folder / "t.npz",
        SC4001_db=np.zeros((4, 3, 5), np.float16),
        SC4001_stage=np.array([0, 1, 2, -1], np.int8),
    )
    return [folder / "t.npz"]


def write_record(folder: Path) -> list[Path]:
    """A WFDB record over a MATLAB matrix, with its notes."""
    stem = folder / "tr03-0001"
    signals = {"C4-M1": (10.0, "uV", np.arange(240 * 10) % 100.0)}
    matlab_record(stem, 10, signals, datetime(2018, 1, 1, 22))
    notes = [(0, "W"), (300, "N1"), (600, "(resp"), (900, "R")]
    wfdb_notes(stem, "arousal", notes, 10)
    return [folder / f"tr03-0001.{suffix}" for suffix in ("hea", "mat", "arousal")]


def read_record(folder: Path) -> Any:
    file = WfdbFile(folder / "tr03-0001.hea")
    samples = [file.read(channel.label, 0, file.seconds) for channel in file.channels]
    return samples, notes_of(folder / "tr03-0001.arousal")


# --- configurations -----------------------------------------------------------------------------


def write_config(folder: Path) -> list[Path]:
    values = {"rate": 2.5, "folds": [3, 4], "names": ["a"], "keep": True, "where": "x/y"}
    (folder / "c.json").write_text(json.dumps(values))
    return [folder / "c.json"]


def read_config(folder: Path) -> Any:
    parser = ScriptParser("test")
    parser.add_argument("--rate", type=float, default=1.0, help="a number")
    add_list(parser, "--folds", item=int, default=[0], help="a list")
    add_list(parser, "--names", help="a list of names")
    add_flag(parser, "--keep", help="a boolean")
    parser.add_argument("--where", type=Path, help="a path")
    return parser.parse(["--config", str(folder / "c.json")])


def check_config(folder: Path, args: Any, sound: Any) -> None:
    assert args.rate is None or (type(args.rate) is float and np.isfinite(args.rate))
    assert args.folds is None or all(type(one) is int for one in args.folds)
    assert args.names is None or all(type(one) is str for one in args.names)
    assert args.keep is None or type(args.keep) is bool


def json_target(value: Any, read: Callable[[Path], Any], check: Any = None) -> Target:
    """The target of a JSON file that holds ``value``."""

    def write(folder: Path) -> list[Path]:
        (folder / "x.json").write_text(json.dumps(value))
        return [folder / "x.json"]

    return Target(write, lambda folder: read(folder / "x.json"), check, is_text=True)


def write_manifest(folder: Path) -> list[Path]:
    (folder / "a.txt").write_text("ours")
    manifest.write_for_tree(folder, "x")
    return [folder / manifest.NAME]


def check_manifest(folder: Path, listed: Any, sound: Any) -> None:
    """Whatever the list holds, a file is ours only if its bytes are those of the list."""
    (folder / "a.txt").write_text("somebody's own")
    assert not manifest.is_ours(folder / "a.txt") or listed.files["a.txt"].grows


def read_scorers(path: Path) -> Any:
    return dreem.read_scorers(SimpleNamespace(scorers=(path, path), id="x"))


_SECTIONS = json.loads(
    (Path(__file__).parents[1] / "configs/DLPROJ_pretrain_MP_CNN_Sleep-EDF-2018.json").read_text()
)
_SPACE = {
    "lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "n": [64, 128],
    "k": {"low": 1, "high": 5},
}
TARGETS = {
    "edf": Target(write_edf, lambda folder: read_recording(folder / "night.edf"), check_edf),
    "edf+": Target(write_annotated, read_annotated, check_annotated),
    "wfdb": Target(write_record, read_record),
    "profile": json_target(
        json.loads((profile.FOLDER / "hmc.json").read_text()), lambda path: profile.load(str(path))
    ),
    "hdf5": Target(write_hdf5, lambda folder: read_recording(folder / "night.h5"), check_hdf5),
    "zip of hdf5": Target(write_zip, read_zip, check_hdf5),
    "partial night": Target(write_partial, read_partial, check_same),
    **{name: scoring(name, text) for name, text in SCORINGS.items()},
    **{name: of_cohort(*one) for name, one in OF_COHORTS.items()},
    "checkpoint": Target(write_checkpoint, read_checkpoint, check_equal),
    "published weights": Target(write_state, read_published),
    "published tar": Target(write_tar, lambda folder: _as_user_error(read_dreem, folder / "w.gz")),
    "store": Target(write_store, read_store, check_store, is_text=True),
    "arrays of a store": Target(write_arrays, read_store, check_arrays),
    "folds": Target(write_folds, lambda folder: folds.load(folder / "f.json"), check_folds, True),
    "band table": Target(write_band_table, lambda folder: read_table(folder / "t.npz")),
    "configuration": Target(write_config, read_config, check_config, is_text=True),
    "published configuration": json_target(_SECTIONS, ssl_flags.read_config),
    "search space": json_target(_SPACE, search_space.read_space),
    "channel map": json_target({"EEG": ["C4-M1"]}, lambda path: alternatives("shhs", path)),
    "scorer": json_target([0, 1, 2, -1, 4], read_scorers),
    "list of files": Target(write_manifest, manifest.read, check_manifest, is_text=True),
}
