"""Synthetic nights: deterministic, faithful to their format, and true to their truth files."""

from __future__ import annotations

import csv
import hashlib
import json
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest

import generate_demo_data
from datasets.readers.profiles.declared_night import read
from datasets.synthetic.artefacts import DERIVATIONS
from datasets.synthetic.background import coloured_noise
from datasets.synthetic.events import coverage
from datasets.synthetic.graphoelements import KINDS
from datasets.synthetic.hypnogram import draw_sleep
from datasets.synthetic.law import context_of, law
from datasets.synthetic.levels import levels_of_night
from datasets.synthetic.night import OMITTABLE, draw_night
from datasets.synthetic.recorders import ODD_NIGHTS, odd_night
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Difficulty, draw_subject
from datasets.synthetic.timeline import SLOTS, SPECIALS
from tests.edf_files import read_sleepedf, sleepedf_in
from utils.errors import UserError
from utils.signals import band_powers


def make(number=0, night=1, level=1, hours=1.0, **options):
    return draw_night(draw_subject(3, number, Difficulty(level)), night, hours=hours, **options)


def checksums(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_streams_depend_on_their_name_alone():
    a = stream(1, "subject", 2, "spindle").random(3)
    stream(1, "other").random(10)
    np.testing.assert_array_equal(a, stream(1, "subject", 2, "spindle").random(3))
    assert not np.array_equal(a, stream(2, "subject", 2, "spindle").random(3))
    assert not np.array_equal(a, stream(1, "subject", 3, "spindle").random(3))


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path):
    options = ["--subjects", "3", "--nights", "2", "--hours", "0.4"]
    for name, jobs in (("a", "1"), ("b", "3")):
        generate_demo_data.main(["--output", str(tmp_path / name), *options, "--jobs", jobs])
    assert checksums(tmp_path / "a") == checksums(tmp_path / "b")
    generate_demo_data.main(["--output", str(tmp_path / "c"), *options, "--seed", "1"])
    same = set(checksums(tmp_path / "a").values()) & set(checksums(tmp_path / "c").values())
    assert not same


def test_a_subject_is_the_same_in_any_cohort(tmp_path):
    for name, subjects in (("few", "2"), ("many", "3")):
        generate_demo_data.main(
            [
                "--output",
                str(tmp_path / name),
                "--subjects",
                subjects,
                "--nights",
                "1",
                "--hours",
                "0.4",
                "--jobs",
                "1",
            ]
        )
    few, many = checksums(tmp_path / "few"), checksums(tmp_path / "many")
    assert few["SC4001E0-PSG.edf"] == many["SC4001E0-PSG.edf"]


@pytest.mark.parametrize("seed", range(8))
def test_every_default_night_holds_all_stages_and_unscored_epochs(seed):
    for hours in (0.7, 8, None):
        night = draw_night(draw_subject(seed, 0, Difficulty(1)), 1, hours=hours)
        assert set(night.timeline.labels.tolist()) == {-1, 0, 1, 2, 3, 4}


def test_a_full_tape_is_as_long_as_a_real_one():
    for number in range(6):
        night = make(number, hours=None)
        asleep = np.flatnonzero(night.timeline.stages > 0)
        assert 2570 <= night.timeline.n_epochs <= 2850
        assert 640 <= asleep[0] <= 1290
        assert 20 <= night.timeline.beyond <= 240


def test_the_hypnogram_does_not_dream_early():
    for number in range(40):
        sleep = draw_sleep(stream(1, number), draw_subject(1, number, Difficulty(1)).traits)
        assert sleep[0] == 1
        assert sleep[-1] != 0
        assert np.flatnonzero(sleep == 4)[0] >= 70


