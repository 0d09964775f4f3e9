"""Maps that know no model: what an explanation has to surpass to be one of a model."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from interpret.bands import BANDS, components_of
from interpret.evidence import Reading
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.explanation_method import ExplanationMethod
from interpret.question import Question
from interpret.sample import ShownEpoch
from interpret.stage_means import StageMeans
from utils.stages import EPOCH_SECONDS, STAGES

# where no event names a band, as in the order of deletion: that of the stage's rhythm
_OF_STAGE = {"W": "alpha", "N1": "theta", "N2": "sigma", "N3": "delta", "REM": "delta"}


class ModelFree(ExplanationMethod):
    """A map made from the signal alone; it is evaluated, neither drawn nor averaged."""

    model_free = True
    asks_model = False
    signed = False

    @abstractmethod
    def maps(self, x: Tensor) -> Tensor:
        """Maps in the shape of the signals ``x`` (b, m, t)."""

    def compute(self, question: Question) -> Explanation:
        """Make the maps of the question's epochs."""
        return self.explanation(question, self.maps(question.target.night[question.epochs]))

    def explanation(self, question: Question, maps: Tensor, **more: object) -> Explanation:
        """``maps`` (b, m, t) as an explanation, without values of F, which is not asked."""
        nothing = torch.full((len(question.epochs),), torch.nan)
        return Explanation(self.name, maps, nothing, nothing, nothing, nothing[:, None], **more)

    def draw(self, shown: ShownEpoch) -> None:
        """Draw nothing."""

    def add_to(
        self,
        means: StageMeans,
        night: ExplainedNight,
        question: Question,
        explanation: Explanation,
    ) -> None:
        """Add nothing."""


class Energy(ModelFree):
    """The square of every sample."""

    name = "total_energy"

    def maps(self, x: Tensor) -> Tensor:
        """Energy of all frequencies together."""
        return x.square()


class Amplitude(ModelFree):
    """The distance of every sample from the mean."""

    name = "sample_amplitude"

    def maps(self, x: Tensor) -> Tensor:
        """Sizes of samples."""
        return x.abs()


class BandEnergy(ModelFree):
    """The energy of the band that an event lies in, or of the explained stage's rhythm."""

    name = "band_energy"
    reading = Reading(in_event_band=True)

    def maps(self, x: Tensor) -> Tensor:
        """Energy of components, (b, m, t) each."""
        return x.square()

    def compute(self, question: Question) -> Explanation:
        """Energies of all bands below half the sampling rate; the stage's own is the map."""
        night = question.target.night
        fs = night.shape[-1] / EPOCH_SECONDS
        inside = {name: edges for name, edges in BANDS.items() if edges[1] <= fs / 2}
        edges = tuple(inside.values()) or ((0.0, fs),)
        bands = self.maps(components_of(night, fs, edges, question.epochs)).transpose(0, 1)
        names = list(inside)
        # a rate too low for a stage's rhythm leaves the fastest band there is
        chosen = [
            names.index(_OF_STAGE[STAGES[code]]) if _OF_STAGE[STAGES[code]] in inside else -1
            for code in question.classes.tolist()
        ]
        maps = bands[torch.arange(len(bands)), chosen]
        return self.explanation(question, maps, bands=bands, edges=edges)


class Middle(ModelFree):
    """The time to the nearer end of the epoch: the middle first, whatever the signal is."""

    name = "middle_first"

    def maps(self, x: Tensor) -> Tensor:
        """Number of samples to the nearer end, for all channels."""
        places = torch.arange(x.shape[-1], device=x.device)
        return torch.minimum(places, places.flip(0)).to(x).expand_as(x)


class Edge(Middle):
    """The opposite: the ends of the epoch first."""

    name = "ends_first"

    def maps(self, x: Tensor) -> Tensor:
        """Number of samples to the middle."""
        return -super().maps(x)
