"""The pretraining study: resumed without a row twice, its page hand-worked from a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import models
import reproduce_tables
import ssl_training
from datasets.band_batches import BandSource, padded
from datasets.band_tables import BandNight
from datasets.store import splits
from datasets.store.store import Store
from experiments import band_context, pretraining_study, study_figures, study_page
from experiments.study_grid import read_grid
from experiments.study_results import Space, correlated, difference, is_ahead, rankings, sign_of
from experiments.study_rows import CURVE, POWERS, RANDOM, TABLE, Cell, Probed, Rows
from objectives.band_augmentation import Draws
from objectives.masked_bands import MaskedBands, without
from tests.band_nights import made_up_table
from tests.study_tables import GRID, STORE, counts_of, rows_of
from training import context_training, train
from training.context_training import ContextTraining, pretrained, untrained
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.figure_style import GREY

CURVES = "pretraining_curves.csv"


def in_process(cells, folder, *, at_once, gpus, options) -> None:
    """Trainings without processes of their own, which take seconds to begin."""
    for cell in cells:
        for _, script, *words in cell.commands:
            assert script.endswith("ssl_training.py")
            ssl_training.main(words)


def split_of(store: Store) -> splits.Split:
    """Who trains, validates and is held out, of seed 0."""
    table = splits.find_table(store, None)
    return splits.split(table, [0, 1, 2], [3, 4], share=0.25, seed=0)


def of_others(store: Store, name: str) -> Checkpoint:
    """Somebody's encoder, of windows of three epochs."""
    if name != "another":
        raise UserError(f"{name}: its weights are not here")
    eeg = store.channels[0]
    state = models.build("chambon2018", fs=eeg.fs).state_dict()
    channels = ((eeg.label, eeg.role),)
    return Checkpoint(Path(name), "chambon2018", {"fs": eeg.fs}, channels, eeg.fs, "night", state)


@pytest.fixture(autouse=True, scope="module")
def published(dreem_cohort) -> Iterator[None]:
    """Weights of one published encoder, from nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        others = partial(of_others, dreem_cohort[1])
        patch.setattr(pretraining_study.catalogue, "published_checkpoint", others)
        yield


@pytest.fixture(scope="module")
def study(dreem_cohort, tmp_path_factory) -> tuple[Path, list[str]]:
    """Curves and table of a tiny grid on five subjects; folder and command."""
    folder = tmp_path_factory.mktemp("study")
    grid = folder / "grid.json"
    grid.write_text(json.dumps(GRID | {"published": ["another"]}))
    words = ["--table", "pretraining", "--grid", str(grid), "--project_path", str(folder / "out")]
    words += ["--data_path", str(dreem_cohort[1].path), "--fold_list", "3,4", "--device", "cpu"]
    words += ["--flags", "--accelerator cpu --logger csv"]
    read = []

    class View(train.View):
        def __init__(self, store, recordings, **how) -> None:
            read.append(len(recordings))
            super().__init__(store, recordings, **how)

    opened, night = set(), Store.night

    def opening(self, recording):
        opened.add(recording)
        return night(self, recording)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_study, "run_cells", in_process)
        patch.setattr(train, "View", View)
        patch.setattr(Store, "night", opening)
        reproduce_tables.main(words)
    known = split_of(dreem_cohort[1])
    kept = dreem_cohort[1].of_subjects([*known.train, *known.validation])
    assert opened == set(kept)  # without --final no held-out night is so much as opened
    # nights that train and that validate, of both trainings, that of more nights first
    assert read == [2, 1, 1, 1]
    return folder / "out", words


def test_curves_are_of_validation_subjects_and_the_table_of_held_out_ones(
    study, dreem_cohort, monkeypatch
):
    folder, words = study
    monkeypatch.setattr(pretraining_study, "run_cells", in_process)
    store = dreem_cohort[1]
    known = split_of(store)
    assert (len(known.train), len(known.validation), len(known.held_out)) == (2, 1, 2)
    no_pictures(monkeypatch)
    before = (folder / CURVES).read_bytes()
    rows = Rows(folder / "pretraining.csv")
    assert {cell.part for cell in rows.probed} == {CURVE}
    assert {s for one in rows.probed.values() for s in one.subjects} == set(known.validation)
    # steps 1 and 2 with both budgets, one night with both, and four controls
    assert len(rows.cells(objective="contrastive")) == 6 and len(rows.probed) == 14
    assert len(rows.cells(objective="published: another", encoder="", steps=0)) == 2
    assert {metric for _, metric in rows.measured} >= {"rank_me", "uniformity", "lidar"}
    assert "Not read yet" in (folder / "pretraining.md").read_text()
    # what controls are of is kept, for encoders that are trained later
    read = json.loads((folder / "pretraining.json").read_text())["read"]
    assert [one["encoder"] for one in read.values()] == list(read) == ["chambon2018"]

    reproduce_tables.main([*words, "--final"])
    rows = Rows(folder / "pretraining.csv")
    final = {cell: rows.probed[cell] for cell in rows.cells(part=TABLE)}
    assert {s for one in final.values() for s in one.subjects} == set(known.held_out)
    assert len(final) == 10 and len(rows.probed) == 24
    assert (folder / CURVES).read_bytes() == before
    scored = sum(int((store.night(n).stages >= 0).sum()) for n in store.of_subjects(known.held_out))
    for cell, one in final.items():
        assert one.counts.sum() == one.draws * scored, cell


def no_pictures(patch) -> None:
    """Pictures of the fixture's curves are drawn; again and again they would take a second each."""
    patch.setattr(study_page.figures, "save", lambda figure, path, **how: path)


