"""Epochs for a second look: where a stage is likely wrong, and what is known of the epoch.

With an expert's stages these are the epochs that model and expert stage differently, else the least
certain ones; the order is that of :func:`expected_gain`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from interpret.bands import BANDS
from interpret.evidence import epochs_at
from interpret.neighbours import nearest
from utils.files import write_json, write_table
from utils.metrics import confidence, plain
from utils.signals import band_powers
from utils.staged_night import StagedNight
from utils.stages import STAGES

# share of epochs in which a scorer gives the stage of the majority of scorers: 1,800 epochs, over
# 2,500 scorers (Rosenberg & Van Hout, J Clin Sleep Med 2013)
SCORERS_AGREE = 0.826
TABLE, LIST = "second_look.csv", "second_look.json"
_LEAST = 5  # epochs of a stage in a night, below which no power is usual of it
_LEAST_SD = 0.5  # dB: a few epochs may happen to be alike
_STRONGEST = 3  # reasons that are named
_ALIKE = 20  # epochs of similar powers
DEFINITION = (
    "expected_gain: probability that the stage in use is not the epoch's, so the mean number of "
    "stages that one look puts right. Of an expert's stage it is by Bayes' rule, from how often "
    "scorers give the stage of the majority, every other stage being as likely in the rest, and "
    "from probabilities at the temperature below: the geometric mean of the model's and of how "
    "this night's 20 epochs of most similar powers were scored, of which alike_with_expert and "
    "alike_with_model are shares. Of a model's stage it is 1 minus its probability. "
    "<band>_from_<whom>_db: power about the median of that night's epochs that have the stage "
    "which expert or model gives. powers_like: the stage whose epochs have the nearest powers, in "
    "robust SDs. p_model, p_expert and entropy (0: certain, 1: uniform) are of the model's own "
    "probabilities."
)


def fitted_temperature(probabilities: np.ndarray, expert: np.ndarray) -> float:
    """Temperature at which probabilities (n, 5) have the highest likelihood of stages (n,).

    -1 is left out; 1 where nobody scored. Guo et al., On calibration of modern neural networks,
    ICML 2017; of the mean over windows in place of logits.
    """
    scored = expert >= 0
    if not scored.any():
        return 1.0
    given, stages = probabilities[scored], expert[scored].astype(int)

    def surprise(log_temperature: float) -> float:
        likely = tempered(given, math.exp(log_temperature))
        return -float(np.log(likely[np.arange(len(stages)), stages]).mean())

    # a tenth to ten: beyond, probabilities are all but uniform or certain
    return math.exp(minimize_scalar(surprise, bounds=(-2.3, 2.3), method="bounded").x)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, 5) to the power of 1 / ``temperature``, scaled to sum to 1."""
    # single precision rounds some to 0, which no temperature would bring back
    logs = np.log(np.maximum(probabilities.astype(float), 1e-7)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def expected_gain(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability that a look changes the stage in use (n,), by calibrated probabilities (n, 5).

    ``labels`` (n,) are an expert's stages, and -1 where the model's is in use. An expert's is wrong
    by Bayes' rule: scorers give the stage with probability :data:`SCORERS_AGREE`, and each of the
    others equally rarely. That number moves all gains and never their order.
    """
    own = probabilities[np.arange(len(labels)), labels]
    right, wrong = own * SCORERS_AGREE, (1 - own) * (1 - SCORERS_AGREE) / (len(STAGES) - 1)
    return np.where(labels >= 0, wrong / (right + wrong), 1 - probabilities.max(axis=1))


def shares_of_alike(decibels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of every stage among a night's scored epochs of most similar powers: (n, 5).

    ``decibels`` (n, bands), ``labels`` (n,) with -1 where unscored. An epoch is not its own
    neighbour; one more epoch of each stage keeps every share above 0. Uniform where powers are
    unknown or too few epochs are scored.
    """
    shares = np.full((len(labels), len(STAGES)), 1 / len(STAGES))
    known = np.flatnonzero((labels >= 0) & np.isfinite(decibels).all(axis=1))
    if len(known) > _ALIKE:
        z = decibels[known]
        z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), _LEAST_SD)
        # the first neighbour is the epoch itself
        numbers = nearest(z, z, _ALIKE + 1)[1][:, 1:]
        counts = (labels[known][numbers][..., None] == np.arange(len(STAGES))).sum(axis=1)
        shares[known] = (counts + 1) / (_ALIKE + len(STAGES))
    return shares


