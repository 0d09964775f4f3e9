"""Changes of nights of band powers: seeded, within their bounds, and nothing but what is named."""

from __future__ import annotations

import pytest
import torch

from datasets.band_batches import BandSource, padded
from objectives.band_augmentation import (
    BAND_AUGMENTATIONS,
    Draws,
    Nights,
    block_of,
    changed_nights,
    composition,
    contrast,
    mixture,
    noise,
    one_derivation,
    stages,
)
from objectives.band_staging import BandStaging
from tests.band_nights import made_up_night

CPU = torch.device("cpu")


def batch(seed=0, sizes=(200, 300, 60)):
    nights = tuple(made_up_night(f"n{k}", "s", n) for k, n in enumerate(sizes))
    source = BandSource(nights, (False, False, True))
    return padded([(source, k) for k in range(len(nights))], seed, CPU)


def same(a: Nights, b: Nights) -> bool:
    return all(
        x.shape == y.shape and torch.equal(x.nan_to_num(-99.0), y.nan_to_num(-99.0))
        for x, y in ((a.decibels, b.decibels), (a.stages, b.stages), (a.lengths, b.lengths))
    )


def test_without_names_nothing_changes():
    given = batch()
    nights = changed_nights(given, ())
    assert same(nights, Nights(given.decibels[:, :, 0], given.stages, given.lengths))


@pytest.mark.parametrize("name", BAND_AUGMENTATIONS)
def test_each_change_is_by_the_seed_of_its_batch(name):
    one, again, other = (changed_nights(batch(seed, [300] * 6), [name]) for seed in (1, 1, 2))
    assert same(one, again) and not same(one, other)
    assert not same(one, changed_nights(batch(1, [300] * 6), ()))
    torch.manual_seed(5)  # nor does anything draw from the network's own random numbers
    state = torch.get_rng_state()
    changed_nights(batch(1), [name])
    assert torch.equal(torch.get_rng_state(), state)


def test_mixtures_have_an_eeg_and_little_of_the_eyes():
    present = torch.tensor([[True, True, True], [False, True, True]]).repeat(200, 1)
    is_eog = torch.tensor([[False, False, True]]).expand(400, 3)
    weights = mixture(present, is_eog, Draws(0, CPU))
    assert (weights[~present] == 0).all() and weights[:, :2].amax(dim=1).gt(0).all()
    assert weights[:, 2].max() <= 0.1 and 0.2 < (weights[:, 2] > 0).float().mean() < 0.5
    single = (weights[::2, :2] > 0).sum(dim=1) == 1
    assert 0.35 < single.float().mean() < 0.65


def test_a_mixture_lies_between_what_is_mixed_and_keeps_gaps():
    given = batch()
    given.decibels[0, 5] = float("nan")
    mixed = one_derivation(given, Draws(3, CPU)).decibels
    assert mixed[0, 5].isnan().all() and mixed[0, :5].isfinite().all()
    # of weights that do not sum to more than 2.1, so at most 3.3 dB above the largest
    assert (mixed[0, :5] < given.decibels[0, :5].amax(dim=1) + 3.4).all()


def test_composition_keeps_epochs_in_order_with_their_stages():
    given = changed_nights(batch(), ())
    given.decibels[:, :, 0] = torch.arange(300.0)  # the epoch's number, to follow it
    lengths = set()
    for seed in range(30):
        made = composition(given, Draws(seed, CPU))
        for k, length in enumerate(made.lengths.tolist()):
            number = made.decibels[k, :length, 0].long()
            assert (number.diff() > 0).all() and length >= min(120, int(given.lengths[k]))
            assert torch.equal(made.stages[k, :length], given.stages[k, number])
            assert (made.stages[k, length:] == -1).all()
            assert made.decibels[k, length:].isnan().all()
        lengths |= set(made.lengths.tolist())
    assert len(lengths) > 10


def test_a_block_is_one_run_of_its_kind():
    of_kind = torch.tensor([1, 0, 1, 1, 0, 1, 1, 0]).bool()
    block = block_of(of_kind, 0.6, Draws(0, CPU))
    assert block.sum() == 3 and not (block & ~of_kind).any()
    assert block[of_kind].long().diff().abs().sum() <= 2
    assert not block_of(torch.zeros(4).bool(), 0.5, Draws(0, CPU)).any()


def test_contrast_scales_about_the_median():
    given = changed_nights(batch(), ())
    made = contrast(given, Draws(0, CPU))
    middle = given.decibels.nanmedian(dim=1, keepdim=True).values
    factor = ((made.decibels - middle) / (given.decibels - middle)).nanmedian(dim=1).values
    assert (factor >= 0.49).all() and (factor <= 1.16).all()
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), atol=1e-3)


def test_noise_is_of_about_a_decibel_and_loses_few_epochs():
    given = changed_nights(batch(sizes=(300,) * 20), ())
    made = noise(given, Draws(0, CPU))
    change = made.decibels - given.decibels
    steps = change.diff(dim=1)
    sizes = steps.nan_to_num(0.0).square().mean(dim=(1, 2)).sqrt() / 2**0.5
    assert sizes.min() > 0.25 and sizes.max() < 1.1
    gaps = made.decibels.isnan().all(dim=-1).float().mean(dim=1)
    assert 0 < gaps.max() < 0.1 and gaps.min() == 0


def test_an_unknown_change_is_refused():
    with pytest.raises(ValueError, match="no gain; there are derivation"):
        BandStaging(["gain", "noise"])


def test_whole_stages_are_left_out_of_a_third_of_the_nights():
    given = changed_nights(batch(0, [600] * 60), ())
    changed = stages(given, Draws(5, CPU))
    n_odd = 0
    for k, length in enumerate(changed.lengths.tolist()):
        kept, before = changed.stages[k, :length].tolist(), given.stages[k].tolist()
        # what is left of a stage is all of it
        for stage in set(kept):
            assert kept.count(stage) == before.count(stage)
        n_odd += len(set(kept)) < len(set(before))
        assert length >= 120
    assert 8 <= n_odd <= 32