def test_the_same_command_again_makes_what_is_lacking_alone(study, monkeypatch):
    folder, words = study
    no_pictures(monkeypatch)
    monkeypatch.setattr(pretraining_study, "run_cells", lambda cells, *_, **how: cells and 1 / 0)
    names = (CURVES, "pretraining_metrics.csv", "pretraining_steps.csv")
    before = [(folder / name).read_bytes() for name in names]
    with monkeypatch.context() as patch:
        patch.setattr(pretraining_study, "probe", None)
        reproduce_tables.main(words)
    assert [(folder / name).read_bytes() for name in names] == before
    lost = without_a_cell(folder / CURVES, folder / CURVES)
    reproduce_tables.main([*words, "--overwrite"])
    again = Rows(folder / "pretraining.csv")
    assert len(again.probed[lost].subjects) == 1
    # all but what a clock decides is as it was
    assert timeless(folder / CURVES) == timeless(before[0])


def without_a_cell(path: Path, target: Path) -> Cell:
    """Write a table without the one row of the last steps' first cell, which is returned."""
    lost = Rows(path.with_name("pretraining.csv")).cells(
        objective="contrastive", part=CURVE, steps=2
    )[0]
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not is_of(line, lost)]
    assert len(kept) == len(lines) - 1  # the one validation subject
    target.write_text("".join(kept))
    return lost


def timeless(table: Path | bytes) -> list[str]:
    text = table.read_text() if isinstance(table, Path) else table.decode()
    return [re.sub(r",[0-9.]+,(\d+),([0-9 ]+)$", r",\1,\2", line) for line in text.splitlines()]


@pytest.mark.slow
def test_on_a_fresh_checkout_one_training_is_run_again(study, tmp_path, monkeypatch):
    """Of the committed files, without the runs, and with a cell lost."""
    folder, words = study
    no_pictures(monkeypatch)
    out, trained = tmp_path / "out", []
    out.mkdir()
    for name in ("pretraining_metrics.csv", "pretraining.json"):
        (out / name).write_bytes((folder / name).read_bytes())
    without_a_cell(folder / CURVES, out / CURVES)

    def run_cells(cells, *given, **how):
        trained.extend(cell.name for cell in cells)
        in_process(cells, *given, **how)

    monkeypatch.setattr(pretraining_study, "run_cells", run_cells)
    words = [*words, "--project_path", str(out)]
    with pytest.raises(UserError, match="--overwrite"):
        reproduce_tables.main(words)
    reproduce_tables.main([*words, "--overwrite"])
    assert len(trained) == 1
    assert timeless(out / CURVES) == timeless(folder / CURVES)


def is_of(line: str, cell: Cell) -> bool:
    return line.startswith(
        f"{cell.store},{cell.part},{cell.objective},{cell.setting},{cell.encoder},{cell.seed},"
        f"{cell.steps},{cell.nights},{cell.budget},"
    )


