"""Sleep stages: the one place that knows their names, codes, order and colours."""

from __future__ import annotations

import numpy as np

STAGES = ("W", "N1", "N2", "N3", "REM")  # code = index
EDF_STAGES = ("W", "N1", "N2", "N3", "R", "?")  # as EDF+ annotations spell them
YASA_STAGES = ("WAKE", "N1", "N2", "N3", "REM", "UNS")  # UNSCORED picks the last of each
RK_CODES = (0, 1, 2, 3, 5, 9)  # as Rechtschaffen and Kales number them
UNSCORED = -1  # movement, "?", lights on: kept on disk, ignored by losses and metrics
PLOT_ORDER = ("W", "REM", "N1", "N2", "N3")  # top to bottom of a hypnogram
EPOCH_SECONDS = 30
LONGEST_SECONDS = 10 * 86_400  # no recording is longer; a file that claims so is damaged
# quantiles between which a night's epochs range, in any band; the middle of that range hardly moves
# where one stage takes most of the night, as a median does, and artefacts lie beyond it
NIGHT_RANGE = (0.05, 0.95)
MADE_BY_A_MODEL = "staged_by_a_model"  # the equipment that exported annotations name
COLOURS = {  # distinct for every kind of colour vision: tests/test_figure_style.py
    "W": "#e8a33d",
    "N1": "#7cc4ea",
    "N2": "#3f87c4",
    "N3": "#1b3f7a",
    "REM": "#c8322e",
    "unscored": "#d2d2d2",
}


def stage_counts(stages: np.ndarray) -> dict[str, int]:
    """Epochs per stage of ``stages`` (any shape, codes -1..4), with ``unscored`` last."""
    counts = {name: int((stages == code).sum()) for code, name in enumerate(STAGES)}
    return counts | {"unscored": int((stages == UNSCORED).sum())}