def test_specials():
    stages = {s: set(make(special=s, hours=4).timeline.labels.tolist()) for s in SPECIALS}
    assert 4 not in stages["no_rem"]
    assert 3 not in stages["no_n3"]
    assert stages["all_wake"] <= {-1, 0}
    assert stages["sleep_wake"] <= {-1, 0, 2}
    edge = make(special="edge_bouts", hours=4).timeline.stages
    assert (edge[0], edge[1], edge[-2], edge[-1]) == (1, 0, 0, 4)


def test_background_has_the_power_it_was_given():
    wanted = np.array([1.5, 0.6, 0.1, -0.1, -0.6, -1.2])
    noise = coloured_noise(stream(0, "x"), np.tile(wanted, (6000, 1)), 100)
    assert noise.dtype == np.float32
    measured = np.log10(band_powers(noise.reshape(-1, 3000), 100).mean(axis=0))
    # beta of 13 to 30 Hz lies on sigma and beta of the background; the small constant rest is what
    # the fitted corrections take care of
    np.testing.assert_allclose(measured, [*wanted[:3], -0.4, wanted[5]], atol=0.3)
    other = coloured_noise(stream(0, "x"), np.tile(wanted, (6000, 1)), 250)
    again = np.log10(band_powers(other.reshape(-1, 7500), 250).mean(axis=0))
    np.testing.assert_allclose(again, measured, atol=0.1)


def test_background_power_follows_changes_without_a_step():
    power = np.zeros((200, 6))
    power[100:] = 2.0
    noise = np.stack([coloured_noise(stream(k, "x"), power, 100) for k in range(30)])
    sd = noise.reshape(30, -1, 25).std(axis=(0, 2))
    assert sd[:780].mean() * 8 < sd[820:].mean()
    assert (
        np.abs(np.diff(noise, axis=1)).max(axis=0)[19_900:20_100].max() < 6 * np.diff(noise).std()
    )


@pytest.mark.parametrize("kind", [k for k in OMITTABLE if not k.startswith("background")])
def test_a_twin_differs_only_where_the_omitted_kind_was(kind):
    # causal truth: night minus twin is non-zero inside the listed events and channels, only there
    numbers = range(20) if kind in ("sweat", "ecg_leak") else range(3)
    n_events = 0
    for number in numbers:
        night, twin = make(number, hours=1.5), make(number, hours=1.5, omit=(kind,))
        events = (night.events | night.artefacts)[kind]
        np.testing.assert_array_equal(night.timeline.labels, twin.timeline.labels)
        inside = np.zeros(round(night.seconds * 100), bool)
        for onset, duration in zip(events.onset, events.duration, strict=True):
            inside[int(onset * 100) : int((onset + duration) * 100) + 2] = True
        for channel, name in enumerate(DERIVATIONS):
            difference = night.render(name, 100) - twin.render(name, 100)
            assert not difference[~inside].any(), name
            is_event = kind in KINDS
            sees = KINDS[kind].gains[name] > 0 if is_event else bool(events.on(channel).any())
            assert difference.any() == (sees and len(events) > 0), name
        n_events += len(events)
        if kind in ("movement", "arousal", "twitch"):
            seconds = night.render_emg_envelope() - twin.render_emg_envelope()
            assert not seconds[~inside.reshape(-1, 100).any(axis=1)].any()
    assert n_events > 0


def test_a_background_can_be_left_out_alone():
    night = make(omit=("background:EEG Pz-Oz",))
    full = make()
    np.testing.assert_array_equal(night.render("EEG Fpz-Cz", 100), full.render("EEG Fpz-Cz", 100))
    assert (night.render("EEG Pz-Oz", 100) == 0).mean() > 0.3
    with pytest.raises(UserError, match="unicorn"):
        make(omit=("unicorn",))


def test_rendering_twice_is_the_same():
    night = make()
    for name in DERIVATIONS:
        np.testing.assert_array_equal(night.render(name, 100), night.render(name, 100))
    assert len(night.render("EEG Fpz-Cz", 128)) == night.seconds * 128


