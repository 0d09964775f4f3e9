"""Figures of nights and results, in one palette and one order of stages."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import signal

from utils.figure_style import (
    COUNTS,
    FOR,
    GREY,
    INK,
    ONE_COLUMN,
    SEQUENTIAL,
    SMALL,
    TWO_COLUMNS,
    entitle,
    in_style,
    line_styles,
    new_figure,
    style,
)
from utils.files import written_whole
from utils.stages import COLOURS, EPOCH_SECONDS, PLOT_ORDER, STAGES, UNSCORED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HIGHEST_HZ = 30.0
_SCREEN = 200  # dots to an inch of a PNG
_LEVEL_OF_CODE = np.array([PLOT_ORDER.index(name) for name in STAGES])


@in_style
def draw_night(
    epochs: np.ndarray, stages: np.ndarray, *, fs: float, title: str, unit: str = "uV"
) -> Figure:
    """Hypnogram over spectrogram on one time axis.

    ``epochs`` (n, T) of one channel, ``stages`` (n,) codes; power in dB of ``unit``**2/Hz.
    """
    figure = new_figure(TWO_COLUMNS, 3.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    draw_hypnogram(top, stages)
    entitle(figure, f"{title}   n = {len(stages):,} epochs")
    image = draw_spectrogram(bottom, epochs, fs=fs)
    bottom.set_xlabel(f"{_time_axis(len(stages))[1]} since the first kept epoch")
    label = f"power, dB ({unit.replace('uV', 'µV')}²/Hz)\nclipped at percentiles 2 and 98"
    figure.colorbar(image, ax=bottom, label=label, pad=0.01)
    return figure


def draw_hypnogram(axes: Axes, stages: np.ndarray) -> None:
    """Stairs from W (top) to N3; REM as a thick red line, unscored epochs as grey bands."""
    edges, _ = _time_axis(len(stages))
    # -1 indexes the last level before np.where blanks it
    level = np.where(stages == UNSCORED, np.nan, _LEVEL_OF_CODE[stages])
    axes.stairs(level, edges, baseline=None, color=INK, linewidth=0.6)
    for name in PLOT_ORDER:
        runs, width = _runs(stages == STAGES.index(name)), 2.5 if name == "REM" else 2
        axes.hlines([PLOT_ORDER.index(name)] * len(runs), *edges[runs.T], COLOURS[name], lw=width)
    unscored = _runs(stages == UNSCORED)
    for number, (start, stop) in enumerate(unscored):
        axes.axvspan(
            edges[start],
            edges[stop],
            color=COLOURS["unscored"],
            label="unscored" if number == 0 else None,  # one line in the legend
        )
    if len(unscored):
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_yticks(range(len(PLOT_ORDER)), PLOT_ORDER)
    axes.set_ylim(len(PLOT_ORDER) - 0.5, -0.5)
    axes.set_xlim(0, edges[-1])


def _runs(those: np.ndarray) -> np.ndarray:
    """Beginnings and ends (r, 2) of the runs of true values (n,)."""
    # padded with 0, so that runs at either end of the night have both borders
    return np.flatnonzero(np.diff(np.r_[0, those, 0])).reshape(-1, 2)


@in_style
def draw_staged_night(
    probabilities: np.ndarray, expert: np.ndarray, *, title: str, model: np.ndarray | None = None
) -> Figure:
    """Expert over model hypnogram, their disagreements, and the hypnodensity, on one time axis.

    ``probabilities`` (n, 5), ``expert`` (n,) and ``model`` (n,) codes, the latter the most probable
    stages unless named; disagreement is marked on epochs that both scored.
    """
    model = probabilities.argmax(axis=1) if model is None else model
    _, unit = _time_axis(len(expert))
    figure = new_figure(TWO_COLUMNS, 4.2)
    top, middle, marks, bottom = figure.subplots(4, 1, sharex=True, height_ratios=(1, 1, 0.12, 1))
    for axes, stages, name in ((top, expert, "expert"), (middle, model, "model")):
        draw_hypnogram(axes, stages)
        axes.set_ylabel(name)
    compared = (expert != UNSCORED) & (model != UNSCORED)
    differ = (model != expert) & compared
    entitle(figure, f"{title}   {differ.sum():,} of {compared.sum():,} scored epochs differ")
    mark_epochs(marks, differ, "differ")
    draw_hypnodensity(bottom, probabilities)
    bottom.set_xlabel(f"{unit} since the first kept epoch")
    return figure


@in_style
def draw_prediction(
    probabilities: np.ndarray, flags: Sequence[str], *, title: str, stages: np.ndarray
) -> Figure:
    """Hypnogram over hypnodensity of a night without expert; epochs with a quality flag are marked.

    ``probabilities`` (n, 5), ``flags`` (n,): what is wrong with an epoch, "" where nothing is;
    ``stages`` (n,) codes, -1 where there is no signal.
    """
    _, unit = _time_axis(len(probabilities))
    figure = new_figure(TWO_COLUMNS, 3.2)
    top, marks, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1, 0.12, 1))
    draw_hypnogram(top, stages)
    entitle(figure, f"{title}   n = {len(stages):,} epochs")
    mark_epochs(marks, np.array([bool(words) for words in flags]), "signal quality")
    draw_hypnodensity(bottom, probabilities)
    bottom.set_xlabel(f"{unit} since the recording began")
    return figure


def mark_epochs(axes: Axes, marked: np.ndarray, name: str) -> None:
    """Vertical line at each marked epoch (n,) of a night."""
    edges, _ = _time_axis(len(marked))
    axes.vlines(edges[:-1][marked], 0, 1, color=INK, linewidth=0.4)
    axes.set(ylim=(0, 1), yticks=[])
    axes.set_ylabel(name, rotation=0, ha="right", va="center")


def draw_hypnodensity(axes: Axes, probabilities: np.ndarray) -> None:
    """Stacked probabilities (n, 5), N3 at the bottom to W on top."""
    edges, _ = _time_axis(len(probabilities))
    base = np.zeros(len(probabilities))
    for name in reversed(PLOT_ORDER):
        level = base + probabilities[:, STAGES.index(name)]
        axes.stairs(level, edges, baseline=base, fill=True, color=COLOURS[name], label=name)
        base = level
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    # stacked from the bottom, listed from the top
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5))


@in_style
def draw_confusion(counts: np.ndarray, *, title: str) -> Figure:
    """Confusion matrix, expert in rows: per cent of the row in large, epochs in small print."""
    figure = new_figure(ONE_COLUMN, 3.2)
    axes = figure.subplots()
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(100 * counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    image = axes.imshow(share, cmap=COUNTS, vmin=0, vmax=100)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if share[row, column] > 55 else "black"  # legible on dark blue
        shown = f"{share[row, column]:.0f}" if totals[row] else "–"
        axes.text(column, row - 0.08, shown, ha="center", va="center", color=colour, fontsize=8)
        small = {"color": colour, "fontsize": SMALL - 1}
        axes.text(column, row + 0.3, f"{counts[row, column]:,}", ha="center", va="center", **small)
    axes.set_xticks(range(len(STAGES)), STAGES)
    axes.set_yticks(range(len(STAGES)), STAGES)
    axes.set_xlabel("model")
    axes.set_ylabel("expert")
    axes.spines[:].set_visible(True)
    entitle(figure, f"{title}\nn = {counts.sum():,} epochs; in cells: %, and epochs")
    figure.colorbar(image, ax=axes, label="% of the expert's epochs", shrink=0.85)
    return figure


@in_style
def draw_reliability(bins: np.ndarray, *, title: str) -> Figure:
    """Accuracy against confidence over bins (n, 3) of epochs, mean confidence and accuracy."""
    figure = new_figure(ONE_COLUMN, 3.8)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(bins) + 1)
    top.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
    used = bins[:, 0] > 0
    top.plot(bins[used, 1], bins[used, 2], color=FOR, marker="o", label="model")
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share right")
    entitle(figure, f"{title}\nn = {bins[:, 0].sum():,.0f} epochs")
    top.legend(loc="upper left")
    bottom.stairs(bins[:, 0], edges, fill=True, color=GREY)
    bottom.set(xlabel="probability of the predicted stage", ylabel="epochs")
    return figure


@in_style
def draw_risk_coverage(points: np.ndarray, *, title: str) -> Figure:
    """Share of errors among the surest epochs: points (k, 3) of coverage, risk and confidence."""
    figure = new_figure(ONE_COLUMN, 2.8)
    axes = figure.subplots()
    coverage, risk, lowest = points.T
    axes.plot(coverage, risk, color=FOR, marker="o")
    axes.axhline(risk[-1], color=GREY, linestyle=":", label="all epochs")
    axes.set(xlim=(0, 1.02), ylim=(0, None), ylabel="share wrong")
    axes.set_xlabel("share of epochs kept, the surest first")
    axes.legend(loc="lower left")
    # a few ticks: labels of all points would overlap
    some = np.linspace(0, len(points) - 1, min(5, len(points))).astype(int)
    above = axes.secondary_xaxis("top")
    above.set_xticks(coverage[some], [f"{value:.2f}" for value in lowest[some]])
    above.set_xlabel("lowest confidence kept")
    entitle(figure, title)
    return figure


def draw_spectrogram(axes: Axes, epochs: np.ndarray, *, fs: float):
    """Welch spectrum of every epoch as a column; colours span its 2nd to 98th percentile."""
    epochs = np.asarray(epochs, dtype=np.float32)
    segment = min(round(4 * fs), epochs.shape[1])
    frequencies, density = signal.welch(epochs, fs, nperseg=segment)
    shown = frequencies <= min(_HIGHEST_HZ, fs / 2)
    # flat signals have no power, which decibels cannot express
    decibel = 10 * np.log10(np.maximum(density[:, shown], 1e-6))
    low, high = np.percentile(decibel, (2, 98))  # or one artefact would take the whole scale
    image = axes.imshow(
        decibel.T,
        aspect="auto",
        origin="lower",
        cmap=SEQUENTIAL,
        vmin=low,
        vmax=high,
        extent=(0, _time_axis(len(epochs))[0][-1], 0, float(frequencies[shown][-1])),
    )
    axes.set_ylabel("Hz")
    return image


@in_style
def draw_curve(rows: Sequence[Mapping[str, float]], *, title: str) -> Figure:
    """Loss and validation agreement by pass; the best pass is marked."""
    figure = new_figure(ONE_COLUMN, 3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    passes = [row["pass"] for row in rows]
    top.plot(passes, [row["train_loss"] for row in rows], color=INK, marker=".")
    top.set_ylabel("training loss")
    entitle(figure, title)
    names = ("accuracy", "macro_f1", "kappa", "loss")
    for name, look in zip(names, line_styles(len(names)), strict=True):
        values = [row.get(f"val_{name}") for row in rows]
        if any(value is not None for value in values):
            values = [np.nan if value is None else value for value in values]
            bottom.plot(passes, values, marker=".", label=name.replace("_", "-"), **look)
    bottom.axvline(rows[-1]["best_pass"], color=GREY, linestyle=":", label="best pass")
    bottom.set_ylabel("validation subjects")
    bottom.set_xlabel("pass")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    bottom.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in (top, bottom):
        axes.grid()
    return figure


@dataclass(frozen=True)
class Picture:
    """A spectrogram without axes, one pixel per epoch, and what axes would tell.

    ``png`` is the file, ``highest`` its top in Hz, ``decibel`` the ends of its scale, ``colours``
    that scale in steps, lowest first.
    """

    png: bytes
    highest: float
    decibel: tuple[float, float]
    colours: tuple[str, ...]


def spectrogram_png(epochs: np.ndarray, *, fs: float) -> Picture:
    """Image of :func:`draw_spectrogram` for a page that draws its own axes."""
    from io import BytesIO

    from matplotlib import image
    from matplotlib.colors import to_hex

    drawn = draw_spectrogram(new_figure(1, 1, is_laid_out=False).subplots(), epochs, fs=fs)
    file = BytesIO()
    # the spectrogram has its lowest frequency in row 0, a PNG its top
    image.imsave(file, drawn.to_rgba(drawn.get_array())[::-1], format="png")
    colours = tuple(to_hex(drawn.cmap(part)) for part in np.linspace(0, 1, 9))
    return Picture(file.getvalue(), drawn.get_extent()[3], drawn.get_clim(), colours)


def _time_axis(n_epochs: int) -> tuple[np.ndarray, str]:
    """Epoch borders (n + 1,) and their unit: hours, or minutes for less than one hour."""
    seconds = np.arange(n_epochs + 1) * EPOCH_SECONDS
    return (seconds / 3600, "hours") if seconds[-1] >= 3600 else (seconds / 60, "minutes")


def close(figure: Figure) -> None:
    """Let go of a figure that a library drew through pyplot, which keeps it."""
    import matplotlib.pyplot as plt

    plt.close(figure)


def save(figure: Figure, path: Path, *, overwrite: bool | None = None) -> Path:
    """Write a PNG for the screen and beside it a PDF for print; returns the path of the PNG."""
    save_as(figure, path.with_suffix(".pdf"), overwrite=overwrite)
    figure.set_layout_engine("none")  # laid out once: it takes as long as drawing
    return save_as(figure, path, overwrite=overwrite)


def save_as(figure: Figure, path: Path, *, overwrite: bool | None = None) -> Path:
    """Write a PNG or a PDF, whole or not at all; figures are not registered anywhere: none leaks.

    A PDF holds its letters' fonts, and no date: the same figure makes the same bytes.
    """
    kind = path.suffix[1:]
    about = {"dpi": _SCREEN} if kind == "png" else {"metadata": {"CreationDate": None}}
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        style(),
        warnings.catch_warnings(),
    ):
        # names of recordings may hold letters that the font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(temporary, format=kind, **about)
    return path
