"""Figures of explanations: samples, bands, deletion and insertion, randomised layers, stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.stages import COLOURS, EPOCH_SECONDS, PLOT_ORDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CYCLE = ("#c8322e", "#3f87c4", "#e8a33d", "#5b9e6f", "#7b5aa6", "#8c564b", "#17a2a2", "#b84a8b")


@dataclass(frozen=True)
class SampleRow:
    """One row of a figure: the traces of one epoch and what colours them.

    ``signals`` (m, t) in physical units and ``colours`` (m, t) of their traces; ``epochs`` (l,)
    and ``modalities`` (m,) are shares that sum to 1, of the window's epochs and of the channels;
    ``own`` is the epoch's position in the window. The row of the epoch explained is ``marked``.
    """

    title: str
    signals: np.ndarray
    colours: np.ndarray
    epochs: np.ndarray | None
    modalities: np.ndarray
    own: int
    marked: bool = True


def draw_sample(
    rows: Sequence[SampleRow],
    *,
    title: str,
    channels: Sequence[str],
    unit: str,
    colour: tuple[str, float, float, str],
) -> Figure:
    """Draw one row per epoch: shares of epochs, shares of modalities, and the coloured traces.

    ``colour`` is (map, lowest, highest, label); the limits hold for every trace of the figure.
    After the summary figure of Pradeepkumar et al. 2024, with the layers' own weights.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    name, low, high, label = colour
    height = 1.5 + 1.6 * len(rows)  # placed by hand: finding a layout costs more than drawing it
    figure = Figure(figsize=(18, height))
    widths = [1, 1, *[5] * len(channels)]
    grid = figure.subplots(len(rows), len(widths), width_ratios=widths, squeeze=False)
    figure.subplots_adjust(0.03, 0.6 / height, 0.94, 1 - 0.8 / height, wspace=0.2, hspace=0.45)
    scale = ScalarMappable(Normalize(low, high), name)
    for row, axes in zip(rows, grid, strict=True):
        _draw_epoch_bars(axes[0], row.epochs, row.own)
        _draw_modality_bars(axes[1], row.modalities, channels)
        for panel, trace, colours in zip(axes[2:], row.signals, row.colours, strict=True):
            _draw_trace(panel, trace, colours, scale)
            panel.set_ylabel(unit)
        weight = "bold" if row.marked else "normal"
        axes[2].set_title(row.title, loc="left", fontsize=10, fontweight=weight)
    for panel, channel in zip(grid[0][2:], channels, strict=True):
        panel.set_title(channel, loc="right", fontsize=10)
    grid[0][0].set_title("epochs", fontsize=10)
    grid[0][1].set_title("modalities", fontsize=10)
    for panel in grid[-1][2:]:
        panel.set_xlabel("s")
    figure.suptitle(title, x=0.01, y=1 - 0.1 / height, va="top", ha="left", fontsize=12)
    beside = figure.add_axes((0.95, 0.6 / height, 0.008, 1 - 1.4 / height))
    figure.colorbar(scale, cax=beside, label=label)
    return figure


def _draw_epoch_bars(axes: Axes, shares: np.ndarray | None, own: int) -> None:
    """Draw shares of the window's epochs, its own in red, the uniform level as a line."""
    if shares is None:
        axes.axis("off")
        return
    colours = ["#9db4c8"] * len(shares)
    colours[own] = COLOURS["REM"]
    axes.bar(range(len(shares)), shares, color=colours)
    axes.axhline(1 / len(shares), color="#404040", linewidth=0.8, linestyle=":")
    axes.set_xticks([])
    axes.set_ylim(0, max(0.3, float(np.max(shares))))


