"""A night reviewed on its page as a scorer would: keys, files, other programs; axe, print, sizes.

The browser is slow to start, so that these are among the slow tests but for one night of an hour.
"""

from __future__ import annotations

import csv
import importlib.resources
import json
import re
import time
from pathlib import Path

import edfio
import mne
import numpy as np
import pyedflib
import pytest

import generate_demo_data
import predict
from datasets.readers import expert_annotations
from datasets.readers.any_file import opened
from evaluation.sleep_statistics import sleep_statistics
from tests import browser

pytestmark = pytest.mark.slow
AUTHOR = "Ana Müller, =MD"
ENDINGS = {
    "csv": "_hypnogram.csv", "edf": "_hypnogram.edf", "tsv": "_events.tsv", "json": "_events.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    words = ["--subjects", "1", "--nights", "1", "--hours", "1.5", "--jobs", "1"]
    generate_demo_data.main(["--output", str(folder), *words])
    return next(folder.glob("*PSG.edf"))


@pytest.fixture(scope="module")
def page(night) -> Path:
    """Its page, with a channel that the model does not read, and the expert's stages beside it."""
    path = night.parent / "page.html"
    words = ["--edf", str(night), "-o", str(path), "--explain", "4"]
    predict.main([*words, "--page_channels", "EOG horizontal"])
    return path


@pytest.fixture(params=[1024, 1440])
def window(page, tmp_path, request):
    if not (browser.BINARY and browser.DRIVER):
        pytest.skip("no chromium and chromedriver")
    with browser.Browser(tmp_path / "profile", request.param) as opened_window:
        opened_window.open(page)
        yield opened_window


def text_of(window, name: str) -> str:
    return window.run(f"return document.getElementById('{name}').textContent")


def test_every_epoch_has_traces_with_units_and_axes(window):
    n = window.run("return n")
    assert n == 180
    # what is written on the canvases of an epoch, and how many pixels of its traces are ink
    words = """
    const written = [], original = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
      written.push(text); return original.call(this, text, ...more); };
    const rows = [];
    for (let k = FIRST; k < Math.min(n, FIRST + 30); k++) {
      written.length = 0; show(k);
      const inks = TRACES.map((_, row) => {
        const canvas = $("traces").children[row], pen = canvas.getContext("2d");
        const inside = pen.getImageData(LEFT, 0, canvas.width - LEFT - RIGHT, canvas.height).data;
        let dark = 0;
        for (let j = 0; j < inside.length; j += 4) dark += inside[j + 3] > 200 && inside[j] < 90;
        return dark; });
      rows.push([written.slice(), inks]);
    }
    CanvasRenderingContext2D.prototype.fillText = original;
    return rows;
    """
    drawn = [
        row for first in range(0, n, 30) for row in window.run(f"const FIRST = {first}; {words}")
    ]
    assert len(drawn) == n
    for epoch, (written, inks) in enumerate(drawn):
        assert {"EEG Fpz-Cz", "EOG horizontal", "µV", "+37.5", "−37.5", "7/mm"} <= set(written)
        assert {"0", "5", "30", "s", "clock", "70"} <= set(written)
        assert min(inks) > 800, epoch  # as long as the row
    axes = {"W", "REM", "N1", "N2", "N3"}
    assert axes <= set(window.run("return D.order"))
    overview = """
    const written = [], original = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text) { written.push(text); };
    overview(); CanvasRenderingContext2D.prototype.fillText = original; return written; """
    written = window.run(overview)
    assert axes | {"30 Hz", "dB, µV²/Hz", "they differ", "probability", "least certain"} <= set(
        written
    )
    assert sum(bool(re.fullmatch(r"\d\d:\d\d", word)) for word in written) >= 2
    assert window.run("return document.documentElement.scrollWidth <= innerWidth")


def test_neighbours_are_shown_on_request(window):
    window.run("show(7)")
    window.press("c")
    assert window.run("return [firstShown(), secondsShown()]") == [-30, 90]
    assert window.run("return $('context').getAttribute('aria-pressed')") == "true"
    window.run("show(0)")  # which has none before it
    window.press("c")
    assert window.run("return secondsShown()") == 30


def saved(window, folder: Path, format_name: str) -> Path:
    """Save by its button; the file, once it is whole."""
    window.run(f"document.querySelector('[data-save={format_name}]').click()")
    for _ in range(100):
        files = list(folder.glob(f"*{ENDINGS[format_name]}"))
        if files and not list(folder.glob("*.crdownload")):
            return files[0]
        time.sleep(0.1)
    raise AssertionError(f"not saved: {text_of(window, 'said')}")


def test_a_stage_is_changed_undone_saved_and_read_back(window, night, tmp_path):
    given = window.run("show(20); return Array.from(given)")
    first, second, third = ((given[k] + 1) % 5 for k in (20, 21, 22))
    for code in (first, second, (third + 1) % 5):
        window.press("w123r"[code])
    window.press("z")
    for key in ("w123r"[third], "x"):
        window.press(key)
    wanted = [*given[:20], first, second, third, -1, *given[24:]]
    assert window.run("return Array.from(stages)") == wanted
    folder = tmp_path / "saved"
    folder.mkdir()
    window.save_into(folder)
    window.run("document.querySelector('[data-save=csv]').click()")
    assert "Who scored?" in text_of(window, "said") and not list(folder.iterdir())
    window.type("#author", AUTHOR)
    recording = opened(night)
    for name in ("csv", "edf", "tsv"):
        path = saved(window, folder, name)
        stages, note = expert_annotations.read(path, recording, len(given))
        assert stages.tolist() == wanted and not note
        assert not expert_annotations.is_export(path)
    check_table(folder, given, wanted)
    about = json.loads(saved(window, folder, "json").read_text())
    assert about["Scorer"] == AUTHOR and set(about) > set(header_of(folder))
    check_edf(next(folder.glob("*.edf")), wanted)
    output = tmp_path / "agreed.json"
    words = ["--edf", str(night), "--expert", str(next(folder.glob("*.edf")))]
    predict.main([*words, "-o", str(output), "--model", "yasa"])
    agreed = json.loads(output.read_text())
    assert agreed["scored"] == sum(code >= 0 for code in wanted)
    ours = sleep_statistics(np.array(wanted, np.int8))
    shown = window.run("return statistics(stages)")
    assert {k: shown[k] for k in ours if shown[k] is not None} == pytest.approx(
        {k: v for k, v in ours.items() if shown[k] is not None}
    )
    assert [k for k in ours if shown[k] is None] == [k for k, v in ours.items() if np.isnan(v)]


def header_of(folder: Path) -> list[str]:
    return next(folder.glob("*.tsv")).read_text().splitlines()[0].split("\t")


def check_table(folder: Path, given: list[int], wanted: list[int]) -> None:
    with next(folder.glob("*.csv")).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["scorer"] for row in rows} == {AUTHOR}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows[0]["saved_at"])
    changed = [int(row["epoch"]) for row in rows if row["changed"] == "1"]
    assert changed == [k for k, code in enumerate(wanted) if code != given[k]]


