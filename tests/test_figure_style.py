"""The style of figures: one sheet for all, embedded fonts, colours for all kinds of vision."""

from __future__ import annotations

import ast
import itertools
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from interpret import report_figures, spectrogram_figures
from interpret.scoreboard import Score, leading, summarise
from tests.colour_vision import SEEN_BY, cielab, distance
from tests.test_words import in_prose
from utils import figure_style, figures
from utils.stages import COLOURS, PLOT_ORDER

ROOT = Path(__file__).parents[1]
MEASURES = ["deletion_below_random", "insertion_above_random"]
FREE = {"total_energy", "band_energy"}


def test_colours_are_measured_as_in_the_definition_of_cielab():
    assert cielab("#ffffff") == pytest.approx([100, 0, 0], abs=0.02)
    assert cielab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    # red and green of one brightness, which deuteranopia confuses
    assert distance("#a06000", "#608000", "deuteranopia") < 15 < distance("#a06000", "#608000")


@pytest.mark.parametrize("vision", SEEN_BY)
def test_stages_are_distinct_to_everybody(vision):
    """Was: 17.7 between N1 and unscored epochs with protanopia."""
    pairs = itertools.combinations(COLOURS, 2)
    nearest = min((distance(COLOURS[a], COLOURS[b], vision), a, b) for a, b in pairs)
    assert nearest[0] > 20, nearest


def test_lines_that_cross_differ_in_grey_as_well():
    styles = figure_style.line_styles(20)
    assert len({(line["color"], str(line["linestyle"])) for line in styles}) == 20
    assert len({str(line["linestyle"]) for line in styles[:7]}) == 7
    assert len({str(figure_style.DASHES[stage]) for stage in PLOT_ORDER}) == 5
    named = figure_style.lines_of(["random", "ig", "eg"], control="random")
    assert list(named) == ["ig", "eg", "random"]


def calls(function: ast.FunctionDef) -> set[str]:
    return {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    }


def test_every_figure_is_made_in_the_style():
    """A figure is made by new_figure, in what is @in_style or is called by such a function."""
    made = {}
    for path in sorted(ROOT.glob("*/*.py")):
        if path.parent.name in ("tests", "docs"):
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text if "igure(" in text else "")):
            if not isinstance(node, ast.FunctionDef):
                continue
            name = f"{path.parent.name}.{path.stem}.{node.name}"
            assert "Figure" not in calls(node) or name == "utils.figure_style.new_figure", name
            if "new_figure" in calls(node):
                made[name] = "in_style" in {getattr(d, "id", "") for d in node.decorator_list}
    plain = {name for name, is_styled in made.items() if not is_styled}
    # pixels of a spectrogram without axes, and the panels of three figures in the style
    assert plain == {
        "utils.figures.spectrogram_png", "interpret.spectrogram_figures._under_traces",
    }  # fmt: skip
    assert sum(made.values()) >= 25


def test_the_settings_of_others_stay():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = drawn()
    assert dict(matplotlib.rcParams) == before
    assert figure.axes[0].xaxis.label.get_size() == 7
    assert figure.get_figwidth() == pytest.approx(85 / 25.4, abs=0.01)


def drawn(title: str = "run"):
    return figures.draw_confusion(np.arange(25).reshape(5, 5), title=title)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("figures") / "confusion.png"
    assert figures.save(drawn("night.of $5 and $6"), path) == path
    return path


def test_a_figure_is_a_picture_and_a_pdf(written):
    from matplotlib.image import imread

    assert sorted(p.name for p in written.parent.glob("c*")) == ["confusion.pdf", "confusion.png"]
    height, width = imread(written).shape[:2]
    assert width == pytest.approx(figure_style.ONE_COLUMN * 200, abs=1) and height > width / 2


def test_fonts_are_in_the_pdf(written):
    """TrueType programs of letters; matplotlib's own choice is Type 3, which journals refuse."""
    content = written.with_suffix(".pdf").read_bytes()
    fonts = re.findall(rb"/Type /Font\b.*?/Subtype /(\w+)", content, re.DOTALL)
    kinds = set(re.findall(rb"/Subtype /(Type3|TrueType|Type0|CIDFontType2|Type1)\b", content))
    assert fonts and kinds and kinds <= {b"TrueType", b"Type0", b"CIDFontType2"}, kinds
    embedded = content.count(b"/FontFile2")
    assert embedded == content.count(b"/Type /FontDescriptor") > 0
    program = re.search(rb"/Length1 \d+.*?stream\r?\n(.*?)endstream", content, re.DOTALL)
    assert zlib.decompress(program[1])[:4] == b"\x00\x01\x00\x00"  # a TrueType font


