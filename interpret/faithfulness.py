"""Faithfulness: deletion, insertion, and what is left of a map when the weights are random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from interpret.frozen_model import frozen, seeded
from interpret.target import EpochTarget

UNIT_SECONDS = 0.5
_STEPS = 20  # points of a curve
_NOISE, _DRAWS = 0.03, 5  # share of the deviation of a standardised channel


@dataclass(frozen=True)
class Curves:
    """F while units are removed from the epoch or added to the baseline, (b, steps + 1).

    ``share`` (steps + 1,) is the share of units changed. F is not divided by F(x) - F(x'), which
    may be next to nothing; read it as a probability (``target.output``).
    """

    share: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Areas under deletion (lower is better) and insertion (higher is better): (b,) each."""
        return (
            np.trapezoid(self.deletion, self.share, axis=1),
            np.trapezoid(self.insertion, self.share, axis=1),
        )


def unit_scores(maps: Tensor, units: int) -> Tensor:
    """Maps (b, m, t) summed over ``units`` stretches of each modality: (b, m * units)."""
    return maps.unflatten(2, (units, -1)).sum(dim=-1).flatten(1)


def curves(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    scores: Tensor,
    *,
    baseline: str = "zero",
) -> Curves:
    """Curves of F as units change in the order of ``scores`` (b, m * units), highest first."""
    x = target.night[epochs]
    compared = target.baseline(epochs, baseline)
    # stable: units of equal score, as where a map is 0, keep their order on every device
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    # (b, m * units): position of each unit in the order
    rank = torch.empty_like(order).scatter_(1, order, places.contiguous())
    units = order.shape[1] // x.shape[1]
    rank = rank.unflatten(1, (x.shape[1], units)).repeat_interleave(x.shape[2] // units, dim=2)
    # unique, because there may be fewer units than steps
    steps = np.unique(np.linspace(0, order.shape[1], _STEPS + 1).round().astype(int))
    removed, added = [], []
    with frozen(target), torch.no_grad():
        for step in steps:
            first = rank < step
            removed.append(target(torch.where(first, compared, x), epochs, classes))
            added.append(target(torch.where(first, x, compared), epochs, classes))
    values = [torch.stack(part, dim=1).cpu().numpy() for part in (removed, added)]
    return Curves(steps / order.shape[1], *values)


def infidelity(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    attributions: Tensor,
    *,
    times_input: bool,
    seed: int = 0,
) -> np.ndarray:
    """How badly a map foretells F under small noise, (b,); compare within one model only.

    Captum's measure (Yeh et al., NeurIPS 2019) with 3 % noise; ``times_input`` for maps that hold
    the signal as a factor, such as integrated gradients.
    """
    from captum.metrics import infidelity, infidelity_perturb_func_decorator

    # divides the perturbation by the signal where the map holds it as a factor
    @infidelity_perturb_func_decorator(times_input)
    def moved(x: Tensor) -> Tensor:
        return x - _NOISE * torch.randn_like(x)

    with frozen(target), seeded(seed), torch.no_grad():
        values = infidelity(
            target,
            moved,
            target.inputs(epochs),
            attributions,
            additional_forward_args=(epochs, classes),
            n_perturb_samples=_DRAWS,
            max_examples_per_batch=256,  # bounds the memory, not the result
        )
    return values.cpu().numpy()


def sensitivity(explainer: Callable[[Tensor], Tensor], x: Tensor, *, seed: int = 0) -> np.ndarray:
    """Largest relative change of a map under noise of 3 %, (b,): Captum's sensitivity-max.

    ``explainer`` maps signals (b, m, t) to attributions (b, m, t).
    """
    # not Captum's function: it repeats x for its draws, and an explainer knows its epochs (b,)
    base = explainer(x)
    size = base.flatten(1).norm(dim=1).clamp_min(1e-12)  # a map may be 0 everywhere
    largest = torch.zeros(len(x), device=x.device)
    with seeded(seed):
        for _ in range(_DRAWS):
            # uniform within 3 %, as Captum draws it
            noise = _NOISE * (2 * torch.rand_like(x) - 1)
            change = (explainer(x + noise) - base).flatten(1).norm(dim=1) / size
            largest = torch.maximum(largest, change)
    return largest.cpu().numpy()


def layers_from_head(model: nn.Module) -> list[str]:
    """Names of a model's parts in the order of losing their weights: head first, input last.

    A part is a child with weights, or an element of a list; the only element of a list is opened.
    """
    parts = {}
    for name, child in model.named_children():
        inner = {name: child}
        if isinstance(child, nn.ModuleList):
            inner = {f"{name}.{key}": part for key, part in child.named_children()}
            # an encoder that all positions share: its own layers are the parts
            if len(child) == 1 and any(True for _ in child[0].children()):
                inner = {f"{name}.0.{key}": part for key, part in child[0].named_children()}
        parts |= inner
    # models define their children from input to head
    return [name for name, part in parts.items() if any(True for _ in part.parameters())][::-1]


def with_random_weights(model: nn.Module, seed: int, parts: Sequence[str] | None = None):
    """A copy of the model with the weights of ``parts`` as before any training (default: all).

    Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018.
    """
    copy = deepcopy(model)
    chosen = [copy] if parts is None else [copy.get_submodule(name) for name in parts]
    with torch.random.fork_rng():  # the generator of the rest of the program is left alone
        torch.manual_seed(seed)
        for module in (m for part in chosen for m in part.modules()):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            for parameter in module.parameters(recurse=False):
                # parameters of their own, such as CLS tokens, have no method that resets them
                if not hasattr(module, "reset_parameters"):
                    nn.init.normal_(parameter)
    return copy.eval()


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman correlation of the absolute values of two sets of maps (b, …), row by row: (b,)."""
    ranks = [rankdata(np.abs(part).reshape(len(part), -1), axis=1) for part in (a, b)]
    centred = [part - part.mean(axis=1, keepdims=True) for part in ranks]
    norms = [np.linalg.norm(part, axis=1) for part in centred]
    # NaN for a constant map, whose ranks do not vary
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred[0] * centred[1]).sum(axis=1) / np.where(
            norms[0] * norms[1] > 0, norms[0] * norms[1], np.nan
        )


def random_scores(scores: Tensor, seed: int) -> Tensor:
    """Random scores of units in the shape of ``scores`` (b, units), drawn anew for every epoch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(scores.shape, generator=generator).to(scores.device)
