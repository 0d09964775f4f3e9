"""The one path that explains nights: arrays and figures of their epochs, and one index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from interpret import registry
from interpret.counterfactual_report import write_counterfactuals
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.explanation_method import ExplanationMethod
from interpret.index import Entry, epoch_entry, write_index
from interpret.question import Plan, Question
from interpret.sample import ShownEpoch
from interpret.target import EpochTarget, WindowTarget
from utils import figures, files
from utils.staged_night import StagedNight
from utils.stages import STAGES

Night = TypeVar("Night")


@dataclass(frozen=True)
class ExplainedEpochs:
    """A night's explained epochs: the question, every method's explanation, the index entries."""

    night: ExplainedNight
    question: Question
    explanations: dict[str, Explanation]
    entries: list[Entry]

    def shown(self) -> list[tuple[ExplanationMethod, Explanation | None]]:
        """Methods to draw and to average, with explanations; those always shown come last.

        The latter have no explanation where nobody asked for one.
        """
        asked = [registry.method_named(name) for name in self.explanations]
        always = [m for m in registry.METHODS if m.always_shown and m.allows(self.question.model)]
        methods = [method for method in asked if not method.always_shown] + always
        return [(method, self.explanations.get(method.name)) for method in methods]


def explain_nights(
    folder: Path,
    nights: Iterable[Night],
    explain: Callable[[Path, Night], Iterable[Entry]],
    about: Mapping[str, Any],
) -> list[Entry]:
    """Explain every night into ``folder`` and write the index of all explanations.

    ``explain`` writes the files of one night and returns their entries: :func:`explain_epochs` for
    models that stage epochs, ``interpret.role_importance`` for those of whole nights.
    """
    entries = [entry for night in nights for entry in explain(folder, night)]
    write_index(folder, about, entries)
    write_counterfactuals(folder, entries)
    return entries


def explain_epochs(
    model: Any,
    night: ExplainedNight,
    chosen: np.ndarray,
    plan: Plan,
    folder: Path,
    *,
    why: Mapping[int, str] | None = None,
    at_once: int | None = None,
) -> ExplainedEpochs | None:
    """Explain the epochs ``chosen`` (b,) of a night; arrays go to one folder per epoch.

    ``why`` an epoch was chosen, by its number; ``at_once`` bounds the memory. ``None`` if no epoch
    has a class to explain.
    """
    classes = classes_of(night.staged, chosen, plan.target_class)
    chosen, classes = chosen[classes >= 0], classes[classes >= 0]
    if not len(chosen):  # as where the true stages of unscored epochs are asked for
        return None
    kind = WindowTarget if plan.span == "window" else EpochTarget
    target = kind(model, night.signals, plan.output)
    if at_once is not None:
        target.at_once = at_once
    epochs = torch.from_numpy(chosen.astype(np.int64)).to(night.signals.device)
    # stages are int8, which torch does not take as an index
    wanted = torch.from_numpy(classes.astype(np.int64)).to(epochs.device)
    question = Question(target, epochs, wanted, plan)
    explanations = explain_all(question)
    entries = []
    for row, epoch in enumerate(chosen.tolist()):
        place = folder_of(night, epoch)
        write_arrays(folder / place, night, epoch, explanations, row)
        entries.append(
            epoch_entry(night, question, explanations, row, place, (why or {}).get(epoch))
        )
    return ExplainedEpochs(night, question, explanations, entries)


def explain_all(question: Question) -> dict[str, Explanation]:
    """Explain by every method of the plan that the model allows, and by the control."""
    # a dictionary, because the control may have been asked for as well
    wanted = dict.fromkeys((*question.plan.methods, registry.control().name))
    methods = [registry.method_named(name) for name in wanted]
    return {m.name: m.compute(question) for m in methods if m.allows(question.model)}


def draw_epochs(folder: Path, explained: ExplainedEpochs) -> None:
    """Draw the plan's number of epochs, as PNG and PDF for every method that draws."""
    question, night = explained.question, explained.night
    for row, epoch in enumerate(question.epochs.tolist()[: question.plan.pictures]):
        for method, explanation in explained.shown():
            picture = method.draw(ShownEpoch(night, question, row, explanation))
            if picture is not None:
                figures.save(picture, folder / folder_of(night, epoch) / f"{method.name}.png")


def folder_of(night: ExplainedNight, epoch: int) -> str:
    """Name of an epoch's folder, the recording and the epoch's number."""
    return f"{night.staged.recording}_e{epoch:04d}"


def classes_of(staged: StagedNight, chosen: np.ndarray, target_class: str) -> np.ndarray:
    """Class explained at each chosen epoch; -1 where ``true`` is asked for and nobody scored."""
    if target_class == "predicted":
        return staged.stages[chosen]
    if target_class == "true":
        return staged.expert[chosen]
    return np.full(len(chosen), STAGES.index(target_class), np.int8)


def write_arrays(
    folder: Path,
    night: ExplainedNight,
    epoch: int,
    explanations: Mapping[str, Explanation],
    row: int,
) -> None:
    """Write ``input.npz`` and one file per method, with signed and absolute maps.

    ``window`` (l, m, t), ``bands`` (f, m, t) with their ``edges_hz``, ``image`` (frames, bins) and
    ``spectrogram`` (m, frames, bins) with the middles of frames and bins, where a method has them;
    what is known of F and the baseline, as in the index.
    """
    signals = night.physical(epoch).astype(np.float32)
    time = np.arange(signals.shape[1], dtype=np.float32) / night.fs
    files.write_arrays(folder / "input.npz", {"signals": signals, "time_s": time})
    for method, explanation in explanations.items():
        files.write_arrays(folder / f"{method}.npz", arrays_of(explanation, row))


def arrays_of(explanation: Explanation, row: int) -> dict[str, np.ndarray]:
    """Maps of one epoch, and the values of its index entry that are numbers."""
    signed = explanation.attributions[row].cpu().numpy().astype(np.float32)
    arrays = {"signed": signed, "size": np.abs(signed), "context": explanation.context[row]}
    for name in ("window", "bands", "image", "spectrogram"):
        if (maps := vars(explanation)[name]) is not None:
            arrays[name] = maps[row]
    if explanation.bands is not None:
        arrays["edges_hz"] = np.array(explanation.edges)
    if explanation.grid is not None:
        arrays["frames_s"], arrays["bins_hz"] = explanation.grid
    known = explanation.answer(row).items()
    arrays |= {k: v for k, v in known if v is not None and not isinstance(v, (str, bool))}
    return {k: v.cpu().numpy() if isinstance(v, Tensor) else np.array(v) for k, v in arrays.items()}
