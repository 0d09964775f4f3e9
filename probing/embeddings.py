"""Embeddings of every epoch of a set of nights, in files that name the encoder they come from."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from probing.probes import Labelled
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.files import write_arrays, written_whole
from utils.stages import EPOCH_SECONDS

N_VIEWS = 10
SPLITS = ("train", "validation", "held_out")
# one row per epoch in every array; ``t_sec`` is its onset in seconds
_FIELDS = ("z", "stage", "subject", "night", "recording", "epoch", "t_sec")


@torch.no_grad()
def arrays_of(encode: Callable[[Tensor], Tensor], view: Any) -> dict[str, np.ndarray]:
    """Embed every epoch: z (n, d), its stage, subject, night, recording, number and onset (n,).

    ``encode`` makes z (n, d) of a night's signals (n, c, t).
    """
    by_id = {night.id: night for night in view.nights}
    parts: dict[str, list] = {name: [] for name in _FIELDS}
    nights = view.whole_nights()
    for recording, signals, stages in tqdm(
        nights, total=len(by_id), desc="embedding", unit="night", leave=False, disable=None
    ):
        night, n = by_id[recording], len(stages)
        number = np.arange(n, dtype=np.int32)
        row = {
            "z": encode(signals).float().cpu().numpy(),
            "stage": stages.cpu().numpy().astype(np.int8),
            "subject": np.full(n, night.subject),
            "night": np.full(n, night.night, np.int16),
            "recording": np.full(n, recording),
            "epoch": number,
            # from the first second of the source: a store may leave out Wake before the first epoch
            "t_sec": (night.first_epoch + number) * EPOCH_SECONDS,
        }
        for name, values in row.items():
            parts[name].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


@torch.no_grad()
def seen_again(
    encode: Callable[[Tensor, Tensor], list[Tensor]], view: Any, most: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Embed q views each of up to ``most`` scored epochs: row numbers (m,) and z (q, m, d).

    ``encode`` makes q arrays z (k, d) of a night's signals (n, c, t) and the numbers (k,) of the
    epochs wanted.
    """
    rows = np.flatnonzero(view.stages >= 0)
    # sorted, because the nights are read one after the other
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    views, start = [], 0
    # views are random: the same draws in every call, and the caller's generator stays as it was
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _, signals, _ in view.whole_nights():
            inside = rows[(rows >= start) & (rows < start + len(signals))] - start
            start += len(signals)
            if len(inside):
                z = encode(signals, torch.from_numpy(inside).to(signals.device))
                views.append(torch.stack(z).float().cpu().numpy())
    return rows, np.concatenate(views, axis=1)


def save(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write an ``.npz`` of the arrays, and beside it a ``.csv`` of everything but z."""
    # text as arrays without dimensions, which load without pickle
    write_arrays(path, {**arrays, **{name: np.array(value) for name, value in about.items()}})
    columns = [name for name in _FIELDS if name != "z"]
    with (
        written_whole(path.with_suffix(".csv")) as temporary,
        temporary.open("w", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(arrays[name].tolist() for name in columns), strict=True))


def write_embeddings(
    run: Path, splits: Mapping[str, Any], checkpoint: Checkpoint, net: torch.nn.Module
) -> None:
    """Write ``embeddings/<split>.npz`` and ``.csv`` of a run, with the encoder's checksum."""
    about = {
        "encoder_sha256": fingerprint(net),
        **checkpoint.stamp(),
        "config": str(checkpoint.training.command),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for split, arrays in splits.items():
        save(run / "embeddings" / f"{split}.npz", arrays, about)


def load(folder: Path, z_of: Sequence[str] = SPLITS) -> dict[str, dict[str, np.ndarray]]:
    """The embeddings of a run by split, of one encoder and of different subjects.

    z is read of the splits ``z_of`` alone: of a large cohort it takes gigabytes.

    Raises:
        UserError: a file is missing or broken, of another encoder than the others, or holds
            subjects of another split.
    """
    splits = {}
    for split in SPLITS:
        path = folder / f"{split}.npz"
        try:
            # without pickle: a file from elsewhere runs no code
            with np.load(path, allow_pickle=False) as arrays:
                names = arrays.files
                read = [name for name in names if name != "z" or split in z_of]
                splits[split] = {name: arrays[name] for name in read}
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: no embeddings ({error}); run ssl_evaluate.py") from error
        if missing := [name for name in (*_FIELDS, "encoder_sha256") if name not in names]:
            raise UserError(f"{path}: no embeddings of ours: no {', '.join(missing)}")
    if len({str(arrays["encoder_sha256"]) for arrays in splits.values()}) > 1:
        raise UserError(f"{folder}: its files are of different encoders; run ssl_evaluate.py again")
    ids = [set(arrays["subject"].tolist()) for arrays in splits.values()]
    if both := (ids[0] & ids[1]) | (ids[0] & ids[2]) | (ids[1] & ids[2]):
        raise UserError(f"{folder}: {', '.join(sorted(both)[:5])} in more than one split")
    return splits


def labelled(arrays: Mapping[str, np.ndarray]) -> Labelled:
    """Embeddings, stages and subjects of one split, as the probes take them."""
    return Labelled(arrays["z"], arrays["stage"].astype(np.int64), arrays["subject"])


def labelled_splits(splits: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Labelled]:
    """Embeddings, stages and subjects of every split, as the probes take them."""
    return {split: labelled(arrays) for split, arrays in splits.items()}


def fingerprint(net: torch.nn.Module) -> str:
    """Checksum of the encoder's weights; what pretraining added to it does not count."""
    digest = hashlib.sha256()
    for name, value in net.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
