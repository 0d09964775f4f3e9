"""The night's page: self-contained, escaped, small, and alive in a real browser."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from evaluation.night_page import _for_script
from evaluation.page_explanations import by_hertz, epoch_data, explained_data, thinned
from interpret.explanation import answer_of
from interpret.prototypes import PER_STAGE
from tests import browser
from tests.test_explaining import evaluate
from tests.test_training import train


@pytest.fixture(scope="module")
def folder(raw, store, tmp_path_factory) -> Path:
    """A whole small night explained."""
    project = tmp_path_factory.mktemp("page")
    run = train(store, project, "--n_epochs", "1")
    words = ["--is_interpret", "--interpret_select", "all", "--interpret_pictures", "0"]
    cheap = [
        "--interpret_methods",
        "ixg,attention",
        "--n_random",
        "1",
        "--interpret_bands",
        "False",
    ]
    evaluate(store, project, raw, *words, *cheap, "--pictures", "0")
    return run / "interpretations"


@pytest.fixture(scope="module")
def page(folder) -> Path:
    return next(folder.glob("*.html"))


def test_nothing_is_fetched_from_anywhere(page):
    text = page.read_text()
    for source in re.findall(r"""(?:src|href)=["']([^"']*)""", text):
        assert source.startswith("data:"), source
    assert "http://" not in text and "https://" not in text and "url(" not in text


def data_of(page: Path, element: str = "data"):
    """What a page's script reads of one of its elements."""
    return json.loads(re.search(rf'id="{element}">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def test_a_whole_night_stays_small(page, store):
    """Ten hours of two channels: 12 MB at most, with three methods at 200 epochs."""
    index = json.loads((page.parent / "index.json").read_text())
    explained = len(index["explanations"])
    assert explained > 50
    data, traces = data_of(page), data_of(page, "trace_data")
    assert len(traces) == 2 and len(traces[0]["epochs"]) == len(data["model"])
    own = len(_for_script(data["explained"])) / explained
    shown = len(_for_script(traces)) / len(data["model"])
    prototypes = 5 * PER_STAGE * max(len(_for_script(one)) for one in data["prototypes"])
    changing = _for_script(data["prototypes"] + list(data["explained"].values()) + traces)
    rest = page.stat().st_size - len(changing)
    assert rest + 1200 * shown + 200 * own + prototypes < 12e6
    assert 1200 * shown / 2 < 4e6  # each further channel


def test_json_cannot_leave_its_element():
    text = str(_for_script({"a": "</script><b>&"}))
    assert "<" not in text and ">" not in text
    assert json.loads(text) == {"a": "</script><b>&"}


def test_maps_are_sums_of_pieces():
    maps = np.zeros((2, 3000))
    maps[0, :10], maps[1, 20:30] = -4, 2
    pieces = thinned(maps, 300)
    assert pieces.shape == (2, 300) and pieces.min() == -40 and pieces.max() == 20
    assert thinned(np.ones((1, 3840)), 300).shape == (1, 30)  # no whole samples in 0.1 s


def explained_folder(tmp_path, epochs) -> tuple[Path, list[dict]]:
    """A folder of explained epochs by number: the size of their maps and of their signals."""
    entries = []
    for epoch, (size, amplitude) in epochs.items():
        place = tmp_path / f"n_e{epoch:04d}"
        place.mkdir()
        np.savez(place / "input.npz", signals=amplitude * np.hanning(3000)[None])
        np.savez(place / "ig.npz", signed=np.full((1, 3000), size / 10))
        known = answer_of(2.0, 1.0, 0.0)
        methods = {"ig": {"file": f"{place.name}/ig.npz", **known, "settings": {}}}
        entries.append(
            {"epoch": epoch, "folder": place.name, "methods": methods, "explained": "N2"}
            | {"why": None}
        )
    return tmp_path, entries


def test_one_scale_holds_for_all_epochs_of_a_page(tmp_path):
    """Was: every epoch had its own, so that a weak reason looked like a strong one."""
    folder, entries = explained_folder(tmp_path, {3: (2.0, 10.0), 7: (0.5, 40.0), 8: (-1.0, 40.0)})
    data = explained_data(folder, entries)
    values = {
        k: np.frombuffer(base64.b64decode(one["maps"]["ig"][0]), np.int8)
        for k, one in data["explained"].items()
    }
    assert {k: set(v) for k, v in values.items()} == {"3": {127}, "7": {32}, "8": {-64}}
    assert data["map_scale"] == {"ig": 2.0} and data["piece_s"] == {"ig": 0.1}
    assert data["input_scale"] == [48.0]  # of the median epoch's 40, with some room


def test_small_and_flat_signals_have_a_scale(tmp_path):
    place = tmp_path / "n_e0000"
    place.mkdir()
    signals = np.outer([0.0, 3.456e-4, 87.6], np.sin(np.arange(3000.0) / 9))
    np.savez(place / "input.npz", signals=signals)
    entry = {"folder": "n_e0000", "methods": {}, "explained": "N2", "why": None}
    data = epoch_data(tmp_path, entry)
    assert data["scale"] == [0.0, 0.00035, 88.0]  # what the page prints
    flat, small, usual = (base64.b64decode(one) for one in data["signals"])
    assert set(flat) == {0} and small == usual


def test_maps_of_spectrograms_are_shown_by_hertz():
    cells = np.zeros((2, 29, 129))
    hertz = np.arange(129) * 100 / 256
    cells[0, 3, 33], cells[1, 28, 128] = -4, 9  # 12.9 Hz, and 50 Hz, which is not shown
    cells[1, 28, 2] = 1
    shown = by_hertz(cells, hertz)
    assert shown.shape == (2, 40, 29) and shown[0, 12, 3] == -4 and shown[1, 0, 28] == 1
    assert (shown != 0).sum() == 2


def test_an_incomplete_map_is_flagged(tmp_path):
    place = tmp_path / "n_e0000"
    place.mkdir()
    np.savez(place / "input.npz", signals=np.ones((1, 3000)))
    np.savez(place / "ig.npz", signed=np.ones((1, 3000)))
    known = answer_of(2.0, 1.0, 0.06, probabilities=[0.2] * 5, distance=22.0, deviates_from="it")
    methods = {"ig": {"file": "n_e0000/ig.npz", **known, "settings": {"baseline": "zero"}}}
    entry = {"folder": "n_e0000", "methods": methods, "explained": "N2", "why": None}
    data = epoch_data(tmp_path, entry)
    assert data["incomplete"] == ["ig"]
    assert data["comparison"]["ig"] == (
        "F(N2) 2.00, at the baseline (zero) 1.00: W 0.20 N1 0.20 N2 0.20 N3 0.20 REM 0.20; it lies "
        "22.0 SD from the mean of it; completeness error 6.0 %. INCOMPLETE: the map misses more "
        "than 5 % of the change"
    )


@pytest.fixture
def window(page, tmp_path):
    if not (browser.BINARY and browser.DRIVER):
        pytest.skip("no chromium and chromedriver")
    with browser.Browser(tmp_path) as opened:
        opened.open(page)
        yield opened


CAPTION = "return document.getElementById('caption').textContent"


def shown(window) -> int:
    return int(re.match(r"epoch (\d+)", window.run(CAPTION))[1])


def inked(window, canvas: str) -> bool:
    """Whether anything is drawn on a canvas."""
    return window.run(
        f"const c = document.querySelector('{canvas}');"
        "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v)"
    )


def test_the_night_is_drawn_and_an_epoch_explained(window):
    drawn = ("#yours", "#expert", "#model", "#differ", "#density", "#review", "#spectrogram")
    for canvas in (*drawn, "#hours", "#traces canvas", "#maps canvas"):
        assert inked(window, canvas), canvas
    # two channels, their seconds; the same of what the model received
    assert window.run("return document.querySelectorAll('#traces canvas').length") >= 3
    assert window.run("return document.querySelectorAll('#maps canvas').length") == 3
    assert window.run("return document.querySelectorAll('#scores tr').length") > 3


def test_clicks_and_arrow_keys_move(window, page):
    box = window.run(
        "const b = document.getElementById('model').getBoundingClientRect();"
        "return [b.left + LEFT, b.top, b.width - LEFT - RIGHT, b.height]"
    )
    n = window.run("return n")
    window.click(round(box[0] + box[2] * (20.5 / n)), round(box[1] + 30))
    assert shown(window) == 20
    window.press("ArrowRight")
    assert shown(window) == 21
    window.press("ArrowLeft")
    window.press("ArrowLeft")
    assert shown(window) == 19
    window.press("e")
    assert shown(window) == 20
    window.press("Shift", "ArrowRight")
    assert shown(window) == 30
    note = window.run("return document.getElementById('note').textContent")
    assert "Red is evidence for it" in note and "square root" in note and "99th percentile" in note
    window.run("document.querySelectorAll('#methods button')[1].click()")
    assert "attend" in window.run("return document.getElementById('note').textContent")


def test_a_stage_is_changed_by_a_key_undone_and_kept(window, page):
    own = window.run("return [Array.from(given), show(0)]")[0]
    for key in "w3x":
        window.press(key)
    assert shown(window) == 3
    now = "return Array.from(stages)"
    assert window.run(now) == [0, 3, -1, *own[3:]]
    window.press("z")
    assert window.run(now)[:3] == [0, 3, own[2]] and shown(window) == 2
    window.press("y")
    window.open(page)  # closed before it was saved
    assert window.run(now) == [0, 3, -1, *own[3:]]
    assert "not saved yet" in window.run("return document.getElementById('said').textContent")
    window.press("Control", "z")
    assert window.run(now) == own


def test_epochs_for_a_second_look_are_linked_and_prototypes_drawn(window, page):
    looked = json.loads((page.parent / "second_look.json").read_text())["epochs"]
    own = [row for row in looked if row["recording"] == page.stem]
    links = "document.querySelectorAll('#second_look button')"
    assert window.run(f"return {links}.length") == min(len(own), 40) > 0
    window.run(f"{links}[0].click()")
    assert shown(window) == own[0]["epoch"]
    assert window.run("return document.querySelectorAll('#prototypes h3').length") == 2
    assert inked(window, "#prototypes canvas")


def test_no_errors_and_no_requests(window):
    window.press("ArrowRight")
    assert [line for line in window.log("browser") if line["level"] == "SEVERE"] == []
    asked = window.requests()
    assert any(url.startswith("file:") for url in asked)
    assert not [url for url in asked if url.startswith(("http", "ws", "ftp"))]