def _draw_modality_bars(axes: Axes, shares: np.ndarray, channels: Sequence[str]) -> None:
    """Draw shares of the channels from 0 to 1, with their values."""
    axes.bar(range(len(shares)), shares, color="#9db4c8")
    axes.axhline(1 / len(shares), color="#404040", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1)
    axes.set_xticks(range(len(shares)), [name.split()[0] for name in channels], fontsize=8)
    for k, share in enumerate(shares):
        axes.text(k, min(share, 0.88), f"{share:.2f}", ha="center", va="bottom", fontsize=8)


def _draw_trace(axes: Axes, trace: np.ndarray, colours: np.ndarray, scale: Any) -> None:
    """Draw a signal in pieces of 0.1 s, each in the mean colour of its samples."""
    from matplotlib.collections import LineCollection

    pieces = 10 * EPOCH_SECONDS if len(trace) % (10 * EPOCH_SECONDS) == 0 else EPOCH_SECONDS
    width = len(trace) // pieces
    time = np.arange(len(trace)) * EPOCH_SECONDS / len(trace)
    points = np.stack([time, trace], axis=1)
    # one sample more than a piece, so that pieces touch
    segments = [points[k * width : (k + 1) * width + 1] for k in range(pieces)]
    lines = LineCollection(segments, linewidths=1.1)
    lines.set_color(scale.to_rgba(colours[: pieces * width].reshape(pieces, width).mean(axis=1)))
    axes.add_collection(lines)
    # a channel that records nothing still needs an axis
    reach = max(1e-6, 1.05 * float(np.abs(trace).max()))
    axes.set(xlim=(0, EPOCH_SECONDS), ylim=(-reach, reach))
    axes.spines[["top", "right"]].set_visible(False)


