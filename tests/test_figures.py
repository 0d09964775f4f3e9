"""Figures: the hypnogram shows the stages, and memory does not grow."""

from __future__ import annotations

import numpy as np

from utils.figures import draw_hypnogram, draw_night, save
from utils.stages import COLOURS, PLOT_ORDER

STAGES = np.array([0, 0, 1, 2, 3, -1, 4, 4, 0], np.int8)


def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_levels_follow_the_plot_order():
    ax = axes()
    draw_hypnogram(ax, STAGES)
    values = ax.patches[0].get_data().values
    names = ["W", "W", "N1", "N2", "N3", None, "REM", "REM", "W"]
    expected = [np.nan if n is None else PLOT_ORDER.index(n) for n in names]
    np.testing.assert_array_equal(values, expected)
    assert [t.get_text() for t in ax.get_yticklabels()] == list(PLOT_ORDER)
    top, bottom = ax.get_ylim()[::-1]
    assert top < bottom, "W is on top"


def test_rem_is_red_and_unscored_is_marked():
    from matplotlib.colors import to_rgba

    ax = axes()
    draw_hypnogram(ax, STAGES)
    by_colour = {tuple(c.get_colors()[0]): c for c in ax.collections}
    rem = by_colour[to_rgba(COLOURS["REM"])]
    drawn = [s for s in rem.get_segments() if np.shape(s) == (2, 2) and not np.isnan(s).any()]
    np.testing.assert_allclose([s[:, 0] * 2 for s in drawn], [[6, 8]])
    assert ax.get_legend().get_texts()[0].get_text() == "unscored"


def test_the_spectrogram_shows_a_rhythm_where_it_is(tmp_path):
    t = np.arange(3000) / 100
    epochs = np.stack([20 * np.sin(2 * np.pi * hz * t) for hz in (5, 5, 20, 20)])
    figure = draw_night(epochs, np.array([0, 1, 2, 3], np.int8), fs=100, title="x")
    image = figure.axes[1].images[0]
    low, high = image.get_extent()[2:]
    frequencies = np.linspace(low, high, image.get_array().shape[0])
    np.testing.assert_allclose(
        frequencies[image.get_array().argmax(axis=0)], [5, 5, 20, 20], atol=0.3
    )
    path = save(figure, tmp_path / "a" / "x.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_figures_are_not_kept_alive():
    import matplotlib.pyplot as plt

    for _ in range(5):
        draw_night(np.zeros((4, 3000)), STAGES[:4], fs=100, title="flat")
    assert plt.get_fignums() == []
