"""The question that a method answers: which output of a model, at which epochs of a night."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from interpret.baselines import AUTO
from interpret.target import EpochTarget

Shared = TypeVar("Shared")
# what gradients are taken by, of models that read spectrograms; all others have samples alone
SPECTROGRAM, SAMPLES = SPACES = "spectrogram", "samples"
# gradients per epoch at most: a tenth of the epochs of a trained transformer need thousands
MOST_STEPS = 12_800


@dataclass(frozen=True)
class Plan:
    """What is computed for every chosen epoch; ``target_class`` is predicted, true or a stage.

    ``span`` is the epoch alone or its whole window, ``space`` one of :data:`SPACES`. ``steps`` of
    integrated gradients to begin with, ``most_steps`` at most; ``band_hz`` wide bands of spectral
    gradients, 0 for the named ones; random ``orders`` and ``untrained`` copies to compare with.
    What deletion removes is replaced by ``baseline``, then by each of ``replacements``. Methods are
    evaluated on at most ``evaluated_per_stage`` epochs of every stage of a night; ``pictures``
    epochs are drawn per night. For so many epochs the ``counterfactuals`` are sought, edits that
    lead to any other stage or to the one named.
    """

    methods: tuple[str, ...]
    baseline: str = AUTO
    other_baselines: tuple[str, ...] = ("mean_epoch", "other_stage")
    output: str = "logit"
    target_class: str = "predicted"
    span: str = "epoch"
    space: str = SPECTROGRAM
    seed: int = 0
    steps: int = 20
    most_steps: int = MOST_STEPS
    band_hz: float = 0.0
    orders: int = 20
    untrained: int = 3
    replacements: tuple[str, ...] = ("same_stage",)
    evaluated_per_stage: int = 20
    pictures: int = 20
    counterfactuals: int = 0
    counterfactual_to: str = "any"


@dataclass(frozen=True)
class Question:
    """F of ``target`` for ``classes`` (b,) at ``epochs`` (b,), on the device of its night.

    ``quick`` asks for less work where a method can do with less: for copies of the model with
    random weights and for signals with noise, which are many.
    """

    target: EpochTarget
    epochs: Tensor
    classes: Tensor
    plan: Plan
    quick: bool = False
    # filled while methods run, and no part of what is asked: neither compared nor shown
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def model(self) -> Any:
        """The model that is explained."""
        return self.target.model

    @property
    def alone(self) -> EpochTarget:
        """The target that varies the epoch alone, its neighbours staying as they are."""
        if type(self.target) is EpochTarget:  # not a subclass, which varies more
            return self.target
        return EpochTarget(self.target.model, self.target.night, self.target.output)

    def shared(self, make: Callable[[Any, Tensor], Shared]) -> Shared:
        """``make(model, night)``, computed once for all methods and figures that ask for it."""
        if make not in self._made:
            self._made[make] = make(self.target.model, self.target.night)
        return self._made[make]
