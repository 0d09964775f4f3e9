"""Embeddings of every epoch of a set of nights, in files that name the encoder they come from."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from probing.probes import Labelled
from probing.row_files import AT_ONCE, Rows, open_rows, write_rows
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.files import remove_ours, write_arrays, written_whole
from utils.stages import EPOCH_SECONDS, STAGES, UNSCORED

N_VIEWS, N_TRAIN = 10, 2000  # views of an epoch, training epochs that maps are fitted to
SPLITS = ("train", "validation", "held_out")
CONTROLS = ("random_encoder", "band_powers")  # of the held-out subjects
# one row per epoch in every array, of numbers or text; ``t_sec`` is its onset in seconds
_FIELDS = {"stage": "i", "subject": "U", "night": "i", "recording": "U", "epoch": "i", "t_sec": "i"}
Embed = Callable[[Any, Path], Rows]  # embeds every epoch of a view into a file


@torch.no_grad()
def write_z(path: Path, encode: Callable[[Tensor], Tensor], view: Any) -> Rows:
    """Embed every epoch of a view into ``path``, a ``.npy`` of z (n, d), night by night.

    ``encode`` makes z (n, d) of a night's signals (n, c, t).
    """
    nights = tqdm(
        view.whole_nights(), total=len(view.nights), desc="embedding", unit="night", leave=False,
        disable=None,
    )  # fmt: skip
    parts = (encode(signals).float().cpu().numpy() for _, signals, _ in nights)
    return write_rows(path, parts, view.n_epochs)


def epochs_of(view: Any) -> dict[str, np.ndarray]:
    """Which epochs the rows of z are: stage, subject, night, recording, number and onset (n,)."""
    number = np.concatenate([np.arange(n, dtype=np.int32) for n in view.lengths])

    def repeated(values: list) -> np.ndarray:
        return np.repeat(values, view.lengths)

    # from the first second of the source: a store may leave out Wake before the first epoch
    first = repeated(np.array([night.first_epoch for night in view.nights], np.int32))
    return {
        "stage": view.stages,
        "subject": repeated([night.subject for night in view.nights]),
        "night": repeated(np.array([night.night for night in view.nights], np.int16)),
        "recording": repeated(view.recordings),
        "epoch": number,
        "t_sec": (first + number) * EPOCH_SECONDS,
    }


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


def save(path: Path, epochs: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write an ``.npz`` that tells which epochs the rows of z are, and beside it a ``.csv``."""
    # text as arrays without dimensions, which load without pickle
    write_arrays(path, {**epochs, **{name: np.array(value) for name, value in about.items()}})
    with (
        written_whole(path.with_suffix(".csv")) as temporary,
        temporary.open("w", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_FIELDS)
        for start in range(0, len(epochs["stage"]), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            columns = (epochs[name][part].tolist() for name in _FIELDS)
            writer.writerows(zip(*columns, strict=True))


def write_embeddings(
    run: Path, views: Mapping[str, Any], embed: Embed, checkpoint: Checkpoint, net: torch.nn.Module
) -> dict[str, Labelled]:
    """Write ``embeddings/<split>.npy``, ``.npz`` and ``.csv`` of a run; the splits, for probes.

    The ``.npz`` has the encoder's checksum. It comes last, and those of before go first, so that
    whenever this is killed no file is of another encoder than the one it names.
    """
    folder = run / "embeddings"
    for name in (*SPLITS, "controls"):
        remove_ours(folder / f"{name}.npz")
    about = {
        "encoder_sha256": fingerprint(net),
        **checkpoint.stamp(),
        "config": str(checkpoint.training.command),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    splits = {}
    for split, view in views.items():
        z, epochs = embed(view, folder / f"{split}.npy"), epochs_of(view)
        save(folder / f"{split}.npz", epochs, about)
        splits[split] = Labelled(z, epochs["stage"], epochs["subject"])
    return splits


def load(folder: Path, of: Sequence[str] = SPLITS) -> dict[str, dict[str, Any]]:
    """The embeddings of a run by split, of one encoder and of different subjects.

    z and what tells its rows are those of the splits ``of``; the others have their encoder alone.

    Raises:
        UserError: a file is missing or broken, of another encoder than the others, or holds
            subjects of another split.
    """
    splits, ids = {}, []
    for split in SPLITS:
        path = folder / f"{split}.npz"
        rest = () if split in of else _FIELDS.keys() - {"subject"}
        splits[split] = arrays_in(path, but=rest)
        _check(path, splits[split], but=rest)
        ids.append(set(splits[split]["subject"].tolist()))
    if len({str(arrays["encoder_sha256"]) for arrays in splits.values()}) > 1:
        raise UserError(f"{folder}: its files are of different encoders; run ssl_evaluate.py again")
    if both := (ids[0] & ids[1]) | (ids[0] & ids[2]) | (ids[1] & ids[2]):
        raise UserError(f"{folder}: {', '.join(sorted(both)[:5])} in more than one split")
    for split in SPLITS:
        if split in of:
            splits[split]["z"] = open_rows(folder / f"{split}.npy", len(splits[split]["stage"]))
        else:
            del splits[split]["subject"]
    return splits


def load_controls(folder: Path, n: int) -> dict[str, Any]:
    """z (n, d) of each control, and views ``z_view`` (q, m, d) of epochs ``view_rows`` (m,).

    All are held out, but for ``<name>_train`` (k, d), training epochs of the encoder
    (``pretrained``) and of each control.

    Raises:
        UserError: they are missing or broken.
    """
    path = folder / "controls.npz"
    arrays = arrays_in(path)
    kinds = {"z_view": ("f", 3), "view_rows": ("i", 1)}
    kinds |= {f"{name}_train": ("f", 2) for name in ("pretrained", *CONTROLS)}
    for name, kind in kinds.items():
        if name not in arrays or (arrays[name].dtype.kind, arrays[name].ndim) != kind:
            raise UserError(f"{path}: no controls of ours: no {name}; run ssl_evaluate.py")
    rows = arrays["view_rows"]
    if len(rows) != arrays["z_view"].shape[1] or ((rows < 0) | (rows >= n)).any():
        raise UserError(f"{path}: no controls of ours: views of no epoch; run ssl_evaluate.py")
    return arrays | {name: open_rows(folder / f"{name}.npy", n) for name in CONTROLS}


def arrays_in(path: Path, but: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, ``but`` for some of these names.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        # without pickle: a file from elsewhere runs no code; numpy leaves damaged files open
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files if name not in but}
    except Exception as error:  # archives and headers have many ways to be damaged
        raise UserError(f"{path}: no embeddings ({error}); run ssl_evaluate.py") from error


def _check(path: Path, arrays: Mapping[str, np.ndarray], but: Collection[str]) -> None:
    """Refuse other arrays than those of :func:`save`."""
    kinds = {name: kind for name, kind in _FIELDS.items() if name not in but}
    if missing := [name for name in (*kinds, "encoder_sha256") if name not in arrays]:
        raise UserError(f"{path}: no embeddings of ours: no {', '.join(missing)}")
    shape = arrays["subject"].shape
    sound = len(shape) == 1 and all(
        (arrays[name].dtype.kind, arrays[name].shape) == (kind, shape)
        for name, kind in kinds.items()
    )
    if not sound or not np.isin(arrays.get("stage", UNSCORED), range(UNSCORED, len(STAGES))).all():
        raise UserError(f"{path}: no embeddings of ours: its arrays are not one value per epoch")


def fingerprint(net: torch.nn.Module) -> str:
    """Checksum of the encoder's weights; what pretraining added to it does not count."""
    digest = hashlib.sha256()
    for name, value in net.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