def with_alike(probabilities: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Geometric mean of the model's probabilities and the shares of alike epochs, (n, 5) each."""
    return tempered(probabilities * shares, 2.0)


def epochs_to_look_at(staged: StagedNight, gain: np.ndarray) -> np.ndarray:
    """Numbers of the epochs, by falling ``gain`` (n,); those without a signal are left out."""
    scored = staged.expert >= 0
    of_interest = scored & (staged.expert != staged.stages) if scored.any() else staged.to_review
    order = np.argsort(-gain, kind="stable")
    return order[(of_interest & staged.believed)[order]]


def decibels_of(epochs: np.ndarray, fs: float) -> tuple[tuple[str, ...], np.ndarray]:
    """Bands below half the rate, and the power of epochs (n, t) in each, in dB: (n, bands).

    NaN where a signal is absent or flat.
    """
    inside = {name: edges for name, edges in BANDS.items() if edges[1] <= fs / 2}
    powers = band_powers(epochs, fs, inside)
    with np.errstate(divide="ignore"):
        decibels = 10 * np.log10(powers)
    return tuple(inside), np.where(np.isfinite(decibels), decibels, np.nan)


def eeg_of(roles: Sequence[str]) -> int:
    """Number of the first EEG among channels of these ``roles``, or 0."""
    return next((k for k, role in enumerate(roles) if role.startswith("EEG")), 0)


def usual_of(decibels: np.ndarray, labels: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Median and robust SD (bands,) of the powers (n, bands) of every stage in ``labels`` (n,)."""
    usual = {}
    for code in range(len(STAGES)):
        own = decibels[(labels == code) & np.isfinite(decibels).all(axis=1)]
        if len(own) >= _LEAST:
            median = np.median(own, axis=0)
            # 1.4826: of a normal distribution, the SD over the median deviation
            sd = 1.4826 * np.median(np.abs(own - median), axis=0)
            usual[code] = median, np.maximum(sd, _LEAST_SD)
    return usual


def second_look(
    staged: StagedNight,
    epochs: np.ndarray,
    fs: float,
    *,
    events: Mapping[str, np.ndarray] | None = None,
    reasons: Mapping[int, str] | None = None,
    temperature: float = 1.0,
    scorers: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Rows of a night's epochs for a second look, the highest expected gain first.

    ``epochs`` (n, t) are signals of one EEG in any unit, ``events`` (kind -> (k, 2) in s) those
    detected, ``reasons`` what explains an epoch's stage, by its number, ``scorers`` (s, n) the
    stages that several scorers gave.
    """
    bands, decibels = decibels_of(epochs, fs)
    shares, given = shares_of_alike(decibels, staged.expert), staged.probabilities
    if (staged.expert >= 0).any():
        given = with_alike(given, shares)
    gain = expected_gain(tempered(given, temperature), staged.expert)
    in_use = np.where(staged.expert >= 0, staged.expert, staged.scored)
    usual, counts = usual_of(decibels, in_use), _counted(events or {}, staged)
    return [
        {
            "rank": rank,
            **_stages_at(staged, k),
            "expected_gain": round(float(gain[k]), 4),
            **_probabilities_at(staged, shares[k], k),
            **({} if scorers is None else _scorers_at(staged, k, scorers[:, k])),
            **_powers_at(staged, k, bands, decibels[k], usual),
            **{f"n_{kind}": int(number[k]) for kind, number in counts.items()},
            "reasons": (reasons or {}).get(k, ""),
            "quality_flag": staged.quality_flags[k] if staged.quality_flags else "",
        }
        for rank, k in enumerate(epochs_to_look_at(staged, gain).tolist(), start=1)
    ]


def _stages_at(staged: StagedNight, k: int) -> dict[str, Any]:
    """Where an epoch is, its stages, and those of its neighbours."""

    def name(codes: np.ndarray, at: int) -> str | None:
        return STAGES[codes[at]] if 0 <= at < len(codes) and codes[at] >= 0 else None

    expert, model = staged.expert, staged.scored
    pair = sorted({int(code) for code in (expert[k], model[k]) if code >= 0})
    return {
        "recording": staged.recording,
        "epoch": k,
        "onset_s": staged.onsets[k].item(),
        "expert": name(expert, k),
        "model": name(model, k),
        "confused": "/".join(STAGES[code] for code in pair) if len(pair) > 1 else None,
        "expert_before": name(expert, k - 1),
        "expert_after": name(expert, k + 1),
        "model_before": name(model, k - 1),
        "model_after": name(model, k + 1),
    }


def _probabilities_at(staged: StagedNight, alike: np.ndarray, k: int) -> dict[str, Any]:
    """How certain the model is of its stage and of the expert's, and how far its votes agree.

    ``alike`` (5,) are the shares of stages among epochs of similar powers.
    """
    expert, model, given = staged.expert[k], staged.stages[k], staged.probabilities[k]
    values: dict[str, Any] = {
        "p_model": round(float(given[model]), 4),
        "p_expert": round(float(given[expert]), 4) if expert >= 0 else None,
        "entropy": round(1 - float(confidence(given[None])[0]), 4),
        "alike_with_expert": round(float(alike[expert]), 4) if expert >= 0 else None,
        "alike_with_model": round(float(alike[model]), 4) if expert >= 0 else None,
    }
    if staged.votes:
        own = [(vote.probabilities[k].argmax(), vote.weight) for vote in staged.votes]
        with_expert = sum(weight for stage, weight in own if stage == expert)
        values["spread"] = round(float(staged.spread[k]), 4)
        values["votes_with_expert"] = round(float(with_expert), 4) if expert >= 0 else None
    return values


def _scorers_at(staged: StagedNight, k: int, given: np.ndarray) -> dict[str, float | None]:
    """Shares of an epoch's scorers, of stages ``given`` (s,), with the expert and the model."""
    own = given[given >= 0]
    return {
        f"scorers_with_{whom}": round(float((own == code).mean()), 4) if len(own) else None
        for whom, code in (("expert", staged.expert[k]), ("model", staged.scored[k]))
    }


def _powers_at(
    staged: StagedNight,
    k: int,
    bands: Sequence[str],
    decibels: np.ndarray,
    usual: Mapping[int, tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    """Powers (bands,) of an epoch about those usual of its stages, and the stage they are like."""
    values: dict[str, Any] = {}
    for whom, code in (("expert", staged.expert[k]), ("model", staged.scored[k])):
        middle = usual[code][0] if code in usual else np.full(len(bands), np.nan)
        for band, value in zip(bands, decibels - middle, strict=True):
            values[f"{band}_from_{whom}_db"] = plain(round(float(value), 2))
    far = {code: np.square((decibels - m) / sd).sum() for code, (m, sd) in usual.items()}
    like = min(far, key=far.get) if far and np.isfinite(decibels).all() else None
    return values | {"powers_like": None if like is None else STAGES[like]}


def _counted(events: Mapping[str, np.ndarray], staged: StagedNight) -> dict[str, np.ndarray]:
    """How many events of every kind begin in each epoch (n,)."""
    n = len(staged.probabilities)
    counts = {}
    for kind, some in events.items():
        number = epochs_at(some[:, 0], staged.onsets)
        counts[kind] = np.bincount(number[number >= 0], minlength=n)
    return counts


def reasons_of(folder: Path, entry: Mapping[str, Any]) -> str:
    """The strongest reasons of an explained epoch by method, from its arrays: bands and features.

    ``entry`` is that of the index in ``folder``. Methods that have maps of samples alone add none.
    """
    parts = []
    for method, about in entry["methods"].items():
        with np.load(folder / about["file"]) as arrays:
            if "groups" in arrays.files:
                names, sizes = arrays["groups"].tolist(), arrays["contributions"].sum(axis=1)
            elif "bands" in arrays.files:
                names = [f"{low:g}–{high:g} Hz" for low, high in arrays["edges_hz"]]
                sizes = arrays["bands"].sum(axis=(1, 2))
            else:
                continue
        strongest = np.argsort(-np.abs(sizes), kind="stable")[:_STRONGEST]
        parts.append(f"{method}: " + ", ".join(f"{names[j]} {sizes[j]:+.2f}" for j in strongest))
    return f"{'; '.join(parts)}, for {entry['explained']}" if parts else ""


def write_second_look(
    folder: Path, rows: Sequence[Mapping[str, Any]], temperature: float = 1.0
) -> None:
    """Write the rows as ``second_look.csv``, and with their definition as ``second_look.json``."""
    about = {
        "definition": DEFINITION,
        "temperature": round(temperature, 4),
        "scorers_agree": SCORERS_AGREE,
        "expected_changes": round(sum(row["expected_gain"] for row in rows), 2),
    }
    write_json(folder / LIST, {"about": about, "epochs": list(rows)})
    if rows:  # a table needs a row for its columns
        # recordings need not have the same kinds of events
        columns = dict.fromkeys(key for row in rows for key in row)
        write_table(folder / TABLE, [{key: row.get(key) for key in columns} for row in rows])
