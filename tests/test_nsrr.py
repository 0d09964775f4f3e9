"""NSRR cohorts: planted stages and signals come back exactly, and what is faulty is refused."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import pytest

import generate_demo_data
import preprocess_nsrr
from datasets.readers import nsrr
from datasets.readers.known_channels import alternatives
from datasets.readers.profiles import profile
from datasets.readers.scorings import nsrr_annotations
from datasets.store.filters import butterworth_sections, filter_sections
from datasets.store.store import Store
from datasets.synthetic import nsrr_files, nsrr_scoring
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject
from utils.errors import UserError

SUBJECTS, HOURS = 4, 0.3
# role -> what the body shows between its electrodes: (source, source subtracted)
SHOWN = {
    "EEG": ("central", None), "EOG": ("eye_l", "eye_r"), "EMG": ("chin", None),
    "ECG": ("ecg", None), "SPO2": ("spo2", None), "THOR": ("thor", None), "ABDO": ("abdo", None),
}  # fmt: skip
SCALE = {"uV": 1.0, "mV": 1e3, "V": 1e6, "%": 1.0, "a.u.": 1.0}


def night_of(number: int, visit: int, special: str | None = None, hours: float = HOURS):
    return draw_night(draw_subject(0, number, Difficulty(1)), visit, hours=hours, special=special)


def options(cohort: str, **changes) -> nsrr.Options:
    table = alternatives(cohort)
    return nsrr.Options(**{"channels": table, "roles": tuple(preprocess_nsrr.ROLES)} | changes)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Four subjects of every cohort, with their oddities; two visits of one of them."""
    root = tmp_path_factory.mktemp("nsrr")
    for cohort in nsrr.COHORTS:
        layout = nsrr_files.Layout(cohort)
        visits = [(0, 2)] if cohort not in nsrr_files.ONE_VISIT else []
        for number, visit in [*((k, 1) for k in range(SUBJECTS)), *visits]:
            layout.write(root / cohort, night_of(number, visit), {})
    return root


@pytest.mark.parametrize("cohort", nsrr.COHORTS)
def test_planted_stages_and_signals_come_back(cohorts, cohort):
    sources = nsrr.find(cohorts / cohort, cohort, options(cohort))
    assert len(sources) >= SUBJECTS
    layout = nsrr_files.Layout(cohort)
    for source in sources:
        recording = nsrr.read(source)
        number = next(
            k for k in range(SUBJECTS) if layout.stem_of(k, source.key.visit) == source.id
        )
        night = night_of(number, source.key.visit)
        planted = np.array(night.timeline.labels)
        if cohort == "wsc" and number == 2:
            planted[-3:] = -1  # its hypnogram is three epochs short
        n = len(recording.stages)
        assert n >= len(planted) - 1
        assert recording.stages.tolist() == planted[:n].tolist(), source.id
        check_signals(cohort, number, source.key.visit, night, recording)


def check_signals(cohort, number, visit, night, recording):
    channels = nsrr_files.montage(cohort, number, visit)
    brain = max(c.fs for c in channels if c.source.startswith("central"))
    body = nsrr_files.Body(night, brain)
    assert set(recording.signals) == set(SHOWN)
    for role, (one, other) in SHOWN.items():
        signal = recording.signals[role]
        if cohort == "shhs" and number == 3 and role == "ABDO":
            one = "flat"
        planted = body.at(one, int(signal.fs))
        if other is not None:
            planted = planted - body.at(other, int(signal.fs))
        used = [c for c in channels if c.label in recording.derivations[role].split(" - ")]
        steps = sum(np.ptp(nsrr_files.physical_range(c)) / 65535 for c in used)
        values = signal.read(0, night.seconds - 20)  # some files are 13 s shorter
        planted = planted[: len(values)]
        inside = np.all([np.abs(body.at(c.source, c.fs)) < c.limit for c in used], axis=0)
        inside = inside[: len(values)]  # where no electrode is saturated by movement
        assert inside.mean() > 0.9
        worst = np.abs(values - planted / SCALE[signal.unit])[inside].max()
        assert worst <= steps * 1.01, (recording.id, role, worst / steps)


