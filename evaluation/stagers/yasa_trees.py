"""YASA's trees: the features of a recording, the stages they give at some scales, exact reasons."""

from __future__ import annotations

import contextlib
import importlib
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.staged_file import StagedFile
from interpret.explained_night import ExplainedNight
from interpret.feature_contributions import FeatureContributions, write_contributions
from interpret.index import Entry
from interpret.playing import Player
from interpret.question import Plan
from utils.stages import EDF_STAGES, STAGES, UNSCORED

FS = 100.0  # of YASA's features
# features that grow with the size of the EEG, and by which power of it; all others are shapes,
# ratios, or relative to the rest of the night
_POWERS = {"eeg_std": 1, "eeg_iqr": 1, "eeg_abspow": 2}
_FLAT_SHARE = 1e-3  # of the largest deviation, up to which an epoch counts as flat
# features of flat epochs are NaN, which YASA's trees know what to do with
_OF_FLAT_EPOCHS = ("invalid value encountered in", "All-NaN slice encountered")


@dataclass(frozen=True)
class YasaReasons:
    """Features (n, f) of a night with the trees that stage it, and why they stage it so.

    ``factors`` are what the EEG is multiplied by; the answers at all of them are averaged.
    """

    features: Any
    classifier: Path
    factors: Sequence[float]
    explains: str
    maps_signals = False

    @cached_property
    def trees(self) -> Any:
        """YASA's classifier, a gradient boosting machine."""
        import joblib

        with warnings.catch_warnings():
            _ignore_version()
            # a file of the installed package, which runs anyway
            return joblib.load(self.classifier)

    def tables(self, epochs: np.ndarray) -> list[Any]:
        """The classifier's features at ``epochs`` (b,), for each factor."""
        table = self.features[self.trees.feature_name_].iloc[epochs]
        return [rescaled(table, factor) for factor in self.factors]

    def probabilities(self) -> np.ndarray:
        """Mean over the factors of the probabilities of our stages (n, 5)."""
        order = [list(self.trees.classes_).index(name) for name in EDF_STAGES[:UNSCORED]]
        every = self.tables(np.arange(len(self.features)))
        of_factors = [self.trees.predict_proba(table)[:, order] for table in every]
        return np.mean(of_factors, axis=0).astype(np.float32)

    def why_not(self, staged: StagedFile) -> str:
        """Nothing keeps epochs from being explained."""
        return ""

    def explain(
        self, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path, why: Mapping
    ) -> list[Entry]:
        """Write the contributions to the stage of each epoch in ``chosen`` (b,)."""
        reasons = self.contributions(chosen, night.staged.stages[chosen])
        return write_contributions(folder, night, chosen, reasons, why)

    def player(self, night: ExplainedNight) -> Player | None:
        """Nothing: features of an edited epoch would need those of the whole night again."""
        return None

    def contributions(self, epochs: np.ndarray, stages: np.ndarray) -> FeatureContributions:
        """Contributions to the margins of ``stages`` (b,), our codes, at ``epochs`` (b,).

        Exact ones, by TreeSHAP; at several factors their means, which add up to the mean margin.
        """
        tables, trees = self.tables(epochs), self.trees
        order = [EDF_STAGES.index(name) for name in trees.classes_]
        column = np.argsort(order)[stages]  # of each epoch's stage among the classifier's
        rows = np.arange(len(epochs))
        margins = np.mean([trees.predict(table, raw_score=True) for table in tables], axis=0)
        parts = np.mean([trees.predict(table, pred_contrib=True) for table in tables], axis=0)
        # (b, stages, features and, last, what is expected of none)
        parts = parts.reshape(len(epochs), len(STAGES), -1)
        own, expected = parts[rows, column], parts[:, np.argsort(order), -1]
        odds = np.exp(expected - expected.max(axis=1, keepdims=True))
        return FeatureContributions(
            names=list(trees.feature_name_),
            values=np.mean([table.to_numpy(float) for table in tables], axis=0),
            contributions=own[:, :-1],
            expected=own[:, -1],
            margin=margins[rows, column],
            probabilities=odds / odds.sum(axis=1, keepdims=True),
        )


def staged_by_yasa(
    roles: Sequence[str],
    samples: np.ndarray,
    demographics: Mapping[str, int],
    name: str,
    deviations: Sequence[float] = (),
) -> tuple[np.ndarray, YasaReasons]:
    """Probabilities (n, 5) and reasons, of samples (c, t) in microvolts, one channel per role.

    With ``deviations``, the mean of the answers where the median epoch of the EEG has each of
    them (uV, between 0.4 and 30 Hz). The features are computed once all the same.
    """
    import mne
    import yasa

    kinds = [role.lower() for role in roles]
    raw = mne.io.RawArray(samples * 1e-6, mne.create_info(roles, FS, kinds), verbose="error")
    named = {f"{kind}_name": role for kind, role in zip(kinds, roles, strict=True)}
    staging = yasa.SleepStaging(raw, **named, metadata=dict(demographics))
    with warnings.catch_warnings():
        for message in _OF_FLAT_EPOCHS:
            warnings.filterwarnings("ignore", message=message, category=RuntimeWarning)
        features = staging.get_features()
    typical = typical_deviation(features["eeg_std"].to_numpy(float))
    factors = [deviation / typical for deviation in deviations] or [1.0]
    reasons = YasaReasons(features, classifier_of(kinds, bool(demographics)), factors, name)
    return reasons.probabilities(), reasons


def rescaled(features: Any, factor: float) -> Any:
    """The features (n, f) that they would be had the EEG been multiplied by ``factor``."""
    if factor == 1:
        return features
    return features.assign(
        **{name: features[name] * np.float32(factor**power) for name, power in _POWERS.items()}
    )


def typical_deviation(deviations: np.ndarray) -> float:
    """The median of the epochs' deviations (n,) without flat ones; 1 where all are flat."""
    largest = np.nanmax(deviations, initial=0.0)
    used = deviations[deviations > _FLAT_SHARE * largest]
    return float(np.median(used)) if len(used) else 1.0


def classifier_of(kinds: Sequence[str], has_demographics: bool) -> Path:
    """The newest classifier in YASA's package for these kinds of channels."""
    import yasa

    name = "+".join(["clf_eeg", *kinds[1:], *(["demo"] if has_demographics else [])])
    files = (Path(yasa.__file__).parent / "classifiers").glob(f"{name}_lgb_*.joblib")
    return max(files, key=lambda path: [int(k) for k in path.stem.split("_")[-1].split(".")])


def warm_up() -> None:
    """Import what YASA needs in the background; its compiler alone takes seconds to start."""
    threading.Thread(target=_import, daemon=True).start()


def _import() -> None:
    # what fails here fails again, and is reported, where it is needed
    with contextlib.suppress(Exception):
        for name in ("antropy", "mne.filter", "yasa"):
            importlib.import_module(name)


def _ignore_version() -> None:
    """Expect that YASA's classifiers are older than this scikit-learn, which reads them as well."""
    from sklearn.exceptions import InconsistentVersionWarning

    warnings.simplefilter("ignore", InconsistentVersionWarning)
