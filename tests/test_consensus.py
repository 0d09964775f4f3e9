"""Consensus and agreement of several scorers: by hand, and the published figures of DOD-H."""

from __future__ import annotations

import json

import numpy as np
import pytest

from datasets.readers import consensus as c
from evaluation.dod_agreement import over_records, record_agreement
from utils.errors import UserError


def test_a_tie_goes_to_the_first_of_the_ranking():
    four = np.array([[2, 2, 0], [2, 3, 1], [3, 3, 2], [3, 2, 3]])
    codes, share = c.consensus(four)
    assert codes.tolist() == [2, 2, 0] and share.tolist() == [0.5, 0.5, 0.25]
    # the first scorer's code is taken even where it is none of the tied ones
    codes, share = c.consensus(np.array([[0], [1], [1], [2], [2]]))
    assert codes.tolist() == [0] and share.tolist() == [0.2]


def test_unscored_may_have_the_majority():
    assert c.consensus(np.array([[-1], [-1], [2]]))[0].tolist() == [-1]


def test_soft_agreement_by_hand():
    # epoch 1: the others of scorer 0 vote 2, 2, 3, 3: a tie agrees fully with either
    stages = np.array([[2, 0], [2, 0], [2, 0], [3, 0], [3, 1]])
    agreement = c.soft_agreement(stages)
    assert agreement[0] == 1.0
    assert agreement[3] == pytest.approx((1 / 3 + 1) / 2)
    assert agreement[4] == pytest.approx((1 / 3 + 0) / 2)
    assert c.ranking(stages).tolist() == [0, 1, 2, 3, 4]


def test_the_window_all_have_scored():
    stages = np.array([[-1, 0, 1, 2, -1], [0, 0, 1, 2, 2], [-1, -1, 1, 2, 2]])
    assert c.scored_window(stages) == (2, 4)
    record = next(iter(c.LIGHTS_OFF))
    assert c.scored_window(np.zeros((5, 100), int), record) == (60, 100)
    with pytest.raises(UserError, match="scored no epoch"):
        c.scored_window(np.full((2, 3), -1))
    with pytest.raises(UserError, match=r"unknown records: 63b799f6.*stale"):
        c.check_lights(["a"], {"63b799f6": 60})


def test_alignment_is_unique_or_refused():
    rng = np.random.default_rng(0)
    night = rng.integers(0, 5, 300).astype(np.int8)
    assert c.aligned(night, night[37:250]) == -37
    assert c.aligned(night[20:], night) == 20
    noisy = np.where(rng.random(300) < 0.1, (night + 1) % 5, night)
    assert c.aligned(night, noisy) is None
    assert c.aligned(np.zeros(50, np.int8), np.zeros(60, np.int8)) is None  # not unique


@pytest.fixture(scope="module")
def dod_h(real_data) -> dict[str, np.ndarray]:
    """Scorers (5, n) of every record, cut to the window."""
    folder = real_data / "dod_h_scorers"
    records = sorted(path.stem for path in (folder / "scorer_1").glob("*.json"))
    raw = {
        record: np.array(
            [
                json.loads((folder / f"scorer_{k}" / f"{record}.json").read_text())
                for k in range(1, 6)
            ]
        )
        for record in records
    }
    c.check_lights(records, c.LIGHTS_OFF | c.LIGHTS_ON)
    assert sum(stages.shape[1] for stages in raw.values()) == 25_440
    return {r: s[:, slice(*c.scored_window(s, r))] for r, s in raw.items()}


def test_counts_of_dod_h(dod_h):
    assert len(dod_h) == 25
    assert sum(stages.shape[1] for stages in dod_h.values()) == 24_665
    best = np.concatenate([c.for_model(stages)[0] for stages in dod_h.values()])
    assert [(best == k).sum() for k in range(-1, 5)] == [3, 3037, 1505, 11879, 3514, 4727]
    five = np.concatenate([c.all_of(stages)[0] for stages in dod_h.values()])
    assert [(five == k).sum() for k in range(5)] == [3078, 1464, 11987, 3448, 4688]
    counted = np.concatenate([c.votes(s[c.ranking(s)[:4]]) for s in dod_h.values()])
    top = counted.max(axis=1)
    assert [(top == k).sum() for k in (1, 2, 3, 4)] == [31, 2409, 4999, 17226]
    assert ((counted == top[:, None]).sum(axis=1) > 1).sum() == 1673


def test_soft_agreement_of_dod_h(dod_h):
    agreement = np.mean([c.soft_agreement(stages) for stages in dod_h.values()], axis=0)
    assert agreement == pytest.approx([0.8866, 0.9072, 0.9172, 0.8426, 0.9159], abs=5e-5)
    first = [int(c.ranking(stages)[0]) for stages in dod_h.values()]
    last = [int(c.ranking(stages)[-1]) for stages in dod_h.values()]
    assert np.bincount(first, minlength=5).tolist() == [2, 6, 10, 1, 6]
    assert np.bincount(last, minlength=5).tolist() == [5, 3, 2, 15, 0]


PER_SCORER = {  # F1, accuracy, kappa in per cent, mean and deviation over records
    0: (86.0, 11.2, 85.5, 12.6, 78.7, 16.3),
    1: (88.4, 4.0, 87.7, 4.4, 81.5, 6.5),
    2: (88.7, 5.3, 88.8, 4.8, 83.0, 7.6),
    3: (82.4, 8.0, 81.7, 8.6, 73.3, 12.9),
    4: (88.7, 4.7, 88.7, 4.3, 82.8, 7.2),
}


def test_agreement_of_the_scorers_of_dod_h(dod_h):
    every = []
    for scorer, expected in PER_SCORER.items():
        rows = [
            record_agreement(stages[scorer], *c.for_scorer(stages, scorer))
            for stages in dod_h.values()
        ]
        every += rows
        measures = over_records(rows)
        values = [100 * v for name in ("f1", "accuracy", "kappa") for v in measures[name]]
        assert values == pytest.approx(expected, abs=0.05 + 1e-9), scorer
    measures = over_records(every)
    values = [100 * v for name in ("f1", "accuracy", "kappa") for v in measures[name]]
    assert values == pytest.approx((86.8, 7.6, 86.5, 8.1, 79.9, 11.4), abs=0.05 + 1e-9)
    stages = [100 * measures[f"f1_{stage}"][0] for stage in ("W", "N1", "N2", "N3", "REM")]
    assert stages == pytest.approx([84.3, 50.3, 88.9, 78.5, 90.8], abs=0.05 + 1e-9)


def test_one_record_in_full(dod_h):
    stages = dod_h["25a6b2b0-4d09-561b-82c6-f09bb271d3be"]
    assert stages.shape[1] == 1063
    assert (c.ranking(stages) + 1).tolist() == [3, 1, 2, 5, 4]
    codes, share = c.for_model(stages)
    assert np.bincount(codes, minlength=5).tolist() == [55, 50, 675, 69, 214]
    assert share.mean() == pytest.approx(0.92639, abs=5e-6)
