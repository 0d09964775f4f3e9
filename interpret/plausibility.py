"""Whether an edited epoch could be real: its distance to real ones, other votes, random edits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import welch

from interpret.bands import BANDS
from interpret.counterfactuals import Outcome, Search, signals_with
from interpret.explained_night import ExplainedNight

RANDOM_EDITS = 20
_LEAST_EPOCHS = 10  # of a stage, below which no distance to it is given
_SILENCE = 1e-12


@dataclass(frozen=True)
class Plausibility:
    """``distance``: share in % of the real epochs of the new stage that lie nearer to their middle.

    ``distance_before`` is that of the epoch as it was, ``of_epochs`` how many real ones there are,
    by the stages of ``staged_by``; distances are ``None`` where they are too few. ``votes``: the
    stage by each part of the model, before and after. ``random_change`` and ``random_same``:
    shares of random edits of equal size that change the stage, and that change it to the same.
    """

    distance: float | None
    distance_before: float | None
    of_epochs: int
    staged_by: str
    votes: dict[str, tuple[int, int]]
    random_change: float
    random_same: float


def plausibility_of(search: Search, outcome: Outcome, powers: np.ndarray) -> Plausibility:
    """How an outcome that changes the stage stands beside real epochs and random edits.

    ``powers`` (n, d) are :func:`log_powers` of the whole night.
    """
    night, epoch = search.night, outcome.edit.epoch
    edited = signals_with(night, outcome.edit, outcome.rung)
    own = edited.cpu().numpy() * night.sd[:, None] + night.mean[:, None]
    has_expert = bool((night.staged.expert >= 0).any())
    stages = night.staged.expert if has_expert else night.staged.stages
    real = powers[(stages == outcome.new_stage) & (np.arange(len(powers)) != epoch)]
    points = np.stack([log_powers(own[None], night.fs)[0], powers[epoch]])
    distances = distance_percentiles(real, points)
    change, same = _random_edits(search, outcome)
    return Plausibility(
        distance=distances[0] if distances else None,
        distance_before=distances[1] if distances else None,
        of_epochs=len(real),
        staged_by="expert" if has_expert else "model",
        votes=_votes(search, outcome, edited),
        random_change=change,
        random_same=same,
    )


def log_powers(epochs: np.ndarray, fs: float) -> np.ndarray:
    """Power in dB of every channel in every band below fs / 2: (n, m, t) -> (n, m * bands)."""
    hertz, density = welch(np.nan_to_num(epochs), fs, nperseg=min(epochs.shape[-1], round(4 * fs)))
    parts = [
        density[..., (hertz >= low) & (hertz < high)].mean(axis=-1)
        for low, high in BANDS.values()
        if high <= fs / 2
    ]
    return (10 * np.log10(np.stack(parts, axis=-1) + _SILENCE)).reshape(len(epochs), -1)


def night_powers(night: ExplainedNight) -> np.ndarray:
    """:func:`log_powers` of all epochs of a night, in its unit."""
    # one channel at a time: spectra of all would be the largest thing in memory
    parts = [
        log_powers(night.channel_epochs(k)[:, None], night.fs).reshape(len(night.signals), 1, -1)
        for k in range(night.signals.shape[1])
    ]
    return np.concatenate(parts, axis=1).reshape(len(night.signals), -1)


def distance_percentiles(real: np.ndarray, points: np.ndarray) -> list[float]:
    """Share in % of ``real`` (k, d) that lie nearer to the others' mean than each point (b, d).

    Mahalanobis distances, each real epoch's to those that are left without it; nothing where they
    are too few.
    """
    if len(real) < _LEAST_EPOCHS:
        return []
    of_real = np.array([_distance(np.delete(real, k, axis=0), real[k]) for k in range(len(real))])
    return [float(100 * np.mean(of_real < _distance(real, point))) for point in points]


def _distance(real: np.ndarray, point: np.ndarray) -> float:
    n, d = real.shape
    about = point - real.mean(axis=0)
    covariance = np.cov(real, rowvar=False).reshape(d, d)
    # drawn towards its diagonal: few epochs do not tell how bands vary together
    weight = d / (d + n)
    own = np.diag(np.maximum(np.diag(covariance), _SILENCE))
    return float(about @ np.linalg.solve((1 - weight) * covariance + weight * own, about))


def _votes(search: Search, outcome: Outcome, edited: torch.Tensor) -> dict[str, tuple[int, int]]:
    epoch = outcome.edit.epoch
    pair = torch.stack([search.night.signals[epoch], edited])
    with torch.no_grad():
        votes = search.player.votes(pair, torch.tensor([epoch, epoch]))
    return {name: tuple(p.argmax(dim=-1).tolist()) for name, p in votes.items()}


def _random_edits(search: Search, outcome: Outcome) -> tuple[float, float]:
    """Edits of the same energy in the same channels, with the epoch's own spectrum."""
    night, epoch, columns = search.night, outcome.edit.epoch, outcome.edit.measured.columns
    rng = np.random.default_rng((search.seed, epoch, 1))
    size = float(np.sqrt(np.square(outcome.added(), dtype=float).mean()))
    spectrum = np.abs(np.fft.rfft(night.physical(epoch)[columns]))
    spectrum[:, 0] = 0  # a constant is no activity
    trials = []
    for _ in range(RANDOM_EDITS):
        phases = np.exp(2j * np.pi * rng.random(spectrum.shape))
        noise = np.fft.irfft(spectrum * phases, n=night.signals.shape[-1])
        noise *= size / max(float(np.sqrt(np.square(noise).mean())), _SILENCE)
        signals = night.signals[epoch].clone()
        signals[columns] += torch.from_numpy(noise / night.sd[columns][:, None]).to(signals)
        trials.append(signals)
    with torch.no_grad():
        played = search.player(torch.stack(trials), torch.full((RANDOM_EDITS,), epoch))
    stages = played.argmax(dim=-1).cpu().numpy()
    changed = float((stages != outcome.stage).mean())
    return changed, float((stages == outcome.new_stage).mean())
