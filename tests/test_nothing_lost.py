"""Nothing of the user's is ever lost: what destroyed files before, tried again with each script."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bands_evaluate
import bands_training
import bundle_weights
import compare_candidates
import convert_checkpoint
import generate_demo_data
import predict
import preprocess_dreem
import preprocess_nsrr
import preprocess_ucddb
import reproduce_tables
import staging_evaluate
import tune
from benchmarks import fit_real_nights, same_results
from datasets.store.store import Store
from tests.band_nights import made_up_table
from tests.conftest import prepare
from tests.edf_files import write_pair, write_psg
from tests.test_convert_checkpoint import chambon_state
from tests.test_training import TINY, train
from utils import manifest
from utils.checkpoint import load_tensors, save_checkpoint
from utils.errors import UserError, run_script
from utils.files import is_ours, locked, write_json, write_text, written_folder
from utils.runs import Run
from utils.stages import MADE_BY_A_MODEL

ROOT = Path(__file__).parents[1]
EEG = {"EEG Fpz-Cz": 100}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; lists of what is ours aside."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != manifest.NAME
    }


def refused(main, *words, match: str = "", keeps: Path | None = None) -> None:
    """The script refuses, in one line, and the folder keeps every byte."""
    before = content(keeps) if keeps else {}
    with pytest.raises(UserError, match=match) as error:
        main([str(word) for word in words])
    assert "\n" not in str(error.value)
    if keeps:
        assert content(keeps) == before


def night(path: Path, n_epochs: int = 2) -> Path:
    """A small recording with one EEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_psg(path, n_epochs, EEG)
    return path


def stage(edf, output, *more) -> None:
    """``predict.py`` with the bundled model, without reasons."""
    outputs = output if isinstance(output, list) else [output]
    words = ["--edf", edf, "--is_interpret", "False", *more, "-o", *outputs]
    predict.main([str(word) for word in words])


# predict.py


def test_the_folder_of_a_recording_is_not_replaced(tmp_path):
    """Was: ``--edf X/night/night.edf -o X`` replaced the folder with the recording, exit 0."""
    edf = night(tmp_path / "X" / "night" / "night.edf")
    (edf.parent / "notes.txt").write_text("mine")
    words = ["--edf", edf, "-o", tmp_path / "X"]
    refused(predict.main, *words, match="holds an input of this command", keeps=tmp_path)
    other = night(tmp_path / "other" / "night.edf")
    refused(
        predict.main,
        "--edf",
        other,
        "-o",
        tmp_path / "X",
        match="holds night.edf, which this",
        keeps=tmp_path,
    )


def test_a_file_is_no_folder_of_results(tmp_path):
    edf = night(tmp_path / "night.edf")
    (tmp_path / "out").write_text("mine")
    words = ["--edf", edf, "-o", tmp_path / "out"]
    refused(predict.main, *words, match="out: is a file; name a folder", keeps=tmp_path)


@pytest.mark.parametrize("output", ["night.edf", "NIGHT.edf", "link/night.edf", "{}.edf"])
def test_a_recording_is_not_replaced_by_its_stages(tmp_path, output):
    """Was: ``-o night.edf`` and ``-o 'nights/{}.edf' --again`` left hypnograms of 540 bytes."""
    night(tmp_path / "nights" / "night.edf")
    night(tmp_path / "nights" / "another.edf")
    (tmp_path / "nights" / "link").symlink_to(tmp_path / "nights")
    edf = tmp_path / "nights" / ("" if "{}" in output else "night.edf")
    for more in ([], ["--again"], ["--overwrite"]):
        words = ["--edf", edf, "-o", tmp_path / "nights" / output, *more]
        refused(predict.main, *words, match="is an input of this command", keeps=tmp_path)


