"""Tables of band powers: whole nights as five numbers per epoch and derivation, in one small file.

::

    <recording>_db       float16 (n, derivations, 5): delta, theta, alpha, sigma, beta in dB; an
                         epoch and derivation without signal is NaN in all five
    <recording>_stage    int8 (n,), -1 = unscored
    <recording>_subject  text; without it, the subject of a Sleep-EDF recording by its name
    derivations, cohort  text, of all nights; without them, those of Sleep-EDF's cassette nights
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.readers import npz_file
from datasets.store.store import Store
from utils.errors import UserError
from utils.files import write_arrays
from utils.stages import STAGES, UNSCORED

N_BANDS = 5
# of tables that do not name them: Sleep-EDF's cassette nights
_DERIVATIONS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
_COHORT = "sleepedf-2018"
_OF_TABLE = ("derivations", "cohort")
_OF_NIGHT = re.compile(r"(?P<recording>.+)_(?P<what>db|stage|subject|first_s)")
_SLEEP_EDF = re.compile(r"(S[CT]\d{3})\d")


@dataclass(frozen=True)
class BandNight:
    """A night's band powers: ``decibels`` float32 (n, derivations, 5), ``stages`` int8 (n,)."""

    recording: str
    subject: str
    decibels: np.ndarray
    stages: np.ndarray


@dataclass(frozen=True)
class BandTable:
    """Nights in the order of their names, in the same ``derivations``.

    ``cohort`` begins with ``synthetic-`` for simulated nights.
    """

    path: Path
    cohort: str
    derivations: tuple[str, ...]
    nights: tuple[BandNight, ...]

    @property
    def subjects(self) -> list[str]:
        """Subject ids, ascending."""
        return sorted({night.subject for night in self.nights})

    def of_subjects(self, subjects: Sequence[str]) -> list[BandNight]:
        """Nights of these subjects."""
        return [night for night in self.nights if night.subject in set(subjects)]

    def derivation(self, name: str) -> int:
        """Number of a derivation by its label, with or without the kind before it.

        Raises:
            UserError: the table has no such derivation.
        """
        for k, label in enumerate(self.derivations):
            if name in (label, label.partition(" ")[2]):
                return k
        raise UserError(
            f"{self.path}: no derivation {name!r}; it has {', '.join(self.derivations)}"
        )

    @property
    def is_eog(self) -> list[bool]:
        """Which derivations are of the eyes, not of the brain."""
        return [label.startswith("EOG") for label in self.derivations]


def read_table(path: Path) -> BandTable:
    """Read a table of band powers.

    Raises:
        UserError: no such file, a damaged one, or one that is no such table.
    """
    arrays = npz_file.read(path, "table of band powers")
    derivations = tuple(map(str, arrays.pop("derivations", np.array(_DERIVATIONS)).ravel()))
    cohort = str(arrays.pop("cohort", np.array(_COHORT)))
    nights: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        if not (match := _OF_NIGHT.fullmatch(key)):
            raise UserError(f"{path}: {key!r} is no array of a table of band powers; remove it")
        nights.setdefault(match["recording"], {})[match["what"]] = array
    if not nights:
        raise UserError(f"{path}: a table without nights; make it again")
    read = [_night(path, name, nights[name], len(derivations)) for name in sorted(nights)]
    return BandTable(path, cohort, derivations, tuple(read))


def _night(path: Path, recording: str, parts: Mapping[str, np.ndarray], n: int) -> BandNight:
    if lacking := sorted({"db", "stage"} - parts.keys()):
        raise UserError(f"{path}: {recording} lacks {recording}_{lacking[0]}; make the table again")
    db, stages = parts["db"], parts["stage"]
    check_decibels(f"{path}: {recording}", db, (len(stages), n, N_BANDS) if stages.ndim else ())
    if stages.dtype.kind != "i" or not np.isin(stages, range(UNSCORED, len(STAGES))).all():
        raise UserError(f"{path}: {recording}: stages are whole numbers from -1 to 4")
    if "subject" in parts:
        subject = str(parts["subject"])
    elif match := _SLEEP_EDF.fullmatch(recording):
        subject = match[1]  # study and subject, as stores of Sleep-EDF name theirs
    else:
        raise UserError(f"{path}: {recording} names no subject; add {recording}_subject")
    return BandNight(recording, subject, db.astype(np.float32), stages.astype(np.int8))