def draw_spectral(
    maps: np.ndarray,
    signals: np.ndarray,
    edges: Sequence[tuple[float, float]],
    *,
    title: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw attributions by band and time (f, m, t) under each trace (m, t), and sums by band."""
    from matplotlib.figure import Figure

    pieces = 2 * EPOCH_SECONDS if maps.shape[2] % (2 * EPOCH_SECONDS) == 0 else EPOCH_SECONDS
    image = maps.reshape(*maps.shape[:2], pieces, -1).sum(axis=3)
    # a single extreme piece would leave all others pale
    limit = max(1e-12, float(np.percentile(np.abs(image), 99)))
    names = [f"{low:g}–{high:g} Hz" for low, high in edges]
    figure = Figure(figsize=(18, 6), layout="constrained")
    widths, heights = [1.4, *[5] * len(channels)], (1, 1.4)
    grid = figure.subplots(2, len(widths), width_ratios=widths, height_ratios=heights)
    grid[0][0].axis("off")
    sums = maps.sum(axis=(1, 2))
    grid[1][0].barh(
        range(len(edges)), sums, color=["#c8322e" if v > 0 else "#3f87c4" for v in sums]
    )
    grid[1][0].axvline(0, color="#404040", linewidth=0.8)
    grid[1][0].set_yticks(range(len(edges)), names)
    grid[1][0].set_xlabel("adds to the stage")
    for k, channel in enumerate(channels):
        top, bottom = grid[0][k + 1], grid[1][k + 1]
        time = np.arange(signals.shape[1]) * EPOCH_SECONDS / signals.shape[1]
        top.plot(time, signals[k], color="#303030", linewidth=0.7)
        top.set(xlim=(0, EPOCH_SECONDS), ylabel=unit)
        top.set_title(channel, loc="left", fontsize=10)
        extent = (0, EPOCH_SECONDS, -0.5, len(edges) - 0.5)
        shown = bottom.imshow(
            image[:, k],
            aspect="auto",
            origin="lower",
            cmap="coolwarm",
            vmin=-limit,
            vmax=limit,
            extent=extent,
            interpolation="nearest",
        )
        bottom.set_yticks(range(len(edges)), names if len(edges) < 10 else [""] * len(edges))
        bottom.set_xlabel("s")
    figure.colorbar(shown, ax=list(grid[1][1:]), label="against | for the stage", pad=0.01)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def draw_image(
    image: np.ndarray,
    decibels: np.ndarray,
    signals: np.ndarray,
    grid: tuple[np.ndarray, np.ndarray],
    *,
    title: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw a map (frames, bins) as contours on each channel's spectrogram (m, frames, bins).

    ``grid`` holds the middles of frames in s and of bins in Hz; the traces (m, t) stand above. Red
    contours are for the stage, blue ones against it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 * len(channels) + 1, 6), layout="constrained")
    panels = figure.subplots(2, len(channels), height_ratios=(1, 2.2), squeeze=False)
    seconds, hertz = grid
    limit = max(1e-12, float(np.abs(image).max()))
    # none at 0, where a contour would follow noise
    levels = limit * np.array([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75])
    for k, channel in enumerate(channels):
        top, bottom = panels[0][k], panels[1][k]
        time = np.arange(signals.shape[1]) * EPOCH_SECONDS / signals.shape[1]
        top.plot(time, signals[k], color="#303030", linewidth=0.7)
        top.set(xlim=(0, EPOCH_SECONDS), ylabel=unit)
        top.set_title(channel, loc="left", fontsize=10)
        low, high = np.percentile(decibels[k], (2, 99.5))
        shown = bottom.pcolormesh(
            seconds,
            hertz,
            decibels[k].T,
            cmap="gray_r",
            vmin=low,
            vmax=high,
            shading="nearest",
            rasterized=True,  # or the SVG would hold every cell as a path
        )
        drawn = bottom.contourf(
            seconds,
            hertz,
            image.T,
            levels=[-limit, *levels[:3], *levels[3:], limit],
            cmap="coolwarm",
            vmin=-limit,
            vmax=limit,
            alpha=0.35,
        )
        bottom.contour(seconds, hertz, image.T, levels=levels, cmap="coolwarm", linewidths=1.2)
        bottom.set(xlim=(0, EPOCH_SECONDS), ylim=(0, hertz[-1]), xlabel="s", ylabel="Hz")
    figure.colorbar(shown, ax=list(panels[1]), label="dB", pad=0.01)
    figure.colorbar(drawn, ax=list(panels[1]), label="against | for the stage", pad=0.01)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def draw_bands(rows: Mapping[tuple[str, str], Mapping[str, Any]], bands: Sequence[str]) -> Figure:
    """Draw the Shapley value of every band by stage, with intervals; ``rows`` by (stage, band)."""
    from matplotlib.figure import Figure

    stages = [stage for stage in PLOT_ORDER if (stage, bands[0]) in rows]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    width, kinds = 0.8 / len(stages), []
    for k, stage in enumerate(stages):
        at = np.arange(len(bands)) + (k - (len(stages) - 1) / 2) * width
        shown = [rows[stage, band] for band in bands]
        means = np.array([row["mean"] for row in shown])
        label = f"{stage}, {shown[0]['epochs']} epochs of {shown[0]['subjects']}"
        axes.bar(at, means, width, color=COLOURS[stage], label=label)
        if all(row["low"] is not None for row in shown):  # one subject has no interval
            low, high = ([row[end] for row in shown] for end in ("low", "high"))
            axes.vlines(at, low, high, color="#303030", linewidth=0.8)
            kinds.append(shown[0]["interval"])
    # lines of two subjects reach far beyond the bars
    ends = np.array([0.0, *(rows[stage, band]["mean"] for stage in stages for band in bands)])
    axes.set_ylim(ends.min() - np.ptp(ends) - 0.01, ends.max() + np.ptp(ends) + 0.01)
    about = " or ".join(dict.fromkeys(kinds)) or "none of one subject"
    axes.set_title(f"epochs of n subjects; lines: 95 % intervals, {about}", fontsize=9, loc="left")
    axes.axhline(0, color="#404040", linewidth=0.8)
    axes.set_xticks(range(len(bands)), bands)
    axes.set_ylabel("probability lost without the band\n(Shapley value)")
    axes.legend(title="model's stage", frameon=False, ncols=len(stages))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_curves(curves: Mapping[str, Any], *, title: str, control: str) -> Figure:
    """Draw mean probability while units are removed (left) and added (right), one line per method.

    ``curves`` hold ``share`` (k,), ``deletion`` and ``insertion`` (b, k); the ``control`` is the
    dashed line that a method has to beat.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, colour in _coloured(curves, control):
        style = {"color": colour, "linestyle": "--" if name == control else "-"}
        left.plot(curves[name].share, curves[name].deletion.mean(axis=0), label=name, **style)
        right.plot(curves[name].share, curves[name].insertion.mean(axis=0), **style)
    left.set(title="removed, most important first: lower is better", ylabel="mean probability")
    right.set(title="added, most important first: higher is better")
    for axes in (left, right):
        axes.set_xlabel("share of half seconds x modalities")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    left.legend(frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def draw_randomisation(
    likeness: Mapping[str, Sequence[float]], layers: Sequence[str], title: str
) -> Figure:
    """Draw rank correlation with the trained map while layers lose their weights, head first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, colour in _coloured(likeness):
        axes.plot(range(len(layers)), likeness[name], color=colour, marker="o", label=name)
    axes.axhline(0, color="#404040", linewidth=0.8)
    axes.set_xticks(range(len(layers)), layers, rotation=20, ha="right")
    axes.set_ylabel("rank correlation of |A|\nwith the trained model's map")
    axes.set_xlabel("random weights from the head up to")
    axes.set_ylim(-0.2, 1.02)
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_stage_means(means: Mapping[tuple[str, str], Mapping[str, Any]], channels) -> Figure:
    """Draw the mean explanation of each stage: context, modalities and course in the epoch.

    ``means`` by (method, stage) hold ``context`` (offsets, values) or ``None``, ``modalities``
    (m,) shares, ``course`` (m, pieces) of the mean size over the epoch's 30 s, and how many
    ``epochs`` they are means of.
    """
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(method for method, _ in means))
    figure = Figure(figsize=(14, 2.6 * len(methods) + 0.6), layout="constrained")
    columns = 2 + len(channels)
    grid = figure.subplots(len(methods), columns, squeeze=False)
    for row, method in zip(grid, methods, strict=True):
        stages = [stage for stage in PLOT_ORDER if (method, stage) in means]
        for k, stage in enumerate(stages):
            shown = means[method, stage]
            style = {"color": COLOURS[stage], "label": f"{stage}, n = {shown['epochs']}"}
            if shown["context"] is not None:
                row[0].plot(*shown["context"], marker=".", **style)
            at = np.arange(len(channels)) + (k - (len(stages) - 1) / 2) * 0.8 / len(stages)
            row[1].bar(at, shown["modalities"], 0.8 / len(stages), **style)
            for axes, course in zip(row[2:], shown["course"], strict=True):
                time = np.linspace(0, EPOCH_SECONDS, len(course), endpoint=False)
                axes.plot(time, course, linewidth=0.8, **style)
        row[0].set_ylabel(method, fontweight="bold")
        row[1].set_xticks(range(len(channels)), [name.split()[0] for name in channels])
        for axes in row:
            axes.spines[["top", "right"]].set_visible(False)
    titles = ("epochs before and after", "share of modalities", *channels)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
    for axes in grid[-1][2:]:
        axes.set_xlabel("s of the epoch; mean |A|, times uniform")
    grid[0][1].legend(frameon=False, fontsize=8, ncols=2)
    return figure


def _coloured(names: Mapping[str, Any], control: str | None = None) -> list[tuple[str, str]]:
    """Pairs of names and colours; the control is grey and last."""
    plain = [name for name in names if name != control]
    colours = [(name, _CYCLE[k % len(_CYCLE)]) for k, name in enumerate(plain)]
    return colours + [(name, "#606060") for name in names if name == control]