def check_edf(path: Path, wanted: list[int]) -> None:
    """As MNE, edfio and pyedflib read it: stages, the author, the recording's start."""
    words = ("W", "N1", "N2", "N3", "R", "?")
    for onsets, durations, texts in (by_mne(path), by_edfio(path), by_pyedflib(path)):
        assert texts[0].startswith(f"Scored by {AUTHOR}, saved 20")
        codes = np.full(len(wanted), -2)
        for onset, seconds, text in zip(onsets[1:], durations[1:], texts[1:], strict=True):
            first = round(onset / 30)
            codes[first : first + round(seconds / 30)] = words.index(text[len("Sleep stage ") :])
        assert np.where(codes == 5, -1, codes).tolist() == wanted
    header = edfio.read_edf(path)
    assert header.recording.investigator_technician_code == "Ana_Muller,_=MD"
    assert header.starttime.strftime("%H:%M:%S") != "00:00:00"


def by_mne(path: Path):
    marks = mne.read_annotations(path)
    return marks.onset, marks.duration, list(marks.description)


def by_pyedflib(path: Path):
    with pyedflib.EdfReader(str(path)) as file:
        onsets, durations, texts = file.readAnnotations()
    return onsets, durations.astype(float), list(texts)


def by_edfio(path: Path):
    marks = edfio.read_edf(path).annotations
    return [m.onset for m in marks], [m.duration for m in marks], [m.text for m in marks]