def test_another_way_of_making_rows_is_refused(study, tmp_path, monkeypatch):
    folder, words = study
    monkeypatch.setattr(pretraining_study, "make", None)  # before anything is trained or probed
    grid = tmp_path / "grid.json"
    changed = {"contrastive": {"plain": "--objective contrastive --temperature 0.2"}}
    for other, message in (
        (GRID | {"steps": [1, 3]}, "of another steps; choose another --project_path"),
        (GRID | {"objectives": changed}, "of another contrastive: plain"),
        (GRID | {"objectives": {"a": {"b": "--seed 3"}}}, "b: the study sets --seed"),
        (GRID | {"depth": 3}, "nothing reads depth"),
        (GRID | {"published": ["lost"]}, "lost: its weights are not here"),
        (GRID | {"objectives": {"published: a": {"b": ""}}}, "published: a is a control"),
        (GRID | {"table": [2]}, "table is part of budgets"),
        (GRID | {"pairs": [["contrastive", "luck"]]}, "no objective or control 'luck'"),
    ):
        grid.write_text(json.dumps(other))
        with pytest.raises(UserError, match=message):
            reproduce_tables.main([*words, "--grid", str(grid)])
    with pytest.raises(UserError, match="--final: of --table pretraining"):
        reproduce_tables.parse_args(["--final"])
    with pytest.raises(UserError, match="--band_table: reads held-out subjects; add --final"):
        reproduce_tables.parse_args([*words, "--band_table", "table.npz"])
    grid.write_text(json.dumps(GRID | {"published": ["lost"]}))
    with pytest.raises(UserError, match="lost: its weights are not here"):
        reproduce_tables.main(
            [*words, "--grid", str(grid), "--project_path", str(tmp_path / "new")]
        )
    assert not list((tmp_path / "new").rglob("pretraining*"))  # nothing half-written
    (tmp_path / CURVES).write_bytes((folder / CURVES).read_bytes())
    with pytest.raises(UserError, match=r"pretraining.json: missing, so nobody knows what"):
        reproduce_tables.main([*words, "--project_path", str(tmp_path), "--overwrite"])


# from a table made by hand ----------------------------------------------------------------------


def test_differences_and_ahead_are_what_they_are_by_hand(tmp_path):
    rights = {RANDOM: [5, 7], POWERS: [6, 8], "masked": [7, 9], "contrastive": [5, 9]}
    rights |= {"published: other": [9, 9]}
    rows = rows_of(tmp_path / "pretraining.csv", rights)
    masked, contrastive = Space("masked", "cnn"), Space("contrastive", "cnn")
    random, powers = Space(RANDOM, "cnn"), Space(POWERS, "")
    by = {
        one: [difference(rows, STORE, (one, control), "1", [0, 1]) for control in (random, powers)]
        for one in (masked, contrastive)
    }
    # F1 of a stage is the share that is right, here: .8 - .6, .8 - .7, .7 - .6, .7 - .7
    values = [[round(known["value"], 9) for known in each] for each in by.values()]
    assert values == [[0.2, 0.1], [0.1, 0.0]]
    # every subject gains .2 and .1: the interval is a point; contrast's subjects gain 0 or .2
    assert [by[masked][0][end] for end in ("low", "high")] == pytest.approx([0.2, 0.2])
    assert is_ahead(by[masked]) and not is_ahead(by[contrastive])
    assert sign_of(by[contrastive][0]) == 1 and sign_of(by[contrastive][1]) == 0
    assert sign_of(difference(rows, STORE, (random, powers), "1", [0])) == -1

    page = text_of(rows, tmp_path)
    assert "| masked, cnn | 1 labelled subject | 0.200 [0.200, 0.200] (BCa, 12 subjects)" in page
    assert page.count("**ahead**") == 1
    table = page.partition("## Held-out subjects")[2]
    first = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][2:]
    assert first[:5] == [
        "| random encoder, cnn",
        "| band powers",
        "| published: other, cnn",
        "| contrastive, cnn",
        "| masked, cnn",
    ]
    assert "rankings whose interval lies beside 0" in page and "disagree" not in page


