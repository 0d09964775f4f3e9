"""Checkpoints: a frozen record of a trained model, and the check that test subjects are unseen.

The file is one dict of tensors and plain values; loading it never runs code that it may hold.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from utils.checkpoint_fields import FILE, fields, scaled_over
from utils.errors import UserError
from utils.files import written_whole
from utils.torch_files import NotTensorsError, check_weights, load_tensors
from utils.version import VERSION

FORMAT_VERSION = 1
KEYS = ("model", "settings", "channels", "fs", "standardise", "state")  # what a checkpoint is for
_PROGRESS = ("optimizer", "schedule", "rng", "position", "sums", "objective", "scaler")
_SYNTHETIC = "synthetic-"
_ABSOLUTE = re.compile(r"(?<![^\s=])/\S*/(\S+)")  # in a command line: /a/b/c -> c


@dataclass(frozen=True)
class Training:
    """What a model was trained on: ``facts`` as stored in the checkpoint, common ones by name.

    ``subjects`` are ids by part: train, validation, held_out. ``pretraining`` is that of the
    encoder it was built on, where there was one.
    """

    facts: Mapping[str, Any]
    pretraining: Training | None = None

    @property
    def cohort(self) -> str:
        """Name of the cohort; it begins with ``synthetic-`` for simulated nights."""
        return self.facts["cohort"]

    @property
    def command(self) -> str:
        """The command line that trained it."""
        return self.facts["command"]

    @property
    def subjects(self) -> Mapping[str, list[str]]:
        """Ids of the subjects by part: train, validation, held_out."""
        return self.facts["subjects"]

    @property
    def preparation(self) -> Mapping[str, Any]:
        """Settings of the store it was trained on; empty if they were not recorded."""
        return self.facts.get("preparation") or {}

    @property
    def selected_on_test(self) -> bool:
        """Whether its best pass, or that of its pretraining, was chosen on held-out subjects."""
        earlier = self.pretraining
        own = self.facts["select_on"] == "test"
        return own or (earlier is not None and earlier.selected_on_test)

    def seen(self) -> set[str]:
        """Subjects that trained it or selected the checkpoint, pretraining not included."""
        return {*self.subjects["train"], *self.subjects["validation"]}


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights and what is needed to use them.

    ``channels`` are (label, role) in the order the model reads them at ``fs`` Hz, ``standardise``
    how they are scaled, ``scaled_over`` what of a file: all of it, or the range that the protocol
    of the training nights keeps. ``source`` is the origin of weights
    from elsewhere, whose ``training`` has no subjects by name. ``progress`` is what a training
    resumes from, in ``last`` checkpoints.
    """

    path: Path
    model: str
    settings: Mapping[str, Any]
    channels: tuple[tuple[str, str], ...]
    fs: float
    standardise: str
    state: Mapping[str, Tensor] = field(repr=False)
    training: Training | None = None
    source: Mapping[str, Any] | None = None
    passes: int | None = None
    progress: Mapping[str, Any] = field(default_factory=dict, repr=False)
    scaled_over: str = FILE

    @property
    def labels(self) -> list[str]:
        """Labels of the channels, in the order the model reads them."""
        return [label for label, _ in self.channels]

    @property
    def run(self) -> Path:
        """Folder of its run; of a file outside any run, the folder it lies in."""
        return self.path.parents[1] if self.is_in_run else self.path.parent

    @property
    def is_in_run(self) -> bool:
        """Whether it lies among a run's checkpoints."""
        return self.path.parent.name == "checkpoints"

    @property
    def is_simulated(self) -> bool:
        """Whether simulated nights alone have trained it."""
        training, cohorts = self.training, []
        while training is not None:
            cohorts.append(training.cohort)
            training = training.pretraining
        return bool(cohorts) and all(name.startswith(_SYNTHETIC) for name in cohorts)

    def fingerprint(self) -> str:
        """The first twelve digits of the weights' checksum, whatever file they are in."""
        digest = hashlib.sha256()
        # sorted: the order in which a model registers its layers is not part of the weights
        for name, tensor in sorted(self.state.items()):
            digest.update(name.encode() + tensor.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def stamp(self) -> dict[str, str]:
        """What results of it are marked with: current ones have these weights and this version."""
        return {"weights": self.fingerprint(), "version": VERSION}


def is_of_stamp(about: Mapping[str, Any], run: Path) -> bool:
    """Whether results were made of the best weights that the run has now, by this version."""
    return load_checkpoint(run / "checkpoints" / "best.pt").stamp().items() <= about.items()


def refuse_seen(
    training: Training,
    cohort: str,
    subjects: Iterable[str],
    *,
    where: str,
    remedy: str,
    kind: str = "training",
) -> None:
    """Refuse to evaluate a model on subjects that its training has seen.

    Subjects are known by their ids, whatever part of a collection a store holds; only synthetic
    and real ones share ids without being the same. Pretraining counts as training.

    Raises:
        UserError: naming some of them, and ``remedy``.
    """
    is_synthetic = [name.startswith(_SYNTHETIC) for name in (cohort, training.cohort)]
    both = sorted(training.seen() & set(subjects)) if is_synthetic[0] == is_synthetic[1] else []
    if both:
        more = " …" if len(both) > 5 else ""
        raise UserError(f"{where}: {kind} has seen {', '.join(both[:5])}{more}; {remedy}")
    if training.pretraining is not None:
        refuse_seen(
            training.pretraining, cohort, subjects, where=where, remedy=remedy, kind="pretraining"
        )


def without_paths(content: Any) -> Any:
    """A checkpoint's content whose commands have the names of absolute paths alone."""
    if not isinstance(content, dict):
        return content
    return {
        key: _ABSOLUTE.sub(r"\1", value) if key == "command" else without_paths(value)
        for key, value in content.items()
    }


def save_checkpoint(
    path: Path, checkpoint: Mapping[str, Any], *, what: str = "", overwrite: bool | None = None
) -> None:
    """Write a checkpoint's dict, whole or not at all."""
    with (
        written_whole(path, what=what, overwrite=overwrite) as temporary,
        temporary.open("wb") as file,
    ):
        save_tensors({"format": FORMAT_VERSION, **checkpoint}, file)


def save_tensors(content: Mapping[str, Any], file: BinaryIO) -> None:
    """Write what :func:`load_tensors` reads; the bytes do not depend on the file's name.

    Raises:
        OSError: a full disk, of which torch by itself makes an error without a reason.
    """
    writer = _Writer(file)
    try:
        torch.save(content, writer)
    except RuntimeError:
        if writer.error is None:
            raise
        raise writer.error from None


class _Writer:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.error = file, None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU without running any code it may hold.

    Raises:
        UserError: no such file, a damaged one, one whose loading would execute code, or as
            :func:`checkpoint_from`.
    """
    return checkpoint_from(_read(path), path)


def checkpoint_from(content: Any, path: Path) -> Checkpoint:
    """The checkpoint of a file's ``content``, or of content made in memory from that file.

    Raises:
        UserError: it is no checkpoint of this project, a field is not what it should be, or its
            weights are not finite.
    """
    if not isinstance(content, dict) or not set(KEYS) <= content.keys():
        raise UserError(
            f"{path}: not a checkpoint of this project (needs {', '.join(KEYS)}); published "
            "weights are read after convert_checkpoint.py"
        )
    version = content.get("format")
    if type(version) is not int or version != FORMAT_VERSION:
        shown = version if type(version) is int else "unknown"
        raise UserError(
            f"{path}: checkpoint format {shown}, this code reads {FORMAT_VERSION}; train again"
        )
    if wrong := [name for name, is_right in fields(content) if not is_right]:
        raise UserError(
            f"{path}: its {', '.join(wrong)} cannot be those of a checkpoint; train again, or "
            "fetch it again"
        )
    try:
        check_weights(content["state"])
    except NotTensorsError as error:
        raise UserError(f"{path}: {error}") from error
    return Checkpoint(
        path=path,
        model=content["model"],
        settings=content["settings"],
        channels=tuple((label, role) for label, role in content["channels"]),
        fs=float(content["fs"]),
        standardise=content["standardise"],
        state=content["state"],
        training=_training(content.get("trained") or _elsewhere(content.get("source"))),
        source=content.get("source"),
        passes=content.get("pass"),
        progress={name: content[name] for name in _PROGRESS if name in content},
        scaled_over=scaled_over(content),
    )


def _elsewhere(source: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is known of a training elsewhere: its cohorts and preparation, but no subject."""
    if source is None:
        return None
    cohorts = source.get("trained_on", "unknown nights")
    return {
        "command": source["command"],
        "cohort": f"{cohorts}, unknown subjects ({source['origin']}'s {source['file']})",
        "preparation": source.get("preparation"),
        "store": None,  # equals no store's fingerprint: any store is another one
        "folds": None,
        "train_folds": [],
        "held_out_folds": [],
        "subjects": {"train": [], "validation": []},
        "select_on": "unknown",
    }


def _training(facts: Mapping[str, Any] | None) -> Training | None:
    if facts is None:
        return None
    return Training(facts, _training(facts.get("pretraining")))


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train first, or name another")
    try:
        return load_tensors(path)
    except NotTensorsError as error:
        raise UserError(f"{path}: {error}") from error
