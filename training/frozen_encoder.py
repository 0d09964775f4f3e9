"""Nights encoded once by a frozen encoder and kept on disk, for heads that train on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from datasets.store import splits
from datasets.store.batches import Windows
from datasets.store.nights import NightBatches, Piece, in_batches
from datasets.store.store import Store
from datasets.store.views import View
from models.foundation import Encoded
from probing.embeddings import fingerprint
from training.validation import agreement_figures
from utils import metrics
from utils.files import write_arrays
from utils.stages import UNSCORED
from utils.version import VERSION


@dataclass(frozen=True)
class EncodedBatch:
    """Tokens of whole nights from a frozen encoder, their stages (b, n) and keys (b,)."""

    encoded: Encoded
    stages: Tensor
    keys: np.ndarray


class EncodedNights:
    """A view's nights through a frozen encoder: each is encoded once and kept as float16."""

    def __init__(self, view: View, encoder: nn.Module, folder: Path) -> None:
        self.view, self.folder = view, folder
        self.encoder = encoder.to(view.device).eval()

    def read(self, pieces: Sequence[Piece]) -> EncodedBatch:
        """A batch of whole nights, padded to the longest: not valid there, and unscored."""
        nights = [self.night(piece.night) for piece in pieces]
        most = max(tokens.shape[1] for tokens, _, _ in nights)
        longest = max(len(stages) for _, _, stages in nights)
        tokens = torch.stack([pad(t, (0, 0, 0, most - t.shape[1])) for t, _, _ in nights])
        valid = torch.stack([pad(v, (0, most - v.shape[1])) for _, v, _ in nights])
        stages = [pad(s, (0, longest - len(s)), value=UNSCORED) for _, _, s in nights]
        if pieces[0].stand_in:
            stages = [s.fill_(UNSCORED) for s in stages]
        keys = np.array([piece.key for piece in pieces])
        return EncodedBatch(Encoded(tokens, valid), torch.stack(stages), keys)

    def night(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (c, q, d), valid (c, q) and stages (n,) of one night, on the device."""
        length = int(self.view.lengths[number])
        path = self.folder / f"{self.view.recordings[number]}.npz"
        if not path.exists():
            with torch.no_grad():
                where = Windows(np.array([number]), np.array([0]))
                (batch,) = self.view.read([where], length)
                # (n, c, t) epochs of a night -> (1, c, n * t), the whole night as a batch of one
                encoded = self.encoder(batch.signals[0].permute(1, 0, 2).flatten(1)[None])
            arrays = {
                "tokens": encoded.tokens[0].half().cpu().numpy(),
                "valid": encoded.valid[0].cpu().numpy(),
            }
            write_arrays(path, arrays, compressed=False)
        # read back even when just encoded: heads see the same float16 values in every pass
        with np.load(path, allow_pickle=False) as file:
            tokens, valid = (torch.from_numpy(file[name]) for name in ("tokens", "valid"))
        first = int(self.view.offsets[number])
        stages = torch.from_numpy(self.view.stages[first : first + length].astype(np.int64))
        device = self.view.device
        return tokens.to(device).float(), valid.to(device), stages.to(device)

    def __len__(self) -> int:
        return len(self.view.recordings)


def encoded_pieces(nights: EncodedNights, batch_size: int, seed: int) -> Any:
    """Batches of whole nights from a frozen encoder, shuffled anew in every pass."""

    def batches(view: View, number: int, rank: int, processes: int) -> NightBatches:
        listed = in_batches(view, batch_size, seed=[seed, number])
        return replace(listed, read=nights.read, ahead=False).for_process(rank, processes)

    return batches


def validate_encoded(
    cache: Any, net: nn.Module, model: Any, view: View, fabric: Any
) -> dict[str, float]:
    """Agreement of a head with the expert on whole, untrimmed nights of a frozen encoder."""
    nights, counts = cache(view), np.zeros((5, 5), np.int64)
    net.eval()
    with torch.no_grad():
        for number in range(fabric.global_rank, len(nights), fabric.world_size):
            batch = nights.read([Piece(number, 0, int(view.lengths[number]))])
            staged = net(None, batch.encoded).argmax(dim=-1)
            counts += metrics.confusion(batch.stages[0].cpu().numpy(), staged[0].cpu().numpy())
    return agreement_figures(counts, fabric)


def cache_folder(run: Path, encoder: nn.Module, store: Path) -> Path:
    """Folder for nights of this encoder; other weights or another store have another one."""
    # fingerprint() reads the encoder of a whole model
    holder = nn.Module()
    holder.encoder = encoder
    made_of = [*splits.fingerprint(Store(store)), fingerprint(holder), VERSION]
    return run / "encoded" / "-".join(part[:8] for part in made_of)


def cached(store: Path, run: Path, encoder: nn.Module) -> Any:
    """A function ``view -> EncodedNights`` for one encoder, its files kept with the run."""
    folder = cache_folder(run, encoder, store)
    return partial(EncodedNights, encoder=encoder, folder=folder)