def test_of_few_subjects_nothing_is_claimed(tmp_path):
    rights = {RANDOM: [5, 7], POWERS: [6, 8], "masked": [7, 9]}
    rows = rows_of(tmp_path / "pretraining.csv", rights, n=9)
    known = difference(rows, STORE, (Space("masked", "cnn"), Space(POWERS, "")), "1", [0, 1])
    assert known["low"] > 0 and not is_ahead([known])
    assert "ahead**" not in text_of(rows, tmp_path)


def test_seeds_that_disagree_are_listed(tmp_path):
    rows = rows_of(tmp_path / "a.csv", {RANDOM: [5, 7], "masked": [7, 9]}, seeds=(0,))
    other = rows_of(tmp_path / "b.csv", {RANDOM: [7, 9], "masked": [5, 7]}, seeds=(1,))
    for cell, probed in other.probed.items():
        rows.add(cell, probed)
    spaces = [Space(RANDOM, "cnn"), Space("masked", "cnn")]
    (ranked,) = rankings(rows, STORE, spaces, ["1"], [0, 1])
    assert not ranked["agree"]
    assert [round(one["value"], 9) for one in ranked["differences"].values()] == [-0.2, 0.2]
    assert "**disagree**" in text_of(rows, tmp_path)


def text_of(rows: Rows, folder: Path) -> str:
    path = folder / "grid.json"
    path.write_text(json.dumps(GRID | {"table": [1], "pairs": []}))
    return study_page.write(rows, STORE, read_grid(path), "By hand.\n", overwrite=None).read_text()


def test_no_curve_has_the_colour_of_another_or_of_a_control():
    """Was: nine lines of seven colours, contrast in that of its random encoder."""
    point = {"panel": "", "y": 0.5, "low": None, "high": None, "samples": 1, "minutes": 1.0}
    curves, controls = [f"objective {k}" for k in range(6)], [RANDOM, POWERS, "supervised"]
    about = [(name, name in controls) for name in sorted([*curves, *controls])]
    points = [
        point | {"name": name, "is_control": is_control, "x": None if is_control else x, "tick": x}
        for name, is_control in about
        for x in (10, 20)
    ]
    drawn = study_figures.draw_curves(points, "steps", title="")
    lines = {line.get_label(): line for line in drawn.axes[0].get_lines()}
    colours = {lines[name].get_color() for name in curves}
    assert len(colours) == len(curves) and GREY not in colours
    assert {lines[name].get_color() for name in controls} == {GREY}


def test_label_free_metrics_are_correlated_over_checkpoints(tmp_path):
    rows = Rows(tmp_path / "pretraining.csv")
    for k in range(8):
        cell = Cell(STORE, CURVE, "masked", "", "cnn", 0, 10 * (k + 1), 9, "1")
        counts = np.stack([counts_of(2 + k, 8 - k)] * 2)
        rows.add(cell, Probed(("a", "b"), counts, 1, 1.0, 1))
        rows.measure(replace(cell, budget=""), {"rank_me": 5.0 + k, "uniformity": -1.0 - k})
    by = {one["metric"]: one for one in correlated(Rows(rows.path), STORE, "1")}
    assert (by["rank_me"]["spearman"], by["rank_me"]["runs"]) == (1.0, 8)
    assert by["uniformity"]["spearman"] == -1.0 and by["uniformity"]["high"] < 0


def test_damaged_tables_are_one_line(tmp_path):
    rows = rows_of(tmp_path / "pretraining.csv", {RANDOM: [5]}, n=2, seeds=(0,))
    text = rows.path.read_text()
    line = text.splitlines()[1]
    for wrong, message in (
        (text + line + "\n", "a subject has two rows"),
        (text.replace("subject", "person", 1), "not a table of this study"),
        (text.replace(",s01,", ",s01,x,", 1), "not a table of this study"),
        (text.replace("5 0 0 0 0 0", "5 0 0 0 0 -3", 1), "are not 25 numbers"),
        (text.replace(",table,", ",curve,"), "rows of 'curve' do not belong here"),
    ):
        bad = tmp_path / "bad.csv"
        bad.write_text(wrong)
        with pytest.raises(UserError, match=message):
            Rows(bad)


# sequences of band powers -----------------------------------------------------------------------