def test_a_reference_common_to_all_electrodes_is_gone(cohorts):
    """MrOS is recorded against Fpz, whose own signal is larger than the brain's."""
    source = nsrr.find(cohorts / "mros", "mros", options("mros"))[0]
    assert nsrr.read(source).derivations["EEG"] == "C4 - A1"
    bare = nsrr.Source(
        source.path,
        "mros",
        source.scored,
        options("mros", channels={"EEG": ["C4"]}, roles=("EEG",)),
    )
    alone = nsrr.read(bare).signals["EEG"].read(0, 600).std()
    assert alone > 1.5 * nsrr.read(source).signals["EEG"].read(0, 600).std()


@pytest.mark.parametrize(
    ("cohort", "stem", "subject", "visit"),
    [
        ("shhs", "shhs1-200001", "shhs-200001", 1),
        ("shhs", "shhs2-200001", "shhs-200001", 2),
        ("mesa", "mesa-sleep-0001", "mesa-0001", 1),
        ("mros", "mros-visit1-aa0001", "mros-aa0001", 1),
        ("mros", "mros-visit2-aa0001", "mros-aa0001", 2),
        ("wsc", "wsc-visit1-10119-nsrr", "wsc-10119", 1),
        ("wsc", "wsc-visit3-10119", "wsc-10119", 3),
        ("wsc", "wsc-visit1-10120-nsrr", "wsc-10120", 1),
        ("apples", "apples-110001", "apples-110001", 1),
    ],
)
def test_visits_of_a_person_share_a_key(cohort, stem, subject, visit):
    key = nsrr.key_of(cohort, stem)
    assert (key.subject, key.visit) == (subject, visit)
    assert not key.id.endswith("-nsrr")
    with pytest.raises(UserError, match="not a file name of"):
        nsrr.key_of(cohort, "night-1")


def test_the_same_bytes_in_parallel_and_twice(cohorts, tmp_path, capsys):
    flags = ["--cohort", "mros", "--raw_path", str(cohorts / "mros"), "--resample", "50"]
    for name, jobs in (("one", "1"), ("two", "2")):
        preprocess_nsrr.main([*flags, "--save_path", str(tmp_path / name), "--jobs", jobs])
    assert "C4 - A1, C4 - M1" in capsys.readouterr().out
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) > 12
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    store = Store(tmp_path / "one")
    assert store.cohort == "synthetic-mros"
    assert store.of_subjects(["mros-aa0001"]) == ["mros-visit1-aa0001", "mros-visit2-aa0001"]
    table = json.loads((store.path / "folds" / "kfold-4-0.json").read_text())
    assert sorted(s for fold in table["folds"] for s in fold["test"]) == store.subjects


def test_a_role_that_is_missing_changes_no_other(cohorts, tmp_path):
    """The role is absent and not zero; every filter belongs to its role."""
    channels = {"EOG": ["no such"], "EEG_EXTRA": ["EEG(sec)"]}
    (tmp_path / "map.json").write_text(json.dumps(channels))
    flags = ["--cohort", "shhs", "--raw_path", str(cohorts / "shhs"), "--resample", "25"]
    preprocess_nsrr.main([*flags, "--save_path", str(tmp_path / "all")])
    table = alternatives("shhs", tmp_path / "map.json")
    assert table["EOG"][0] == "no such"
    assert table["EEG"] == alternatives("shhs")["EEG"]
    source = nsrr.find(cohorts / "shhs", "shhs", options("shhs"))[0]
    whole = nsrr.read(source)
    lacking = options("shhs", channels=table | {"EOG": ["no such"], "EMG": []})
    short = nsrr.read(nsrr.Source(source.path, "shhs", source.scored, lacking))
    assert set(whole.signals) - set(short.signals) == {"EOG", "EMG"}
    args = preprocess_nsrr.parse_args([*flags, "--roles", *preprocess_nsrr.ROLES])
    settings = preprocess_nsrr.settings_of(args, synthetic=True)
    one, two = (preprocess_nsrr_prepare(r, settings) for r in (whole, short))
    for k, role in enumerate(preprocess_nsrr.ROLES):
        if role in ("EOG", "EMG"):
            assert np.isnan(two[:, k]).all()
        else:
            assert np.array_equal(one[:, k], two[:, k])


def preprocess_nsrr_prepare(recording, settings):
    from datasets.store.preparation import prepare

    return prepare(recording, settings, {}).signals[settings.fs]