@pytest.mark.parametrize("name", ["...edf", "..rec", "....bdf", "...h5"])
def test_a_recording_called_dots_never_leads_elsewhere(tmp_path, name, capsys):
    """Was: the parent of the output folder was deleted."""
    (tmp_path / "out" / "kept.txt").parent.mkdir()
    (tmp_path / "out" / "kept.txt").write_text("mine")
    nights = tmp_path / "nights"
    shutil.copy(night(tmp_path / "source.edf"), night(nights / "a.edf").with_name(name))
    with pytest.raises(SystemExit) as end:
        stage(nights, tmp_path / "out")
    assert (
        end.value.code == 1
        and "cannot be the name of results; rename it" in capsys.readouterr().out
    )
    assert (tmp_path / "out" / "kept.txt").exists() and (tmp_path / "out" / "a" / "a.csv").exists()
    for output in (tmp_path / "out", tmp_path / "{}.csv"):
        refused(
            predict.main, "--edf", nights / name, "-o", output, match="rename it", keeps=tmp_path
        )


def test_an_experts_file_is_not_written_over(tmp_path):
    """Was: ``--expert my.csv -o my.csv`` and ``--expert out/night/night.csv -o out`` took edits."""
    edf = night(tmp_path / "night.edf")
    mine = tmp_path / "my.csv"
    mine.write_text("stage\nW\nN1\n")
    for more in ([], ["--overwrite"]):
        words = ["--edf", edf, "--expert", mine, "-o", mine, *more]
        refused(predict.main, *words, match="is an input", keeps=tmp_path)
    stage(edf, tmp_path / "out")
    edited = tmp_path / "out" / "night" / "night.csv"
    edited.write_text(edited.read_text().replace("W", "N1"))
    words = ["--edf", edf, "--expert", edited, "-o", tmp_path / "out"]
    refused(predict.main, *words, match="holds an input", keeps=tmp_path)
    words = ["--edf", edf, "-o", tmp_path / "out", "--again"]
    refused(predict.main, *words, match="holds night.csv.*changed since", keeps=tmp_path)
    # nor one that lies beside the recording, nor with leave to overwrite
    beside = tmp_path / "night-Hypnogram.edf"
    stage(edf, tmp_path / "b" / "x.edf")
    shutil.copy(tmp_path / "b" / "x.edf", beside)
    beside.write_bytes(
        beside.read_bytes().replace(MADE_BY_A_MODEL.encode(), MADE_BY_A_MODEL[::-1].encode())
    )
    for more in ([], ["--overwrite"]):
        words = ["--edf", edf, "-o", tmp_path / "{}-Hypnogram.edf", *more]
        refused(predict.main, *words, match="is an input", keeps=tmp_path)


def test_single_files_are_replaced_while_they_are_ours(tmp_path):
    edf = night(tmp_path / "night.edf")
    target = tmp_path / "out" / "a.csv"
    target.parent.mkdir()
    target.write_text("mine")
    refused(predict.main, "--edf", edf, "-o", target, match="add --overwrite", keeps=tmp_path)
    pattern = tmp_path / "out" / "{}.csv"
    target.rename(tmp_path / "out" / "night.csv")  # and what is there does not count as staged
    refused(predict.main, "--edf", edf, "-o", pattern, match="add --overwrite", keeps=tmp_path)
    (tmp_path / "out" / "night.csv").rename(target)
    stage(edf, target, "--overwrite")
    written = target.read_bytes()
    stage(edf, target)
    assert target.read_bytes() == written and is_ours(target)
    target.write_bytes(written + b"\n")
    refused(predict.main, "--edf", edf, "-o", target, match="changed since", keeps=tmp_path)


def test_statistics_and_the_sidecar_of_events_do_not_meet(tmp_path):
    """Was: ``-o a.json a.tsv`` left the sidecar in the place of the statistics."""
    edf = night(tmp_path / "night.edf")
    names = [tmp_path / "a.json", tmp_path / "a.tsv"]
    stage(edf, names)
    assert "TST" in json.loads(names[0].read_text())
    assert "trial_type" in json.loads((tmp_path / "a_columns.json").read_text())
    stage(edf, names[1])  # later, and alone
    assert "TST" in json.loads(names[0].read_text())
    (tmp_path / "b.json").write_text("{}")
    stage(edf, tmp_path / "b.tsv")
    assert (tmp_path / "b.json").read_text() == "{}" and (tmp_path / "b_columns.json").exists()
    words = ["--edf", edf, "-o", tmp_path / "c.csv", tmp_path / "C.csv"]
    refused(predict.main, *words, match="written twice", keeps=tmp_path)