def test_hidden_epochs_read_as_gaps_and_have_the_loss_alone(tmp_path):
    table = made_up_table(tmp_path / "table.npz")
    source = band_context.sequences_of(table, 0).source(table.nights)
    batch = padded([(source, k) for k in range(6)], 3, torch.device("cpu"))
    objective, shown = MaskedBands(), {}

    class Exact:
        """Knows everything but shifts what it predicts of shown epochs."""

        def relative(self, db):
            shown["features"] = untrained(ContextTraining(), 0).relative(db)
            return shown["features"]

        def __call__(self, features, lengths):
            hidden = (features[..., -1] == 1) & (shown["features"][..., -1] == 0)
            shown["hidden"] = hidden
            assert (features[hidden][:, :-1] == 0).all()
            return shown["features"][..., :-1] + 5.0 * ~hidden[..., None]

    loss, _ = objective(Exact(), batch)
    assert float(loss) == 0
    recorded = shown["features"][..., -1] == 0
    assert 0.3 < float((shown["hidden"] & recorded).sum() / recorded.sum()) < 0.7
    share = objective.hidden(50, 1000, Draws(0, torch.device("cpu"))).float().mean()
    assert abs(float(share) - 0.5) < 0.05
    features = shown["features"]
    none = without(features, shown["hidden"] & False)
    assert bool((none == features).all())


def nights_of(kind: str, n: int, seed: int) -> BandSource:
    """Nights of 200 epochs whose powers rise and fall once, or are noise: 10 dB in both."""
    rng, time = np.random.default_rng(seed), np.arange(200)[:, None, None]
    nights = []
    for k in range(n):
        wave = np.sqrt(2) * np.sin(2 * np.pi * (time / 200 + rng.uniform(size=(1, 1, 5))))
        db = 10 * (wave if kind == "slow" else rng.normal(size=(200, 1, 5)))
        nights.append(BandNight(f"n{k}", f"s{k}", db.astype(np.float32), np.zeros(200, np.int8)))
    return BandSource(tuple(nights), (False,))


@pytest.mark.parametrize(("kind", "low", "high"), [("slow", 0.0, 0.5), ("noise", 0.95, 1.2)])
def test_masked_prediction_learns_what_the_rest_of_a_night_tells(kind, low, high):
    """Of nights that it has not seen, beside the mean: most of waves, nothing of noise."""
    how = ContextTraining(hidden=32, layers=1, steps=100, batch_size=4)
    source, objective = nights_of(kind, 12, 0), MaskedBands()
    unseen = [(nights_of(kind, 4, 1), k) for k in range(4)]
    batches = [padded(unseen, seed, torch.device("cpu")) for seed in range(4)]

    def nothing(features, lengths):
        return torch.zeros_like(features[..., :-1])

    torch.manual_seed(0)
    predictor = context_training.Predictor(untrained(how, 0), how.hidden)
    nothing.relative = predictor.relative
    context_training.fit(predictor, objective, source, how, 0, lambda step: None)
    with torch.no_grad():
        loss, of_nothing = (
            sum(float(objective(model, batch)[0]) for batch in batches)
            for model in (predictor.eval(), nothing)
        )
    assert low <= loss / of_nothing < high
    one, other = (pretrained(replace(how, steps=2), source, 0).parameters() for _ in range(2))
    assert all(map(torch.equal, one, other))


def test_rows_of_sequences_are_of_subjects_held_out_with_all_their_nights(tmp_path):
    path = tmp_path / "table.npz"
    table = made_up_table(path, n_subjects=12)
    grid_path = tmp_path / "grid.json"
    grid_path.write_text(json.dumps(GRID))
    grid, rows = read_grid(grid_path), Rows(tmp_path / "pretraining.csv")
    how = ContextTraining(hidden=4, layers=1, steps=2, batch_size=2)
    band_context.run(path, [0], grid, rows, how)
    nights = band_context.sequences_of(table, 0)
    parts = [{night.subject for night in some} for some in nights.splits.values()]
    assert sum(map(len, parts)) == 12 and not set.intersection(*parts)
    assert {s for one in rows.probed.values() for s in one.subjects} == parts[2]
    assert len(rows.probed) == 4 * 2
    n = len(rows.probed)
    band_context.run(path, [0], grid, rows, how)  # nothing is lacking
    assert len(rows.probed) == n
    assert "masked band powers less powers themselves" in text_of(rows, tmp_path)