def test_an_absent_role_is_kept_as_absent(cohorts, tmp_path, capsys):
    (tmp_path / "map.json").write_text(json.dumps({"PLETH": ["Pleth"]}))
    preprocess_nsrr.main(
        [
            "--cohort",
            "shhs",
            "--raw_path",
            str(cohorts / "shhs"),
            "--save_path",
            str(tmp_path / "s"),
            "--resample",
            "25",
            "--roles",
            "EEG",
            "PLETH",
            "--channel_map",
            str(tmp_path / "map.json"),
        ]
    )
    assert "PLETH –; absent in 5" in capsys.readouterr().out
    night = Store(tmp_path / "s").night("shhs1-200001")
    assert night.derivations == ("EEG", None)
    assert np.isnan(night.mean[1])
    assert np.isnan(night.signals()[:, 1]).all()
    assert np.isfinite(night.signals()[:, 0]).all()
    with pytest.raises(
        UserError, match=r"no channel for the required PLETH among .*ECG.* with --channel_map"
    ):
        preprocess_nsrr.main(
            [
                "--cohort",
                "shhs",
                "--raw_path",
                str(cohorts / "shhs"),
                "--save_path",
                str(tmp_path / "t"),
                "--roles",
                "EEG",
                "PLETH",
                "--required",
                "PLETH",
                "--channel_map",
                str(tmp_path / "map.json"),
                "--jobs",
                "1",
            ]
        )


@pytest.fixture
def one_night(tmp_path):
    """A folder with one night of a cohort, to be corrupted."""

    def make(cohort: str, number: int = 0, special: str | None = None, hours: float = HOURS):
        night = night_of(number, 1, special, hours)
        stem = nsrr_files.Layout(cohort).write(tmp_path, night, {})
        return night, stem

    return make


def corrupt(folder, ending, change):
    path = next(folder.rglob(f"*{ending}"))
    path.write_bytes(change(path.read_bytes()))
    return path


