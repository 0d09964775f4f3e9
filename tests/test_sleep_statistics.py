"""Sleep statistics against nights worked by hand, by the AASM manual's definitions."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import DOCS
from evaluation.sleep_statistics import STATISTICS, compare, hypnogram, sleep_statistics
from utils.staged_night import StagedNight

W, N1, N2, N3, REM, UNSCORED = 0, 1, 2, 3, 4, -1


def night(*bouts: tuple[int, int]) -> np.ndarray:
    """Stages of bouts (stage, epochs)."""
    codes, lengths = zip(*bouts, strict=True)
    return np.repeat(np.array(codes, np.int8), lengths)


def statistics_of(*bouts: tuple[int, int]) -> dict[str, float]:
    return sleep_statistics(night(*bouts))


def test_a_whole_night():
    # 60 epochs, half an hour: 5 min awake, asleep, 1 min awake, asleep, 4 min awake
    made = statistics_of((W, 10), (N1, 4), (N2, 20), (W, 2), (N3, 10), (REM, 6), (W, 8))
    assert made == pytest.approx(
        {
            "TIB": 30,
            "TST": 20,  # 40 epochs
            "SE": 100 * 20 / 30,
            "SOL": 5,
            "WASO": 1 + 4,  # to lights on
            "WASO_SPT": 1,  # to the final awakening
            "REM_latency": 18,  # 4 + 20 + 2 + 10 epochs after sleep onset, Wake included
            "REM_latency_3min": 18,
            "W": 10,
            "N1": 2,
            "N2": 10,
            "N3": 5,
            "REM": 3,
            "SFI": 2 / (20 / 60),
        }
    )
    assert list(made) == list(STATISTICS)


def test_epochs_of_20_seconds_are_counted_as_such():
    """Was: windows of 30 s around a scorer's epochs of 20 s made a night 1.5 times as long."""
    codes = night((W, 9), (N2, 30), (REM, 8), (N2, 3), (REM, 9), (W, 6))
    onsets = 20.0 * np.arange(len(codes)) - 5
    staged = StagedNight("n", "s", np.eye(5)[codes], codes, own_onsets=onsets.tolist())
    assert staged.spacing == 20
    made = sleep_statistics(codes, staged.spacing)
    assert (made["TIB"], made["SOL"], made["N2"], made["WASO"]) == pytest.approx((65 / 3, 3, 11, 2))
    # three minutes are nine of these epochs
    assert made["REM_latency"] == 10 and made["REM_latency_3min"] == pytest.approx(41 / 3)
    assert StagedNight("n", "s", np.eye(5)[codes], codes).spacing == 30


def test_unscored_epochs_are_never_sleep():
    made = statistics_of((W, 2), (UNSCORED, 4), (N2, 6), (UNSCORED, 10), (REM, 2), (W, 2))
    assert made["TIB"] == 13 and made["TST"] == 4 and made["W"] == 2
    assert made["SE"] == pytest.approx(100 * 4 / 13)
    assert made["SOL"] == 3  # the time passes, scored or not
    assert (made["WASO"], made["WASO_SPT"]) == (1, 0)
    assert made["REM_latency"] == 8
    assert made["SFI"] == pytest.approx(1 / (4 / 60))


def test_unscored_ends_are_outside_lights():
    """Was: an hour without a signal before the night was an hour in bed, and of latency."""
    inner = [(W, 4), (N2, 10), (REM, 8), (W, 4)]
    assert statistics_of((UNSCORED, 120), *inner, (UNSCORED, 30)) == statistics_of(*inner)


def test_awake_is_whoever_wakes_into_unscored_epochs():
    made = statistics_of((N2, 60), (UNSCORED, 5), (W, 3), (UNSCORED, 5), (N2, 60))
    assert made["SFI"] == pytest.approx(1)
    assert statistics_of((N2, 60), (UNSCORED, 5), (N2, 60))["SFI"] == 0


def test_no_rem():
    made = statistics_of((W, 4), (N1, 2), (N2, 30), (W, 4))
    assert np.isnan([made["REM_latency"], made["REM_latency_3min"]]).all()
    assert made["REM"] == 0 and made["WASO"] == 2


def test_rem_that_does_not_persist():
    made = statistics_of((W, 4), (N2, 10), (REM, 5), (N2, 10), (REM, 6), (N2, 1))
    assert (made["REM_latency"], made["REM_latency_3min"]) == (5, 12.5)
    # an unscored epoch interrupts: what it was is not known
    broken = statistics_of((N2, 10), (REM, 5), (UNSCORED, 1), (REM, 5), (N2, 9))
    assert broken["REM_latency"] == 5 and np.isnan(broken["REM_latency_3min"])


def test_no_sleep():
    made = statistics_of((W, 10), (UNSCORED, 2), (W, 8))
    assert (made["TIB"], made["TST"], made["SE"], made["W"], made["REM"]) == (10, 0, 0, 9, 0)
    for name in ("SOL", "WASO", "WASO_SPT", "REM_latency", "REM_latency_3min", "SFI"):
        assert np.isnan(made[name]), name


def test_sleep_from_the_first_epoch_to_the_last():
    made = statistics_of((REM, 8), (N2, 12))
    assert (made["SOL"], made["WASO"], made["SE"], made["REM_latency"]) == (0, 0, 100, 0)


@pytest.mark.parametrize("stages", [np.zeros(0, np.int8), np.full(9, UNSCORED, np.int8)])
def test_nothing_scored_is_undefined_throughout(stages):
    made = sleep_statistics(stages)
    assert list(made) == list(STATISTICS) and np.isnan(list(made.values())).all()


@pytest.mark.parametrize("seed", range(5))
def test_whole_nights_agree_with_yasa_where_it_defines_the_same(seed):
    rng = np.random.default_rng(seed)
    stages = np.concatenate([[W, W, N1], np.repeat(rng.integers(0, 5, 40), 9), [N2, W]])
    theirs, ours = hypnogram(stages).sleep_statistics(), sleep_statistics(stages)
    same = {"WAKE": "W", "WASO": "WASO_SPT"} | {
        name: name for name in ("TIB", "TST", "SE", "SOL", "N1", "N2", "N3", "REM", "SFI")
    }
    for name, own in same.items():
        assert ours[own] == pytest.approx(theirs[name], abs=1e-4), name
    # YASA counts the latency of REM from lights out
    assert ours["REM_latency"] == pytest.approx(theirs["Lat_REM"] - theirs["SOL"], abs=1e-4)


def test_expert_and_model_are_compared_over_the_same_epochs():
    expert = night((UNSCORED, 3), (W, 2), (N2, 4), (UNSCORED, 2), (W, 3))
    model = night((N2, 3), (W, 2), (N2, 4), (N2, 2), (W, 2), (N1, 1))
    made = compare(expert, model)
    assert made["TST"] == pytest.approx((2, 2.5, 0.5))
    assert made["TIB"] == (5.5, 5.5, 0)
    assert made["WASO"] == (1.5, 1, -0.5)


def test_the_docs_define_every_statistic_as_the_code_does():
    rows = [f"| `{name}` | {unit} | {text} |" for name, (unit, text) in STATISTICS.items()]
    assert "\n".join(rows) in DOCS.read_text()