def check_decibels(where: str, db: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse band powers of another shape, or with values that are neither decibels nor gaps.

    Raises:
        UserError: naming the fault.
    """
    if db.shape != shape or db.dtype.kind != "f" or not db.size:
        raise UserError(f"{where}: band powers {db.dtype} {db.shape}, not float {shape}")
    lost = np.isnan(db)
    if np.isinf(db).any() or (lost.any(axis=-1) != lost.all(axis=-1)).any():
        raise UserError(f"{where}: band powers that are not finite; a gap is NaN in all five bands")


def write_table(path: Path, table: BandTable) -> None:
    """Write a table; decibels are kept as float16, which is 0.03 dB."""
    arrays = {"cohort": np.array(table.cohort), "derivations": np.array(table.derivations)}
    for night in table.nights:
        arrays |= {
            f"{night.recording}_db": night.decibels.astype(np.float16),
            f"{night.recording}_stage": night.stages,
            f"{night.recording}_subject": np.array(night.subject),
        }
    write_arrays(path, arrays)


def table_of_store(
    store: Store, measure: Callable[[float], Callable[[Tensor], Tensor]], path: Path
) -> BandTable:
    """Band powers of every night of a store, in its EEG and EOG channels of the first's rate.

    ``measure(fs)`` makes a function of a night's signals (n, c, t) that returns dB (n, c, 5).
    ``path`` is where the table will be written.

    Raises:
        UserError: the store has no such channel.
    """
    fs = next((c.fs for c in store.channels if c.role.startswith("EEG")), None)
    if fs is None:
        raise UserError(f"{store.path}: no EEG channel; prepare the store with --channels EEG")
    of_rate = [channel for channel in store.channels if channel.fs == fs]
    # the EEG first: the first derivation is the one read where none is named
    columns = [k for kind in ("EEG", "EOG") for k, c in enumerate(of_rate) if c.role[:3] == kind]
    decibels, nights = measure(fs), []
    for recording in store.recordings:
        night = store.night(recording)
        signals = torch.from_numpy(np.array(night.signals(fs)[:, columns], dtype=np.float32))
        db = decibels(signals).numpy()
        nights.append(BandNight(recording, night.subject, db, np.array(night.stages)))
    return BandTable(path, store.cohort, _labels([of_rate[k] for k in columns]), tuple(nights))


def _labels(channels: Sequence) -> tuple[str, ...]:
    """Labels that begin with the kind of the channel: ``EEG Fpz-Cz``, ``EOG left``."""
    kinds = [channel.role[:3] for channel in channels]
    return tuple(
        c.label if c.label.startswith(kind) else f"{kind} {c.label}"
        for c, kind in zip(channels, kinds, strict=True)
    )


def split_of(
    subjects: Sequence[str], n_test: int, n_val: int, seed: int
) -> tuple[list[str], list[str], list[str]]:
    """Subjects who train, who select the checkpoint, and who are held out, drawn by ``seed``.

    Raises:
        UserError: there are not enough subjects to have one who trains.
    """
    if n_test + n_val >= len(subjects):
        raise UserError(
            f"--n_test {n_test} --n_val {n_val}: {len(subjects)} subjects leave none to train on"
        )
    order = np.random.default_rng(seed).permutation(sorted(subjects)).tolist()
    test, val, train = order[:n_test], order[n_test : n_test + n_val], order[n_test + n_val :]
    return sorted(train), sorted(val), sorted(test)


def stage_means(nights: Sequence[BandNight]) -> np.ndarray:
    """Mean dB of each stage above N2's, by derivation and band: (5, derivations, 5).

    Within nights first, then over those that have the stage; NaN where none has.
    """
    each = []
    for night in nights:
        rows = [night.decibels[night.stages == k] for k in range(len(STAGES))]
        empty = np.full(night.decibels.shape[1:], np.nan)
        means = np.stack([_mean(rows_of) if len(rows_of) else empty for rows_of in rows])
        each.append(means - means[STAGES.index("N2")])
    return _mean(np.stack(each))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is no NaN; NaN where nothing is."""
    counted = ~np.isnan(values)
    total = np.where(counted, values, 0.0).sum(axis=0, dtype=float)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return total / counted.sum(axis=0)


def with_stage_means(table: BandTable, others: BandTable, subjects: Sequence[str]) -> BandTable:
    """Nights whose stage means are moved to those of ``subjects`` of another table.

    Every epoch is shifted by its stage's difference, the same in all nights, so nights differ from
    each other as before. A derivation that the other table lacks is moved to its first of the same
    kind. Unscored epochs, and stages that either table lacks, stay.
    """
    wanted = stage_means(others.of_subjects(subjects))
    to = wanted[:, [_like(label, others.derivations) for label in table.derivations]]
    shift = np.nan_to_num(to - stage_means(table.nights)).astype(np.float32)
    shift = np.concatenate([shift, np.zeros_like(shift[:1])])  # of code -1, the last row
    nights = tuple(
        BandNight(n.recording, n.subject, n.decibels + shift[n.stages], n.stages)
        for n in table.nights
    )
    return BandTable(table.path, table.cohort, table.derivations, nights)


def _like(label: str, derivations: Sequence[str]) -> int:
    """Number of the derivation of this label, else of the first of its kind, else 0."""
    if label in derivations:
        return derivations.index(label)
    return next((k for k, other in enumerate(derivations) if other[:3] == label[:3]), 0)