FEW = b"<SleepStages>"
FAULTS = {
    "truncated XML": ("shhs", "-nsrr.xml", lambda b: b[: len(b) // 2], "not readable as XML"),
    "text after the root": ("shhs", "-nsrr.xml", lambda b: b + b"<more/>", "not readable as XML"),
    "another XML": (
        "shhs", "-nsrr.xml", lambda b: b.replace(b"PSGAnnotation", b"Other"), "a Other file",
    ),
    "the two XML differ": (
        "shhs", "-profusion.xml",
        lambda b: b.replace(b"<SleepStage>2<", b"<SleepStage>5<", 1), "differ, first in epoch",
    ),
    "too many stages": (
        "wsc", ".stg.txt", lambda b: b + b"37\t0\t0\n", "more stages than the 36 epochs",
    ),
    "sixty more stages": (
        "mesa", "-profusion.xml",
        lambda b: b.replace(FEW, FEW + b"<SleepStage>0</SleepStage>" * 60),
        r"\(96\) differ, first in epoch",
    ),
    "no stages": ("apples", ".annot", lambda b: b"# nothing\n", "holds no sleep stages"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_one_line(one_night, tmp_path, fault):
    cohort, ending, change, message = FAULTS[fault]
    one_night(cohort)
    corrupt(tmp_path, ending, change)
    with pytest.raises(UserError, match=message):
        nsrr.read(nsrr.find(tmp_path, cohort, options(cohort))[0])


def test_one_of_two_annotations_decides(one_night, tmp_path):
    night, _ = one_night("shhs")
    corrupt(tmp_path, "-profusion.xml", lambda b: b.replace(b">2</SleepS", b">5</SleepS"))
    read = {
        choice: nsrr.read(nsrr.find(tmp_path, "shhs", options("shhs", annotation=choice))[0])
        for choice in ("nsrr", "profusion")
    }
    planted = night.timeline.labels
    assert read["nsrr"].stages.tolist() == planted.tolist()
    assert read["profusion"].stages.tolist() == np.where(planted == 2, 4, planted).tolist()
    next(tmp_path.rglob("*-profusion.xml")).unlink()
    with pytest.raises(UserError, match="no profusion annotation"):
        nsrr.read(nsrr.find(tmp_path, "shhs", options("shhs", annotation="profusion"))[0])


def test_lengths_that_differ(one_night, tmp_path):
    """Below an epoch silently, up to --max_mismatch with a note, above it refused."""
    night, _ = one_night("mesa")
    for path in tmp_path.rglob("*-nsrr.xml"):
        path.unlink()
    path = next(tmp_path.rglob("*-profusion.xml"))
    whole = path.read_bytes()

    def without(n: int) -> bytes:
        head, tail = whole.split(b"<SleepStages>")
        stages = tail.split(b"\r\n\t\t<SleepStage>")
        return (
            head
            + b"<SleepStages>"
            + b"\r\n\t\t<SleepStage>".join(stages[: len(stages) - n])
            + (b"\r\n</SleepStages></CMPStudyConfig>" if n else b"")
        )

    for n, note in ((0, None), (1, None), (4, "cut")):
        path.write_bytes(without(n))
        recording = nsrr.read(nsrr.find(tmp_path, "mesa", options("mesa"))[0])
        assert recording.stages.tolist() == night.timeline.labels[: 36 - n].tolist()
        assert (note in recording.note) if note else recording.note is None
    path.write_bytes(without(6))
    with pytest.raises(UserError, match="36 epochs of signal, 30 of stages"):
        nsrr.read(nsrr.find(tmp_path, "mesa", options("mesa"))[0])


def test_starts_win_over_durations_where_the_end_agrees(tmp_path):
    night = night_of(0, 1)
    text = nsrr_scoring.nsrr_xml(night, datetime(1985, 1, 1, 22), 0)
    planted = night.timeline.labels.tolist()
    at, n, _ = next(run for run in nsrr_scoring.runs_of(night) if run[1] > 1 and run[0])
    wrong = text.replace(
        f"<Start>{30.0 * at}</Start>\n<Duration>{30.0 * n}<",
        f"<Start>{30.0 * at}</Start>\n<Duration>{30.0 * n - 30}<",
    )
    assert wrong != text
    path = tmp_path / "a.xml"
    path.write_text(wrong)
    assert nsrr_annotations.read_nsrr(path, night.seconds).tolist() == planted
    with pytest.raises(UserError, match=rf"begins at {30 * at} s lasts to .* recording at 9000 s"):
        nsrr_annotations.read_nsrr(path, 9000.0)


@pytest.mark.parametrize("special", ["sleep_wake", "all_wake", "no_rem"])
def test_nights_with_few_stages(one_night, tmp_path, special):
    night, _ = one_night("apples", special=special, hours=3.0)
    source = nsrr.find(tmp_path, "apples", options("apples"))[0]
    if special == "sleep_wake":
        with pytest.raises(UserError, match="wake and sleep alone; --keep_suspect"):
            nsrr.read(source)
        source = nsrr.find(tmp_path, "apples", options("apples", keep_suspect=True))[0]
        assert "suspect" in nsrr.read(source).note
    assert nsrr.read(source).stages.tolist() == night.timeline.labels.tolist()


def test_recordings_without_labels_are_reported(one_night, tmp_path, capsys):
    one_night("mros", 0)
    one_night("mros", 1)
    next(tmp_path.rglob("*aa0002-nsrr.xml")).unlink()
    next(tmp_path.rglob("*aa0002-profusion.xml")).unlink()
    flags = ["--cohort", "mros", "--raw_path", str(tmp_path), "--resample", "25", "--roles", "EEG"]
    store = tmp_path / "store"
    preprocess_nsrr.main([*flags, "--save_path", str(store)])
    assert "left out: mros-visit1-aa0002: no annotation beside it" in capsys.readouterr().out
    assert "mros-visit1-aa0002,no annotation" in (store / "left_out.csv").read_text()
    keep = tmp_path / "keep"
    preprocess_nsrr.main([*flags, "--save_path", str(keep), "--unlabelled", "keep"])
    assert (Store(keep).night("mros-visit1-aa0002").stages == -1).all()
    with pytest.raises(UserError, match="no annotation beside it"):
        nsrr.read(nsrr.find(tmp_path, "mros", options("mros"))[1])


def test_faulty_and_excluded_nights_are_left_out_by_name(one_night, tmp_path, monkeypatch, capsys):
    for number in range(3):
        one_night("shhs", number)
    corrupt(tmp_path, "200002-nsrr.xml", lambda b: b[:300])
    value = json.loads((profile.FOLDER / "shhs.json").read_text())
    value["exclude"] = [{"id": "shhs?-200003", "reason": "a reason"}]
    (tmp_path / "shhs.json").write_text(json.dumps(value))
    monkeypatch.setattr(profile, "FOLDER", tmp_path)
    flags = ["--cohort", "shhs", "--raw_path", str(tmp_path), "--resample", "25", "--roles", "EEG"]
    with pytest.raises(UserError, match="not readable as XML"):
        preprocess_nsrr.main([*flags, "--save_path", str(tmp_path / "a"), "--jobs", "1"])
    preprocess_nsrr.main([*flags, "--save_path", str(tmp_path / "b"), "--skip_faulty"])
    out = capsys.readouterr().out
    assert "left out: 2, all in" in out
    assert "shhs1-200003: a reason" in out
    assert list(Store(tmp_path / "b").recordings) == ["shhs1-200001"]


def test_the_lists_shipped_name_recordings_of_their_cohort():
    counts = {}
    for cohort in nsrr.COHORTS:
        listed = profile.load(cohort).exclude
        counts[cohort] = len([nsrr.key_of(cohort, one.id.replace("*", "1")) for one in listed])
    assert counts == {"shhs": 0, "mesa": 2, "mros": 11, "wsc": 2, "apples": 1}
    for cohort in nsrr.COHORTS:
        assert set(preprocess_nsrr.ROLES) <= set(alternatives(cohort))


def test_units(tmp_path):
    """Blank is taken as uV and said; implausible values and other units are refused."""
    import edfio

    def write(unit: str, sd: float) -> nsrr.Source:
        samples = np.random.default_rng(0).normal(0, sd, 600 * 125).clip(-9 * sd, 9 * sd)
        signal = edfio.EdfSignal(
            samples, 125, label="EEG", physical_dimension=unit, physical_range=(-10 * sd, 10 * sd)
        )
        edfio.Edf([signal], recording=edfio.Recording(startdate=datetime(1985, 1, 1).date())).write(
            tmp_path / "shhs1-200001.edf"
        )
        return nsrr.find(tmp_path, "shhs", options("shhs", roles=("EEG",), keep_unlabelled=True))[0]

    recording = nsrr.read(write("", 20))
    assert recording.signals["EEG"].unit == "uV"
    assert "names no unit, taken as uV" in recording.note
    with pytest.raises(UserError, match="which is no EEG in uV"):
        nsrr.read(write("", 0.02))
    with pytest.raises(UserError, match="is in 'mmHg'"):
        nsrr.read(write("mmHg", 20))


def test_filters_of_roles():
    fs = 100.0
    times = np.arange(60 * 100) / fs
    inside, outside = np.sin(2 * np.pi * 10 * times), np.sin(2 * np.pi * 0.02 * times)
    band = butterworth_sections(0.3, 35.0, fs)
    filtered = filter_sections(inside + outside, band)[1000:-1000]
    assert np.abs(filtered - inside[1000:-1000]).max() < 0.02  # no delay, and the drift is gone
    assert butterworth_sections(0.3, 35.0, 50.0).shape == butterworth_sections(0.3, None, 50).shape
    assert butterworth_sections(None, 0.5, 1.0) is None
    with pytest.raises(ValueError, match="lower one"):
        butterworth_sections(5.0, 1.0, fs)


def test_differences_need_one_rate(one_night, tmp_path):
    one_night("shhs")
    changed = options("shhs", channels={"EEG": ["EEG - EOG(L)", "EEG"]}, roles=("EEG",))
    assert nsrr.read(nsrr.find(tmp_path, "shhs", changed)[0]).derivations == {"EEG": "EEG"}


@pytest.mark.parametrize("wish", ["EOG(R)-EOG(L)", "EOG(R) - EOG(L)"])
def test_differences_in_a_channel_map_are_spelt_either_way(one_night, tmp_path, capsys, wish):
    """The map's difference is taken, the reverse of what the cohort's own table has."""
    one_night("shhs")
    (tmp_path / "map.json").write_text(json.dumps({"EOG": [wish]}))
    for name, more in (("own", []), ("map", ["--channel_map", str(tmp_path / "map.json")])):
        words = ["--raw_path", str(tmp_path), "--save_path", str(tmp_path / name), "--jobs", "1"]
        preprocess_nsrr.main([*words, "--roles", "EEG", "EOG", "--resample", "25", *more])
    assert "EOG   EOG(R) - EOG(L)" in capsys.readouterr().out
    own, mapped = (Store(tmp_path / name).night("shhs1-200001") for name in ("own", "map"))
    assert mapped.derivations == ("EEG", "EOG(R) - EOG(L)")
    np.testing.assert_allclose(mapped.signals()[:, 1], -own.signals()[:, 1], atol=1e-3)


def test_another_cohort_by_channel_map(cohorts, tmp_path, capsys):
    """Any EDFs with NSRR annotations: labels from a file, subjects from a pattern."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in (cohorts / "shhs").rglob("shhs*-200001*"):
        if path.suffix in (".edf", ".xml"):
            name = path.name.replace("shhs1-", "cfs-visit1-").replace("shhs2-", "cfs-visit2-")
            (folder / name).write_bytes(path.read_bytes())
    (tmp_path / "map.json").write_text(json.dumps({"EEG": ["EEG"], "LEG": ["EMG"]}))
    words = [
        "--cohort",
        "CFS",
        "--raw_path",
        str(folder),
        "--save_path",
        str(tmp_path / "s"),
        "--roles",
        "EEG",
        "LEG",
        "--resample",
        "25",
    ]
    with pytest.raises(UserError, match="for another one, name its channels with --channel_map"):
        preprocess_nsrr.main(words)
    words += ["--channel_map", str(tmp_path / "map.json")]
    preprocess_nsrr.main([*words, "--person", "cfs-visit(?P<visit>.)-(?P<person>.+)"])
    store = Store(tmp_path / "s")
    assert store.subjects == ["cfs-200001"]
    assert [store.night(r).night for r in sorted(store.recordings)] == [1, 2]
    assert store.cohort == "synthetic-cfs"
    with pytest.raises(UserError, match="not a regular expression"):
        preprocess_nsrr.main([*words, "--person", "("])
    with pytest.raises(UserError, match="--person has no effect on SHHS"):
        preprocess_nsrr.parse_args(["--person", "x"])


def test_large_values_survive_the_store(tmp_path):
    """float16 would make infinity of 70,000 and 1235 of 1234.567."""
    from datasets.readers.recording import Recording, Signal
    from datasets.store.preparation import RolePreprocessing, Settings, prepare

    samples = np.repeat([70_000.0, 1234.567], 1500)
    signal = Signal(100.0, "a.u.", 30.0, lambda start, stop: samples)
    recording = Recording("a", "a", 1, {"LEG": signal}, (), np.zeros(1, np.int8), None)
    settings = Settings(
        "x", "keep_all", ("LEG",), fs=100.0, kept={"LEG": RolePreprocessing("a.u.")}
    )
    prepared = prepare(recording, settings, {}).signals[100.0][0, 0]
    assert prepared.dtype == np.float32
    assert prepared[[0, -1]].tolist() == pytest.approx([70_000.0, 1234.567], rel=1e-7)


def test_cohorts_are_of_different_subjects():
    """Else a model would be carried over to subjects it was trained on."""
    seeds = {
        generate_demo_data.subject_seed(
            generate_demo_data.parse_args(["--format", "nsrr", "--cohort", cohort, "--seed", seed])
        )
        for cohort in nsrr.COHORTS
        for seed in ("0", "1", "2")
    }
    assert len(seeds) == 3 * len(nsrr.COHORTS)
    assert generate_demo_data.subject_seed(generate_demo_data.parse_args(["--seed", "5"])) == 5


def test_refusals_before_any_work(tmp_path):
    with pytest.raises(UserError, match="no EDF of SHHS there"):
        preprocess_nsrr.main(["--raw_path", str(tmp_path)])
    with pytest.raises(UserError, match="not among --roles"):
        preprocess_nsrr.parse_args(["--required", "PLETH"])
    (tmp_path / "map.json").write_text('{"EEG": "C4-M1"}')
    with pytest.raises(UserError, match="not a channel map such as"):
        alternatives("shhs", tmp_path / "map.json")
    with pytest.raises(UserError, match="--cohort belongs to"):
        generate_demo_data.parse_args(["--cohort", "mesa"])


def test_the_real_pair_of_annotations(real_data):
    """Equal epoch by epoch once the first translator's fault is known; Profusion is believed."""
    folder = real_data / "nsrr_xml"
    profusion = nsrr_annotations.read_profusion(folder / "100022-profusion.xml")
    converted = nsrr_annotations.read_nsrr(folder / "100022-nsrr.xml")
    assert converted.tolist() == nsrr_annotations.early_translation(profusion).tolist()
    stages, note = nsrr_annotations.reconciled(converted, profusion, folder)
    assert stages.tolist() == profusion.tolist()
    assert "30 s early" in note