@pytest.fixture(scope="module")
def full_night():
    """Eight hours of an easy subject: rates are then those of the table."""
    return [draw_night(draw_subject(7, k, Difficulty(0)), 1, hours=8) for k in range(6)]


def rate(nights, kind, stage) -> float:
    """Events per scored epoch of a stage."""
    count = epochs = 0
    for night in nights:
        labels = night.timeline.labels[(night.events[kind].onset // 30).astype(int)]
        count += (labels == stage).sum()
        epochs += (night.timeline.labels == stage).sum()
    return count / epochs


@pytest.mark.parametrize(
    ("kind", "stage", "low", "high"),
    [
        ("spindle", 2, 1, 4),
        ("spindle", 3, 0.2, 2),
        ("spindle", 0, 0, 0.02),
        ("spindle", 4, 0, 0.02),
        ("alpha", 3, 0.1, 0.8),
        ("k_complex", 2, 0.3, 2),
        ("k_complex", 0, 0, 0.02),
        ("vertex_wave", 1, 0.3, 3),
        ("slow_wave", 4, 0, 0.02),
        ("slow_wave", 3, 6, 30),
        ("rem", 4, 2, 12),
        ("rem", 2, 0, 0.05),
        ("sem", 1, 0.5, 4),
        ("sem", 3, 0, 0.02),
        ("sawtooth", 4, 0.1, 2),
        ("arousal", 2, 0.01, 0.5),
        ("theta_run", 1, 0.5, 4),
        ("twitch", 4, 0.2, 2),
        ("alpha", 4, 0, 0.4),
    ],
)
def test_events_occur_where_and_as_often_as_they_should(full_night, kind, stage, low, high):
    assert low <= rate(full_night, kind, stage) <= high


def test_event_shapes_stay_in_their_definitions(full_night):
    night = full_night[0]
    spindle, k, slow = (night.events[kind] for kind in ("spindle", "k_complex", "slow_wave"))
    assert 11 <= spindle.hz.min() <= spindle.hz.max() <= 16
    assert 0.5 <= spindle.duration.min() <= spindle.duration.max() <= 2
    assert k.amplitude.min() >= 100
    assert slow.amplitude.min() >= 75
    assert 0.5 <= slow.duration.min() <= slow.duration.max() <= 2
    covered = coverage(slow, night.timeline.n_epochs)
    whole = night.timeline.stage_weights().reshape(-1, SLOTS, 5).min(axis=1)
    assert np.median(covered[whole[:, 3] == 1]) > 0.2
    assert np.median(covered[whole[:, 2] == 1]) < 0.2
    fourth = night.timeline.rk == 4
    assert fourth.any()
    assert (covered[fourth] > 0.25).all()
    assert (covered[night.timeline.rk == 3] <= 0.25).all()


def test_emg_falls_from_wake_to_rem(full_night):
    labels = np.concatenate([night.timeline.labels for night in full_night])
    envelope = np.concatenate([n.render_emg_envelope().reshape(-1, 30) for n in full_night])
    levels = [np.median(envelope[labels == stage]) for stage in range(5)]
    assert levels == sorted(levels, reverse=True)
    assert 3 < levels[0] < 4


def test_level_one_has_atypical_epochs_and_level_zero_has_none():
    assert not make(level=0, hours=8).timeline.atypical.any()
    night = make(level=1, hours=8)
    assert night.timeline.atypical.any()
    weights = night.timeline.stage_weights()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


# files


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_files_are_read_by_mne_without_a_warning(raw):
    for pair in sleepedf_in(raw):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for include in (["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"], ["EMG submental"]):
                loaded = mne.io.read_raw_edf(pair.path, include=include, verbose=False)
                loaded.load_data(verbose=False)
            annotations = mne.read_annotations(pair.scored)
        assert set(annotations.description) >= {"Sleep stage W", "Sleep stage ?"}
        ours = read(pair)
        volts = loaded.get_data()[0]
        np.testing.assert_allclose(
            ours.signals["EMG submental"].read(0, len(volts)), volts * 1e6, atol=1e-9
        )


def test_samples_equal_the_rendered_ones_within_one_step(raw):
    pair = sleepedf_in(raw)[0]
    recording = read(pair)
    night = draw_night(draw_subject(0, 0, Difficulty(1)), 1, hours=0.7)
    for name, low, high in zip(DERIVATIONS, (-192, -197, -1009), (192, 196, 1009), strict=True):
        stored = recording.signals[name].read(0, night.seconds)
        rendered = np.clip(night.render(name, 100), low, high)
        assert np.abs(stored - rendered).max() <= (high - low) / 4095
        assert low - 1e-9 <= stored.min() <= stored.max() <= high + 1e-9
    np.testing.assert_array_equal(recording.stages, night.timeline.labels)


def test_headers_are_those_of_the_real_tapes(raw):
    head = (raw / "SC4001E0-PSG.edf").read_bytes()[:2048]
    assert head[8:16] == b"X X X X "
    assert head[192:236].strip() == b""  # plain EDF, not EDF+
    assert head[184:192].strip() == b"2048"
    recording = read_sleepedf(raw)
    assert {k: (s.fs, s.unit) for k, s in recording.signals.items()} == {
        "EEG Fpz-Cz": (100, "uV"),
        "EEG Pz-Oz": (100, "uV"),
        "EOG horizontal": (100, "uV"),
        "Resp oro-nasal": (1, ""),
        "EMG submental": (1, "uV"),
        "Temp rectal": (1, "DegC"),
        "Event marker": (1, ""),
    }
    temperature = recording.signals["Temp rectal"].read(0, 600)
    assert 36 < temperature.mean() < 38.5


def test_the_cohort_has_every_quirk(raw):
    psgs = [p.path for p in sleepedf_in(raw)]
    durations = [float(p.read_bytes()[244:252]) for p in psgs]
    assert durations == [30, 30, 30, 30, 60]
    assert len({p.name[6] for p in psgs}) == 3, "recorders E, F and G"
    texts = b"".join(p.scored.read_bytes() for p in sleepedf_in(raw))
    for text in (b"stage 3", b"stage 4", b"stage ?", b"Movement time"):
        assert text in texts
    recording = read_sleepedf(raw)
    assert recording.bouts[-1].first + recording.bouts[-1].length > len(recording.stages)


def test_truth_files_agree_with_the_night(raw):
    night = draw_night(draw_subject(0, 0, Difficulty(1)), 1, hours=0.7)
    events = rows_of(raw / "SC4001E0_truth.tsv")
    onsets = [float(row["onset"]) for row in events]
    assert onsets == sorted(onsets)
    for kind in KINDS:
        listed = [row for row in events if row["trial_type"] == kind]
        assert len(listed) == len(night.events[kind])
        for row, onset in zip(listed, np.sort(night.events[kind].onset), strict=True):
            assert float(row["onset"]) == pytest.approx(onset, abs=1e-3)
            assert int(row["epoch"]) == int(onset // 30)
    spindle = next(row for row in events if row["trial_type"] == "spindle")
    assert spindle["supports"] == "N2"
    assert spindle["channel"] == "EEG Fpz-Cz|EEG Pz-Oz"
    epochs = rows_of(raw / "SC4001E0_epochs.tsv")
    names = ["W", "N1", "N2", "N3", "REM"]
    labels = [names.index(r["label"]) if r["label"] != "n/a" else -1 for r in epochs]
    assert labels == night.timeline.labels.tolist()
    facts = json.loads((raw / "SC4001E0_truth.json").read_text())
    assert facts["seed"] == 0
    assert set(facts["event_columns"]) == set(events[0])
    assert set(facts["epoch_columns"]) == set(epochs[0])


def test_omitted_kinds_leave_the_truth_file_too(tmp_path):
    for name, omit in (("with", []), ("without", ["--omit", "spindle"])):
        generate_demo_data.main(
            ["--output", str(tmp_path / name), "--profile", "tiny", "--jobs", "1", *omit]
        )
    tables = {n: rows_of(tmp_path / n / "SC4001E0_truth.tsv") for n in ("with", "without")}
    kinds = {name: [row["trial_type"] for row in rows] for name, rows in tables.items()}
    assert "spindle" in kinds["with"]
    assert kinds["without"] == [k for k in kinds["with"] if k != "spindle"]
    hypnograms = [next((tmp_path / n).glob("SC4001*Hypnogram*")).read_bytes() for n in kinds]
    assert hypnograms[0] == hypnograms[1]


def test_real_recordings_of_the_same_name_are_never_overwritten(tmp_path):
    real = tmp_path / "SC4001E0-PSG.edf"
    real.write_bytes(b"somebody's night")
    with pytest.raises(UserError, match=r"SC4001E0-PSG\.edf, which is not"):
        generate_demo_data.main(["--output", str(tmp_path), "--profile", "tiny"])
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"somebody's night"]


def test_another_seed_in_the_same_folder_replaces_the_cohort(tmp_path):
    # the scorer's letter, part of the hypnogram's name, follows the seed
    for seed in range(4):
        options = ["--output", str(tmp_path), "--profile", "tiny", "--jobs", "1"]
        generate_demo_data.main([*options, "--seed", str(seed)])
        assert len(sleepedf_in(tmp_path)) == 2


def test_the_generator_refuses_folders_of_others(tmp_path):
    (tmp_path / "SC4991E0-PSG.edf").touch()
    with pytest.raises(UserError, match="SC4991E0"):
        generate_demo_data.main(["--output", str(tmp_path), "--profile", "tiny"])


def test_the_context_of_an_epoch_is_what_lies_before_and_after_it():
    stages = np.array([0, 0, 2, 2, 2, -1, 3, 3])
    context = context_of(stages)
    assert context.shape == (8, 20)
    before, after = context[3, :5], context[3, 5:10]  # of four epochs: W W N2, and N2 ? N3 N3
    np.testing.assert_allclose(before, [2 / 3, 0, 1 / 3, 0, 0])
    np.testing.assert_allclose(after, [0, 0, 1 / 3, 2 / 3, 0])
    assert (context[0, :5] == 0).all() and (context[-1, 5:10] == 0).all()


def test_deep_sleepers_and_levels_follow_the_same_factors():
    subjects = [draw_subject(3, k, Difficulty(1)) for k in range(300)]
    factors = np.stack([s.factors for s in subjects])
    deep = np.log([s.traits.deep for s in subjects])
    for loading, own in zip(law().trait_loadings[0], factors.T, strict=True):
        assert np.corrcoef(own, deep)[0, 1] == pytest.approx(loading, abs=0.16)
    levels = np.stack([levels_of_night(s, 1) for s in subjects])
    spread = np.sqrt((law().loadings_db ** 2).sum(axis=-1) + law().own_db ** 2)
    np.testing.assert_allclose(levels.mean(axis=0), law().mean_db, atol=0.6)
    np.testing.assert_allclose(levels.std(axis=0) / spread, 1, atol=0.2)


def test_odd_nights_are_as_frequent_as_declared():
    kinds = [odd_night(draw_subject(4, k, Difficulty(1)), 7.0) for k in range(400)]
    assert 0.18 < np.mean([kind is not None for kind, _ in kinds]) < 0.30
    hours = dict(kinds)
    assert set(hours) == {None, *ODD_NIGHTS}
    assert hours["all_wake"] == 10 and 1 <= hours["nap"] <= 2 and hours[None] == 7
    nap = make(special="nap", hours=1.5).timeline.stages
    assert (nap == 2).any() and (nap == 4).mean() < 0.2
    awake = make(special="insomnia", hours=7).timeline.stages
    assert (awake == 0).mean() > (make(hours=7).timeline.stages == 0).mean()