def test_the_same_figure_makes_the_same_pdf(written, tmp_path):
    figures.save_as(drawn("night.of $5 and $6"), tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == written.with_suffix(".pdf").read_bytes()
    assert b"CreationDate" not in (tmp_path / "again.pdf").read_bytes()


@pytest.mark.parametrize("title", ["$5 and $6", "x^{", "名前", "😀", "a" * 300, "", "\\frac$ _ $"])
def test_any_name_is_a_title(title, tmp_path):
    figure = figure_style.new_figure(figure_style.ONE_COLUMN, 1)
    figure_style.entitle(figure, title)
    figures.save_as(figure, tmp_path / "x.pdf")
    lines = figure.get_suptitle().split("\n")
    assert max(map(len, lines)) <= 18 * figure_style.ONE_COLUMN + 1
    assert "".join(lines).startswith(title)


def scores() -> list[Score]:
    """Two measures of eight methods in ten subjects; the later a method the worse."""
    methods = ("ig", "eg", "occlusion", "saliency", "rollout", "band_energy", "total_energy")
    return [
        Score(method, measure, "N2", f"s{subject}", 0.3 - 0.04 * k + 0.01 * subject)
        for k, method in enumerate((*methods, "random"))
        for measure in MEASURES
        for subject in range(10)
    ]


def test_five_rows_the_best_that_knows_no_model_first():
    rows = leading(summarise(scores()), FREE, MEASURES)
    for measure in MEASURES:
        own = [row for row in rows if row["measure"] == measure]
        names = [row["method"] for row in own]
        assert names == ["band_energy", "ig", "eg", "occlusion", "saliency"]
        assert [row["row"] for row in own] == [1, 2, 3, 4, 5]
    figure = report_figures.draw_metrics(rows, dict.fromkeys(MEASURES, "earlier"), title="t")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "best of those that\nknow no model" and labels[1:] == names[1:]
    assert figure.axes[0].texts[0].get_text().startswith("band_energy 0.14")
    assert "BCa over subjects, n = 10 subjects" in figure.get_suptitle()
    written = [text.get_text() for axes in figure.axes for text in axes.findobj(Text)]
    assert list(in_prose("\n".join(written), 1)) == []


def test_without_a_model_free_method_the_others_keep_their_places():
    rows = leading(summarise([s for s in scores() if s.method not in FREE]), FREE, MEASURES[:1])
    assert [row["row"] for row in rows] == [2, 3, 4, 5]
    report_figures.draw_metrics(rows, {MEASURES[0]: "earlier"}, title="t")


def test_spectral_gradients_stand_at_their_frequencies():
    maps = np.zeros((3, 1, 3000))
    maps[1, 0, 1500:1600] = 0.02  # 2 in 4 to 8 Hz, from 15 to 16 s
    edges = ((0.5, 4.0), (4.0, 8.0), (12.0, 15.0))
    figure = spectrogram_figures.draw_spectral(
        maps, np.zeros((1, 3000)), edges, title="t", channels=["EEG"], unit="µV"
    )
    trace, _, image, sums = figure.axes[:4]
    mesh = image.collections[0]
    corners, values = mesh.get_coordinates(), mesh.get_array()
    assert corners[:, 0, 1].tolist() == [0.5, 4.0, 8.0, 12.0, 15.0]
    assert corners[0, [30, 32], 0].tolist() == [15.0, 16.0]
    np.testing.assert_allclose(values[1, 30:32], 1.0)
    assert values.mask[2].all() and not values[[0, 3]].any()  # 8 to 12 Hz is in no band
    assert [bar.get_width() for bar in sums.patches] == pytest.approx([0, 2, 0])
    assert (trace.get_ylabel(), image.get_ylabel(), image.get_xlabel()) == (
        "µV", "frequency, Hz", "time, s",
    )  # fmt: skip
    label = figure.axes[-1].get_ylabel()
    assert "against | for the stage" in label and "clipped at percentile 99" in label


def test_all_channels_of_a_figure_have_one_scale():
    maps = np.stack([np.full((29, 10), 1.0), np.full((29, 10), 4.0)])
    grid = np.arange(29.0), np.arange(10.0)
    figure = spectrogram_figures.draw_cells(
        maps, np.zeros((2, 3000)), grid, title="t", channels=["EEG", "EOG"], unit="µV"
    )
    limits = [axes.collections[0].get_clim() for axes in figure.axes if axes.collections]
    assert limits[0] == limits[1] == (-4.0, 4.0)
    decibels = np.stack([np.zeros((29, 10)), np.full((29, 10), 20.0)])
    figure = spectrogram_figures.draw_image(
        maps[0], decibels, np.zeros((2, 3000)), grid, title="t", channels=["A", "B"], unit="µV"
    )
    greys = [axes.collections[0].get_clim() for axes in figure.axes[1:4:2]]
    assert greys == [(0.0, 20.0)] * 2