def test_more_stages_than_a_record_holds_are_still_read(window, tmp_path):
    """A day in which every epoch has another stage than the one before."""
    many = "bouts = () => Array.from({ length: 2880 }, (_, k) => [k, 1, k % 5])"
    codes = window.run(f"{many}; return Array.from(edfBytes('A', '2026-01-01T00:00:00Z'))")
    path = tmp_path / "day.edf"
    path.write_bytes(bytes(codes))
    for onsets, durations, texts in (by_mne(path), by_edfio(path)):
        assert len(texts) == 2881 and onsets[-1] == 2879 * 30 and durations[-1] == 30
        assert texts[-1] == "Sleep stage R"


def test_jumps_reach_every_epoch_of_a_kind(window):
    for key, kind in (("d", "disagreement"), ("u", "uncertain"), ("f", "flagged")):
        kinds = f"Array.from({{ length: n }}, (_, k) => k).filter(k => IS.{kind}(k))"
        wanted = window.run(f"show(n - 1); return {kinds}")
        reached = []
        for _ in wanted:
            window.press(key)
            reached.append(window.run("return current"))
        assert reached == wanted
    window.run("show(0)")
    window.press("Shift", "e")
    assert window.run("return current") == max(
        window.run("return Object.keys(D.explained).map(Number)")
    )


def test_it_is_usable_by_keyboard_and_screen_reader(window):
    """By axe-core no serious fault, also where an epoch is explained."""
    axe = pytest.importorskip("axe_core_python")
    script = importlib.resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8")
    window.run("jump('explained', 1)")
    window.run(f"const s = document.createElement('script'); s.textContent = {json.dumps(script)};"
               "document.head.append(s)")  # fmt: skip
    window.run("axe.run().then(result => { window.faults = result.violations; })")
    for _ in range(100):
        faults = window.run("return window.faults ?? null")
        if faults is not None:
            break
        time.sleep(0.2)
    serious = [
        (fault["id"], fault["nodes"][0]["html"])
        for fault in faults
        if fault["impact"] in ("serious", "critical")
    ]
    assert not serious
    # every button has words, and can be reached
    assert window.run("return [...document.querySelectorAll('button')].every(b => b.textContent)")
    assert text_of(window, "caption") == window.run("return $('night').ariaValueText")


def test_a_report_is_one_page(window):
    assert len(re.findall(rb"/Type /Page\b", window.printed())) == 1


def test_nothing_is_asked_for_and_nothing_fails(window, tmp_path):
    window.save_into(tmp_path)
    window.type("#author", "A")
    for key in "w1zc+-":
        window.press(key)
    window.run("document.querySelector('[data-save=tsv]').click()")
    assert [line for line in window.log("browser") if line["level"] == "SEVERE"] == []
    assert not [url for url in window.requests() if url.startswith(("http", "ws", "ftp"))]


def test_epochs_on_onsets_of_their_own_are_saved_on_them(window, tmp_path):
    """A clock that drifts by 0.2 s per epoch, as MASS has it."""
    given = "D.onsets = Array.from(stages, (_, k) => Math.round(10 * (3.3 + 30.2 * k)) / 10);"
    data, table = window.run(f"{given} return [Array.from(edfBytes('A', 'B')), csvText('A', 'B')]")
    rows = list(csv.DictReader(table.splitlines()))
    expected = [3.3 + 30.2 * k for k in range(len(rows))]
    assert [float(row["onset_s"]) for row in rows] == pytest.approx(expected)
    path = tmp_path / "own.edf"
    path.write_bytes(bytes(data))
    for onsets, durations, _ in (by_mne(path), by_edfio(path)):
        assert onsets[1:] == pytest.approx(expected) and set(durations[1:]) == {30}