def test_a_strangers_summary_is_kept_and_ours_gathers_runs(tmp_path):
    first, second = night(tmp_path / "1.edf"), night(tmp_path / "2.edf")
    summary = tmp_path / "out" / "summary.csv"
    summary.parent.mkdir()
    summary.write_text("mine")
    words = ["--edf", first, "-o", tmp_path / "out"]
    refused(predict.main, *words, match="summary.csv: is there already", keeps=tmp_path)
    summary.unlink()
    for file in (first, second, first):
        stage(file, tmp_path / "out")
    with summary.open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["1.edf", "2.edf"]


def test_two_processes_stage_into_one_folder(tmp_path):
    """Was: the second swept away what the first had half made; one of them failed."""
    for name in ("a", "ab", "b"):
        night(tmp_path / "nights" / f"{name}.edf", 20)
    words = [sys.executable, "predict.py", "--is_interpret", "False", "-o", tmp_path / "out"]
    started = [
        subprocess.Popen(
            [*words, "--edf", tmp_path / "nights" / f"*{name}*.edf"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("a", "b")
    ]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    with (tmp_path / "out" / "summary.csv").open() as file:
        assert sorted(row["file"] for row in csv.DictReader(file)) == ["a.edf", "ab.edf", "b.edf"]
    for name in ("a", "ab", "b"):
        assert (tmp_path / "out" / name / f"{name}.html").exists()
    assert not [p for p in tmp_path.rglob(".*") if p.name != manifest.NAME]


# preparation


@pytest.fixture
def raw_below_nights(tmp_path) -> Path:
    """Recordings in a folder that a store has as well."""
    write_pair(tmp_path / "R" / "nights", [("W", 3), ("2", 4)], 7)
    (tmp_path / "R" / "nights" / "SC4001E0").mkdir()
    (tmp_path / "R" / "nights" / "SC4001E0" / "notes.txt").write_text("mine")
    return tmp_path / "R"


def test_a_store_inside_its_raw_data_is_refused(raw_below_nights, tmp_path):
    """Was: raw recordings below ``R/nights`` were deleted."""
    (tmp_path / "link").symlink_to(raw_below_nights)
    for save in (raw_below_nights, tmp_path / "link", raw_below_nights / "nights"):
        with pytest.raises(UserError, match="holds an input of this command"):
            prepare(raw_below_nights, save)
    prepare(raw_below_nights, raw_below_nights / "apart")  # beside the recordings it harms nobody
    assert (raw_below_nights / "nights" / "SC4001E0" / "notes.txt").exists()
    assert len(list(raw_below_nights.rglob("*.edf"))) == 2


def test_other_preparations_refuse_the_same(dreem_raw, tmp_path):
    night(tmp_path / "u" / "nights" / "ucddb002.rec")
    (tmp_path / "u" / "nights" / "ucddb002_stage.txt").write_text("0\n1\n")
    (tmp_path / "d" / "nights").mkdir(parents=True)
    shutil.copy(next(dreem_raw.glob("*.h5")), tmp_path / "d" / "nights" / "x.h5")
    night(tmp_path / "n" / "nights" / "shhs1-200001.edf")
    for script, folder, more in (
        (preprocess_ucddb, "u", []),
        (preprocess_dreem, "d", []),
        (preprocess_nsrr, "n", ["--unlabelled", "keep", "--roles", "EEG"]),
    ):
        words = ["--raw_path", tmp_path / folder, "--save_path", tmp_path / folder, *more]
        refused(script.main, *words, match="holds an input of this command", keeps=tmp_path)


def test_recordings_called_dots_are_refused_by_preparations(tmp_path):
    """Was: ``...h5`` and ``...rec`` deleted the parent of the store's nights."""
    store = tmp_path / "s" / "store"
    store.mkdir(parents=True)
    (store / "kept.txt").write_text("mine")
    source = night(tmp_path / "u" / "a.rec")
    shutil.copy(source, tmp_path / "u" / "...rec")
    for name in ("a", "..", "."):
        (tmp_path / "u" / f"{name}_stage.txt").write_text("0\n1\n")
    words = ["--raw_path", tmp_path / "u", "--save_path", store, "--jobs", "1"]
    refused(preprocess_ucddb.main, *words, match=r"\.\.\.rec.*rename it", keeps=tmp_path)


def test_dreem_records_called_dots_are_refused(dreem_raw, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(next(dreem_raw.glob("*.h5")), raw / "...h5")
    words = ["--raw_path", raw, "--save_path", tmp_path / "s", "--jobs", "1"]
    refused(preprocess_dreem.main, *words, match=r"\.\.\.h5.*rename it", keeps=tmp_path)


def test_edited_parts_of_a_store_are_kept(raw, tmp_path):
    store = tmp_path / "s"
    prepare(raw, store)
    table = store / "folds" / "kfold-3-0.json"
    edited = table.read_text().replace("SC400", "SC401", 1)
    table.write_text(edited)
    with pytest.raises(UserError, match=r"kfold-3-0\.json: is there already.*changed since"):
        prepare(raw, store)
    assert table.read_text() == edited
    table.unlink()
    (store / "folds" / "mine.json").write_text("{}")
    prepare(raw, store)
    assert (store / "folds" / "mine.json").read_text() == "{}"
    (store / "nights" / "SC4001E0" / "notes.txt").write_text("mine")
    prepare(raw, store)  # nothing of that night is to be replaced
    facts = json.loads((store / "nights" / "SC4001E0" / "night.json").read_text())
    for source in facts["sources"].values():
        source["sha256"] = "of another file"
    (store / "nights" / "SC4001E0" / "night.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"SC4001E0: holds night\.json"):
        prepare(raw, store)
    assert (store / "nights" / "SC4001E0" / "notes.txt").exists()


def without_lists(folder: Path) -> None:
    """As if it were from before there were lists of what is ours, and vector figures."""
    for pattern in (manifest.NAME, "*.pdf"):
        for path in folder.rglob(pattern):
            path.unlink()


def test_stores_from_before_are_known_by_their_description(tmp_path):
    write_pair(tmp_path / "raw", [("W", 3), ("2", 4), ("W", 3)], 10)
    prepare(tmp_path / "raw", tmp_path / "s")
    without_lists(tmp_path / "s")
    hypnogram = next((tmp_path / "raw").glob("*Hypnogram*"))
    hypnogram.write_bytes(hypnogram.read_bytes().replace(b"Sleep stage 2", b"Sleep stage R"))
    (tmp_path / "s" / "nights" / "SC4001E0" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        prepare(tmp_path / "raw", tmp_path / "s")
    (tmp_path / "s" / "nights" / "SC4001E0" / "notes.txt").unlink()
    prepare(tmp_path / "raw", tmp_path / "s")
    assert Store(tmp_path / "s").recordings["SC4001E0"]["REM"] == "4"
    (tmp_path / "t" / "nights" / "SC4001E0").mkdir(parents=True)  # and what is no store is not
    (tmp_path / "t" / "nights" / "SC4001E0" / "night.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds night\.json"):
        prepare(tmp_path / "raw", tmp_path / "t")


def test_a_store_whose_table_leads_elsewhere_is_refused(store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    table = copy / "recordings.csv"
    table.write_text(table.read_text().replace("SC4001E0,", "../../../x,", 1))
    with pytest.raises(UserError, match="cannot be the name of results"):
        Store(copy)


def test_generated_nights_replace_no_edited_ones(tmp_path):
    words = ["--profile", "tiny", "--hours", "0.3", "--jobs", "1", "--output", str(tmp_path / "x")]
    generate_demo_data.main(words)
    generate_demo_data.main([*words, "--seed", "1"])
    without_lists(tmp_path / "x")
    generate_demo_data.main(words)
    hypnogram = next((tmp_path / "x").glob("*Hypnogram*"))
    hypnogram.write_bytes(hypnogram.read_bytes().replace(b"Sleep stage W", b"Sleep stage R", 1))
    refused(generate_demo_data.main, *words, match="changed since", keeps=tmp_path)


# training, evaluation and what follows


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory) -> Path:
    """The folder of one small run."""
    return train(store, tmp_path_factory.mktemp("trained"), "--n_epochs", "1")


@pytest.fixture
def run_folder(trained, tmp_path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / trained.name)
    return tmp_path / trained.name


def test_training_keeps_what_is_not_its_own(store, run_folder):
    project = run_folder.parent
    copy, notes = run_folder / "checkpoints" / "my_best.pt", run_folder / "notes.txt"
    shutil.copy(run_folder / "checkpoints" / "best.pt", copy)
    notes.write_text("mine")
    train(store, project, "--n_epochs", "1", "--resume", "False")
    assert copy.exists() and notes.exists()
    best = run_folder / "checkpoints" / "best.pt"
    best.write_bytes(copy.read_bytes() + b"edited")
    for more in ([], ["--resume", "False"]):
        before = content(project)
        with pytest.raises(UserError, match=r"best\.pt: is there already.*changed since"):
            train(store, project, "--n_epochs", "2", *more)
        assert content(project) == before


def test_results_of_former_weights_do_not_stay_beside_new_ones(store, run_folder):
    """Was: evaluation, explanations and embeddings of a run that ``--resume False`` deleted."""
    evaluation = run_folder / "evaluation"
    with written_folder(evaluation, "evaluation") as folder:
        write_json(folder / "metrics.json", {})
        write_json(folder / "nights" / "a.json", {})
    shutil.copytree(evaluation, run_folder / "evaluation_other")
    notes = run_folder / "evaluation_other" / "nights" / "notes.txt"
    notes.write_text("mine")
    for name in ("interpretations/index.json", "embeddings/train.json", "encoded/a/b.json"):
        write_json(run_folder / name, {})
    write_json(run_folder / "cohorts.csv", {})
    train(store, run_folder.parent, "--n_epochs", "2")  # resumed: they stay
    assert (evaluation / "metrics.json").exists()
    train(store, run_folder.parent, "--n_epochs", "1", "--resume", "False")
    left = {path for path in run_folder.iterdir() if not path.name.startswith(".")}
    own = ["checkpoints", "curve.pdf", "curve.png", "metrics.csv", "metrics.jsonl", "run.json"]
    assert {path.name for path in left} == {*own, "evaluation_other"}
    files = (run_folder / "evaluation_other").rglob("*")
    assert [p for p in files if p.is_file() and not p.name.startswith(".")] == [notes]


def test_training_does_not_replace_the_weights_it_starts_from(store, run_folder):
    best = run_folder / "checkpoints" / "best.pt"
    before = content(run_folder)
    with pytest.raises(UserError, match="holds an input of this command"):
        train(store, run_folder.parent, "--model_path", str(best), "--resume", "False")
    assert content(run_folder) == before


def test_runs_from_before_are_known_by_their_record(store, run_folder):
    without_lists(run_folder)
    train(store, run_folder.parent, "--n_epochs", "2")
    assert len(Run(run_folder).rows()) == 2
    without_lists(run_folder)
    train(store, run_folder.parent, "--n_epochs", "1", "--resume", "False")
    (run_folder / "run.json").unlink()
    without_lists(run_folder)
    with pytest.raises(UserError, match="did not write it"):  # nobody knows whose these are
        train(store, run_folder.parent, "--n_epochs", "1", "--resume", "False")


def test_leftovers_of_a_killed_training_are_swept(store, run_folder):
    """Was: ``.last.pt.*.unfinished`` and ``.curve.png.*.unfinished`` stayed for ever."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftovers = [
        run_folder / "checkpoints" / f".last.pt.{dead.pid}.unfinished",
        run_folder / f".curve.png.{dead.pid}.unfinished",
        run_folder / "checkpoints" / ".pass_007.pt.staging-unfinished",
        run_folder / "evaluation" / "x" / ".x.png.staging-unfinished",
    ]
    leftovers[-1].parent.mkdir(parents=True)
    for path in leftovers:
        path.write_text("half")
    train(store, run_folder.parent, "--n_epochs", "2")
    assert not [path for path in leftovers if path.exists()]


def test_the_same_training_twice_at_once(store, tmp_path):
    """Was: both wrote into it. One stops in a line that names the other, which ends."""
    words = ["--data_path", str(store.path), "--project_path", str(tmp_path), *TINY]
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport cmt_training\n"
        "from utils import errors, runs\nimport time\n"
        "log = runs.Run.log\n"
        "runs.Run.log = lambda *row: (log(*row), time.sleep(1))\n"  # the second comes meanwhile
        f"main = lambda: cmt_training.main({[*words, '--n_epochs', '3']!r})\n"
        "raise SystemExit(errors.run_script(main))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate() for process in started]
    first, second = sorted(zip(started, said, strict=True), key=lambda pair: pair[0].returncode)
    assert (first[0].returncode, second[0].returncode) == (0, 2), said
    (line,) = [line for line in second[1][1].splitlines() if line.startswith("error: ")]
    assert f"process {first[0].pid} on " in line and "is training already" in line
    rows = Run(next(tmp_path.glob("cmt_*"))).rows()
    assert [row["pass"] for row in rows] == [1, 2, 3]


def evaluate(store, checkpoint: Path, *more: str) -> None:
    staging_evaluate.main(
        [
            "--data_path",
            str(store.path),
            "--model_path",
            str(checkpoint),
            "--pictures",
            "0",
            *more,
        ]
    )


def test_an_evaluation_somebody_worked_in_is_not_replaced(store, run_folder):
    best = run_folder / "checkpoints" / "best.pt"
    evaluate(store, best)
    evaluate(store, best)
    corrected = next((run_folder / "evaluation" / "edf").glob("*.edf"))
    corrected.write_bytes(corrected.read_bytes() + b"\0")
    before = content(run_folder)
    with pytest.raises(UserError, match=rf"holds edf/{corrected.name}.*changed since"):
        evaluate(store, best)
    assert content(run_folder) == before


def test_evaluations_from_before_are_replaced_unless_a_file_is_foreign(store, run_folder):
    best = run_folder / "checkpoints" / "best.pt"
    for _ in range(2):
        evaluate(store, best)
        without_lists(run_folder)
        # evaluations from before lists had none of these
        for name in (
            "bland_altman*",
            "epoch_agreement*",
            "subjects.csv",
            "subject_kappa*",
            "transitions*",
        ):
            for path in (run_folder / "evaluation").glob(name):
                path.unlink()
    (run_folder / "evaluation" / "notes.docx").touch()
    with pytest.raises(UserError, match=r"holds notes\.docx"):
        evaluate(store, best)


def test_weights_of_one_folder_are_evaluated_apart(store, tmp_path):
    """Was: the evaluation of ``b.pt`` replaced that of ``a.pt`` beside it."""
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        torch.save(chambon_state(1), tmp_path / f"{name}.ckpt")
        convert_checkpoint.main(
            [
                str(tmp_path / f"{name}.ckpt"),
                "--from",
                "physioex",
                "--model",
                "chambon2018",
                "--to",
                str(tmp_path / f"{name}.pt"),
            ]
        )
        weights = load_tensors(tmp_path / f"{name}.pt")
        weights["state"] = {
            k: v + seed if v.is_floating_point() else v for k, v in weights["state"].items()
        }
        torch.save(weights, tmp_path / f"{name}.pt")
        evaluate(store, tmp_path / f"{name}.pt")
    folders = sorted(p.name for p in tmp_path.glob("evaluation*"))
    assert len(folders) == 2 and ["_a_" in folders[0], "_b_" in folders[1]] == [True, True]


def test_stores_of_one_name_are_evaluated_apart(raw, store, run_folder, tmp_path):
    for name, options in (("x", ["--keep_all"]), ("y", ["--bandpass", "0.3", "35"])):
        prepare(raw, tmp_path / name / "store", "--folds", "kfold:3:0", *options)
        other = Store(tmp_path / name / "store")
        evaluate(other, run_folder / "checkpoints" / "best.pt", "--folds", "kfold:3:0")
    assert len(list(run_folder.glob("evaluation_store*"))) == 2


def test_converted_weights_do_not_replace_their_source(tmp_path):
    """Was: ``convert_checkpoint.py w.ckpt --to w.ckpt`` replaced the source."""
    source = tmp_path / "w.ckpt"
    torch.save(chambon_state(1), source)
    (tmp_path / "link.pt").symlink_to(source)
    (tmp_path / "mine.pt").write_text("mine")
    words = [source, "--from", "physioex", "--model", "chambon2018", "--to"]
    for name in ("w.ckpt", "link.pt", "W.ckpt"):
        for more in ([], ["--overwrite"]):
            refused(
                convert_checkpoint.main,
                *words,
                tmp_path / name,
                *more,
                match="is an input",
                keeps=tmp_path,
            )
    refused(
        convert_checkpoint.main,
        *words,
        tmp_path / "mine.pt",
        match="add --overwrite",
        keeps=tmp_path,
    )
    save_checkpoint(tmp_path / "trained.pt", {"state": {}})  # ours, but no conversion
    refused(convert_checkpoint.main, *words, tmp_path / "trained.pt", match="add --overwrite")
    for _ in range(2):
        convert_checkpoint.main([*map(str, words), str(tmp_path / "mine.pt"), "--overwrite"])
    convert_checkpoint.main([*map(str, words), str(tmp_path / "mine.pt")])


# latent spaces, tables, searches, bundles


def test_tables_need_leave_to_replace_a_strangers(store, tmp_path):
    (tmp_path / "staging.md").write_text("mine")
    words = ["--data_path", store.path, "--project_path", tmp_path, "--models", "chambon2018"]
    refused(reproduce_tables.main, *words, match="staging.md.*add --overwrite", keeps=tmp_path)
    (tmp_path / "staging.md").unlink()
    (tmp_path / "settings.json").write_text("{}")
    refused(reproduce_tables.main, *words, match="holds runs of another", keeps=tmp_path)


def test_a_search_touches_nothing_of_others(tmp_path):
    from tests.test_tune import TOY

    (tmp_path / "toy.py").write_text(TOY)
    out = tmp_path / "out"
    out.mkdir()
    (out / "best.json").write_text('{"x": {"low": 0.0, "high": 1.0}}')
    words = ["--script", tmp_path / "toy.py", "--n_trials", "1", "--output", out, "--space"]
    refused(tune.main, *words, out / "best.json", match="is an input", keeps=tmp_path)
    (tmp_path / "space.json").write_text((out / "best.json").read_text())
    refused(tune.main, *words, tmp_path / "space.json", match="best.json: is there", keeps=tmp_path)
    (out / "best.json").unlink()
    (out / "study.db").write_text("mine")
    refused(tune.main, *words, tmp_path / "space.json", match="study.db: is there", keeps=tmp_path)
    (out / "study.db").unlink()
    (out / "trials" / "default").mkdir(parents=True)
    (out / "trials" / "default" / "log.txt").write_text("mine")
    with pytest.raises(UserError, match=r"log\.txt: is there already"):
        tune.main([*map(str, words), str(tmp_path / "space.json")])
    (out / "trials" / "default" / "log.txt").unlink()
    tune.main([*map(str, words), str(tmp_path / "space.json")])
    without_lists(out)  # of a search from before
    tune.main([*map(str, words), str(tmp_path / "space.json"), "--n_trials", "2"])


def test_a_bundle_replaces_nothing_of_others(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "default.md").write_text("mine")
    words = ["--parts", "yasa", "--weights", tmp_path / "w", "--output", tmp_path / "out"]
    refused(bundle_weights.main, *words, match="default.md.*add --overwrite", keeps=tmp_path)


def test_the_bundle_that_is_committed_is_known(tmp_path):
    """``make weights`` replaces the bundled files; the list of them is committed as well."""
    folder = ROOT / "results" / "weights"
    names = ["default.json", "default.md", "figures.json", "evaluation_log.csv", "candidates.csv"]
    names += [path.name for path in folder.glob("*.pt")]
    for name in names:
        assert is_ours(folder / name), name


def test_a_record_of_results_replaces_nothing_of_others(tmp_path):
    """Before any of its commands runs."""
    (tmp_path / "notes.json").write_text("mine")
    refused(
        same_results.main,
        "record",
        tmp_path / "notes.json",
        match="notes.json: is there",
        keeps=tmp_path,
    )


def test_refusals_are_one_line_with_exit_code_2(tmp_path, capsys):
    edf = night(tmp_path / "night" / "night.edf")
    assert run_script(lambda: predict.main(["--edf", str(edf), "-o", str(tmp_path)])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "name another output" in line


def test_a_run_that_somebody_else_is_at_is_waited_for(tmp_path):
    run = Run(tmp_path / "run")
    with locked(run.path):
        write_text(run.path / "run.json", "{}")
        run.log({"pass": 1})
    assert run.rows() == [{"pass": 1}]


# training, foundation and bundling scripts, benchmarks


@pytest.fixture
def bands_run(tmp_path) -> Path:
    """A folder with a table of band powers and a small run on it."""
    made_up_table(tmp_path / "t.npz")
    bands_training.main([*BANDS, "--table", str(tmp_path / "t.npz"), *project(tmp_path)])
    return tmp_path


BANDS = ["--n_test", "2", "--n_val", "1", "--hidden", "8", "--n_epochs", "1", "--logger", "csv"]


def project(folder: Path) -> list[str]:
    return ["--project_path", str(folder / "run")]


def test_band_models_do_not_replace_the_weights_they_start_from(bands_run):
    """Was: ``--model_path`` of the run itself was deleted with ``--resume False``."""
    best = bands_run / "run" / "night_bands_seed0" / "checkpoints" / "best.pt"
    words = [*BANDS, "--table", bands_run / "t.npz", *project(bands_run), "--model_path", best]
    refused(
        bands_training.main, *words, "--resume", "False", match="holds an input", keeps=bands_run
    )


def test_tables_of_one_name_are_evaluated_apart(bands_run):
    """Was: the evaluation on the second replaced that on the first."""
    (bands_run / "other").mkdir()
    made_up_table(bands_run / "other" / "t.npz", shift=3.0)
    for table in ("t.npz", "other/t.npz", "t.npz"):
        words = ["--table", str(bands_run / table), *project(bands_run), *BANDS[:4]]
        bands_evaluate.main(words)
    folders = list((bands_run / "run" / "night_bands_seed0").glob("evaluation_t_*"))
    stores = [json.loads((f / "metrics.json").read_text())["about"]["store"] for f in folders]
    assert len(folders) == 2 and stores[0] != stores[1]


@pytest.mark.parametrize("output", ["mine.json", "table.npz"])
def test_the_law_of_real_nights_replaces_nothing_of_others(tmp_path, monkeypatch, output):
    """Was: written over whatever ``--output`` named, the table itself too."""
    made_up_table(tmp_path / "table.npz")
    (tmp_path / "mine.json").write_text("mine")
    words = ["x", "--table", tmp_path / "table.npz", "--output", tmp_path / output]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    refused(lambda words: fit_real_nights.main(), match="is there|is an input", keeps=tmp_path)


def test_a_comparison_replaces_nothing_of_others(tmp_path):
    """Before any night is staged."""
    (tmp_path / "mine.csv").write_text("mine")
    night(tmp_path / "n-PSG.edf")
    words = ["--partial", tmp_path, "--simulated", tmp_path, "--weights", tmp_path]
    for name, why in (("mine.csv", "is there"), ("n-PSG.edf", "is an input")):
        more = ["--output", tmp_path / name]
        refused(compare_candidates.main, *words, *more, match=why, keeps=tmp_path)
