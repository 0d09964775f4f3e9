"""Cohorts fetched from a server that stalls, cuts and lies: whole and checked, or one line."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import preprocess
import preprocess_sleepedf
import preprocess_ucddb
from datasets.readers import cohort_listing, remote_file
from datasets.readers.profiles import profile
from datasets.readers.profiles.cohort_download import download_cohort, wanted_subjects
from datasets.readers.profiles.download import Download
from datasets.readers.profiles.profile import Profile
from datasets.readers.remote_file import Unreachable, _Redirects
from datasets.store.store import Store
from tests.cohort_files import hmc
from tests.cohort_files.written import assert_stages
from tests.cohort_server import PAGE, CohortServer, checksums, part, send
from tests.edf_files import write_psg
from tests.listing import names
from tests.test_ucddb import CODES
from utils.errors import UserError
from utils.files import claim, is_ours

RNG = np.random.default_rng(0)
FOLDER = "files/toy/1.0"
SUMS = f"{FOLDER}/SHA256SUMS.txt"
SUBJECTS = ("n1", "n2", "n10")
EDF = f"{FOLDER}/rec/n2.edf"
FILES = {
    f"{FOLDER}/{path}": RNG.bytes(size)
    for path, size in {
        **{f"rec/{name}.edf": 200_000 for name in SUBJECTS},
        **{f"rec/{name}.txt": 900 for name in SUBJECTS},
        "about.csv": 50,
        "rec/n1.edf.st": 500,
        "LICENSE.txt": 100,
    }.items()
}
ALL = sorted(["about.csv", *(f"rec/{n}.{kind}" for n in SUBJECTS for kind in ("edf", "txt"))])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses between attempts, and servers that stall are given up soon."""
    monkeypatch.setattr(remote_file, "_PAUSE_SECONDS", 0)
    soon = partial(remote_file.fetch_checked, timeout=0.2)
    monkeypatch.setattr(cohort_listing, "fetch_checked", soon)


@pytest.fixture
def server():
    running = CohortServer(FILES | {SUMS: checksums(FILES, FOLDER)})
    yield running
    running.stop()


def toy(server: CohortServer, **changes) -> Profile:
    way = Download(
        "physionet",
        addresses=(f"{server.url}/{FOLDER}",),
        files=(r"rec/(?P<subject>n\d+)\.(edf|txt)", r"about\.csv"),
        subjects=len(SUBJECTS),
    )
    about = (1, "toy", "Toy cohort", "open", "ODC-By-1.0", "https://example.org/toy", ("A 2000",))
    return Profile(*about, download=replace(way, **changes))


def listed_below(folder: Path) -> list[str]:
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(p.relative_to(folder).as_posix() for p in files)


def is_whole(folder: Path, path: str) -> bool:
    return (folder / path).read_bytes() == FILES[f"{FOLDER}/{path}"]


def refused(match: str, *words, **more) -> str:
    with pytest.raises(UserError, match=match) as error:
        download_cohort(*words, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_all_of_a_cohort_arrives_once_with_its_list_and_terms(server, tmp_path, capsys):
    download_cohort(toy(server), tmp_path)
    assert listed_below(tmp_path) == sorted([*ALL, "SHA256SUMS.txt"])
    assert all(is_whole(tmp_path, path) and is_ours(tmp_path / path) for path in ALL)
    printed = capsys.readouterr().out
    assert "Toy cohort: https://example.org/toy" in printed and "licence: ODC-By-1.0" in printed
    assert "cite: A 2000" in printed and "7 files, 0 of them here; 0.6 MB to fetch" in printed
    server.stop()  # what is here needs no server, and is not asked for
    download_cohort(toy(server), tmp_path)
    assert "7 files, 7 of them here; 0.0 MB to fetch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["1-2"], ["n1", "n2"]),
        (["3"], ["n10"]),
        (["n10", "1"], ["n1", "n10"]),
        (["n1*"], ["n1", "n10"]),
        ([], ["n1", "n2", "n10"]),
    ],
)
def test_some_subjects(server, tmp_path, words, chosen):
    download_cohort(toy(server), tmp_path, words)
    expected = {"about.csv", *(f"rec/{n}.{kind}" for n in chosen for kind in ("edf", "txt"))}
    assert set(listed_below(tmp_path)) == expected | {"SHA256SUMS.txt"}
    assert {path for path, _ in server.asked} == {f"{FOLDER}/{p}" for p in expected} | {SUMS}


@pytest.mark.parametrize("word", ["0", "4", "2-9", "3-1", "n3", "N1", "x*", "-1", "1-", ""])
def test_unknown_subjects_are_one_line(word):
    with pytest.raises(UserError, match=r"--subjects .*there are 3"):
        wanted_subjects([word], ["n1", "n2", "n10"])


def cut_after(count: int):
    """Every answer breaks after ``count`` bytes."""

    def answer(request, data, start, stop):
        spread = f"bytes {start}-{stop - 1}/{len(data)}"
        sent = data[start : min(stop, start + count)]
        send(request, sent, 206, Content_Range=spread, Content_Length=stop - start)

    return answer


def busy_at_first(code: int):
    """The first two answers ask to come back."""
    left = [code, code]

    def answer(request, data, start, stop):
        if left:
            request.send_error(left.pop())
        else:
            part(request, data, start, stop)

    return answer


def leads_to(place: str):
    return lambda request, data, start, stop: send(request, b"", 302, Location=place)


HARMLESS = {
    "cut": cut_after(90_000),
    "busy": busy_at_first(503),
    "too_many": busy_at_first(429),
    "no_ranges": lambda r, data, start, stop: send(r, data),
    "from_the_start": lambda r, data, start, stop: part(r, data, 0, len(data)),
}


@pytest.mark.parametrize("answer", HARMLESS.values(), ids=HARMLESS)
def test_what_can_be_fetched_all_the_same(server, tmp_path, answer):
    server.answers[EDF] = answer
    download_cohort(toy(server), tmp_path)
    assert is_whole(tmp_path, "rec/n2.edf") and "rec/n2.edf.part" not in listed_below(tmp_path)


def test_cut_files_are_resumed_with_the_missing_bytes_alone(server, tmp_path):
    server.answers[EDF] = cut_after(90_000)
    download_cohort(toy(server), tmp_path)
    assert [start for path, start in server.asked if path == EDF] == [0, 90_000, 180_000]


def test_a_line_that_breaks_often_but_brings_megabytes_is_not_given_up(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote_file, "_MUCH", 20_000)
    server.answers[EDF] = cut_after(25_000)
    download_cohort(toy(server), tmp_path)
    assert is_whole(tmp_path, "rec/n2.edf")
    server.answers[EDF] = cut_after(15_000)
    (tmp_path / "rec/n2.edf").unlink()
    refused("broke 5 times", toy(server), tmp_path)


def test_redirects_are_followed(server, tmp_path):
    server.files["moved/n2.edf"] = FILES[EDF]
    server.answers[EDF] = leads_to(f"{server.url}/moved/n2.edf")
    download_cohort(toy(server), tmp_path)
    assert is_whole(tmp_path, "rec/n2.edf")


@pytest.mark.parametrize(
    ("was", "leads", "is_followed"),
    [
        ("https://a.org/x", "https://b.org/x", True),
        ("http://a.org/x", "https://a.org/x", True),
        ("http://a.org/x", "http://b.org/x", True),
        ("https://a.org/x", "http://a.org/x", False),
        ("http://a.org/x", "ftp://a.org/x", False),
    ],
)
def test_redirects_never_lead_out_of_encryption(was, leads, is_followed):
    ask = remote_file.Request(was)
    if is_followed:
        assert _Redirects().redirect_request(ask, None, 302, "", {}, leads).full_url == leads
    else:
        with pytest.raises(Unreachable, match="which is not followed"):
            _Redirects().redirect_request(ask, None, 302, "", {}, leads)


LIES = {
    "wrong_bytes": (lambda r, data, a, b: part(r, bytes(len(data)), a, b), "SHA-256 .* expected"),
    "another_length": (lambda r, data, a, b: part(r, data + b"more", a, b), "SHA-256 .* expected"),
    "shorter": (lambda r, data, a, b: part(r, data[:1000], a, min(b, 1000)), "SHA-256 .* expected"),
    "page": (lambda r, data, a, b: send(r, PAGE, Content_Type="text/html"), "sends a page of text"),
    "page_unnamed": (lambda r, data, a, b: send(r, PAGE), "SHA-256 .* expected"),
    "gone": (lambda r, data, a, b: r.send_error(404), "404"),
    "no_such_range": (lambda r, data, a, b: r.send_error(416), "416"),
    "loop": (lambda r, data, a, b: send(r, b"", 302, Location=r.path), "302"),
}


@pytest.mark.parametrize(("answer", "fault"), LIES.values(), ids=LIES)
def test_what_is_not_the_published_file_is_never_kept(server, tmp_path, answer, fault):
    server.answers[EDF] = answer
    refused(rf"n2\.edf: (is not the published|cannot be reached).*{fault}", toy(server), tmp_path)
    assert not [path for path in listed_below(tmp_path) if path.startswith("rec/n2.edf")]
    server.answers.clear()
    download_cohort(toy(server), tmp_path)  # the same command
    assert all(is_whole(tmp_path, path) for path in ALL)


def test_a_server_that_stalls_is_given_up_and_resumed(server, tmp_path):
    def stall(request, data, start, stop):
        if stop - start == 1:
            part(request, data, start, stop)
            return
        cut_after(1000)(request, data, start, stop)
        server.stopped.wait(2)

    server.answers[EDF] = stall
    refused(r"n2\.edf: the connection broke 5 times \(.*timed out", toy(server), tmp_path)
    assert "rec/n2.edf.part" in listed_below(tmp_path) and is_whole(tmp_path, "rec/n10.edf")
    server.answers.clear()
    download_cohort(toy(server), tmp_path)
    assert [start for path, start in server.asked if path == EDF][-1] == 5000


def test_a_killed_fetch_is_resumed(server, tmp_path):
    place = tmp_path / "rec/n2.edf.part"
    claim(place).write_bytes(FILES[EDF][:150_000])
    download_cohort(toy(server), tmp_path)
    assert [start for path, start in server.asked if path == EDF] == [150_000]
    assert is_whole(tmp_path, "rec/n2.edf") and not place.exists()


def test_one_bad_file_does_not_keep_the_others_from_coming_but_a_dead_server_is_left(
    server, tmp_path
):
    bad = [f"{FOLDER}/rec/n1.edf", f"{FOLDER}/rec/n2.txt"]
    server.answers |= dict.fromkeys(bad, LIES["wrong_bytes"][0])
    refused(r"\(2 files could not be fetched\)", toy(server), tmp_path)
    assert sum(is_whole(tmp_path, p) for p in ALL if (tmp_path / p).exists()) == len(ALL) - 2
    shutil.rmtree(tmp_path / "rec")
    paths = [f"{FOLDER}/{path}" for path in ALL]
    server.answers |= dict.fromkeys(paths, LIES["wrong_bytes"][0])
    refused(r"\(3 files could not be fetched\)", toy(server), tmp_path)


def test_files_fetched_otherwise_are_used_where_they_are(server, tmp_path):
    for path in ALL:
        place = tmp_path / "physionet.org" / FOLDER / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(FILES[f"{FOLDER}/{path}"])
    download_cohort(toy(server), tmp_path)
    assert [path for path, _ in server.asked] == [SUMS]


def test_files_of_one_name_in_several_folders_do_not_replace_each_other(tmp_path):
    """As a person's folder may have it: p1/night.edf is not where p2/night.edf belongs."""
    files = {f"{FOLDER}/p{n}/night.edf": RNG.bytes(500) for n in (1, 2)}
    server = CohortServer(files | {SUMS: checksums(files, FOLDER)})
    nights = toy(server, files=(r"(?P<subject>p\d)/night\.edf",), subjects=2)
    download_cohort(nights, tmp_path, ["p1"])
    download_cohort(nights, tmp_path, ["p2"])
    server.stop()
    for n in (1, 2):
        path = f"p{n}/night.edf"
        assert (tmp_path / path).read_bytes() == files[f"{FOLDER}/{path}"]


def test_a_damaged_file_of_the_user_stays_and_nothing_is_fetched(server, tmp_path):
    place = tmp_path / "mine" / "n2.edf"
    place.parent.mkdir()
    place.write_bytes(FILES[EDF][:-1])
    refused(r"mine/n2\.edf: is there already.*remove it", toy(server), tmp_path)
    assert [path for path, _ in server.asked] == [SUMS]
    assert place.read_bytes() == FILES[EDF][:-1]


def test_too_full_a_disk_is_refused_before_anything_is_fetched(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(250_000))
    refused(r"0\.6 MB are missing, and its disk has 0\.2 MB free", toy(server), tmp_path)
    assert [path for path, _ in server.asked] == [SUMS]
    claim(tmp_path / "rec/n2.edf.part").write_bytes(FILES[EDF][:199_000])  # half of it is here
    download_cohort(toy(server), tmp_path, ["n2"])
    usage_of_two = usage(1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage_of_two)
    refused("are missing", toy(server), tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (PAGE, "line 1 is none of a list"),
        (b"\xff\xfe\x00", "not a text"),
        (b"", "lists 0 subjects of Toy cohort, which has 3"),
        (checksums(FILES, FOLDER)[:200], "line 3 is none|lists 1 subjects|line 2 is none"),
        (b"a" * 64 + b" ../rec/n1.edf\n", "cannot be the name"),
        (b"a" * 64 + b" /etc/passwd\n", "cannot be the name"),
    ],
    ids=["page", "bytes", "empty", "cut", "upwards", "absolute"],
)
def test_a_list_that_is_none_is_one_line_and_not_kept(server, tmp_path, text, match):
    server.files[SUMS] = text
    refused(match, toy(server), tmp_path)
    assert listed_below(tmp_path) == []


def test_a_list_that_is_cut_on_its_way_is_asked_for_again(server, tmp_path):
    whole, answers = server.files[SUMS], [100, 100]

    def answer(request, data, start, stop):
        send(request, data[: answers.pop() if answers else None], Content_Length=len(whole))

    server.answers[SUMS] = answer
    download_cohort(toy(server), tmp_path)
    assert (tmp_path / "SHA256SUMS.txt").read_bytes() == whole


def test_the_second_address_is_used_where_the_first_has_no_list(server, tmp_path):
    addresses = (f"{server.url}/mirror", f"{server.url}/{FOLDER}")
    download_cohort(toy(server, addresses=addresses), tmp_path)
    assert all(is_whole(tmp_path, path) for path in ALL)
    (tmp_path / "rec/n2.edf").unlink()
    download_cohort(toy(server, addresses=addresses), tmp_path)  # resumed by the kept list
    assert is_whole(tmp_path, "rec/n2.edf")
    refused("mirror/SHA256SUMS.txt: .*404", toy(server, addresses=addresses[:1]), tmp_path / "b")
    server.stop()
    refused("Connection refused.*try again later", toy(server), tmp_path / "c")
    assert listed_below(tmp_path / "b") == listed_below(tmp_path / "c") == []


# ---------------------------------------------------------------- OpenNeuro

SET = "openneuro.org/ds1"
NIGHT = f"{SET}/sub-2/eeg/sub-2_eeg.edf"
KINDS = ("eeg.edf", "events & more.tsv")
NIGHTS = [f"sub-{n}/eeg/sub-{n}_{kind}" for n in (1, 2, 10) for kind in KINDS]
BIDS = {
    **{f"{SET}/{path}": RNG.bytes(3000) for path in NIGHTS},
    f"{SET}/participants.tsv": b"pid\n",
    f"{SET}/README": b"x",
    "openneuro.org/ds10/README": b"y",
}


@pytest.fixture
def bucket():
    running = CohortServer(dict(BIDS))
    yield running
    running.stop()


def bids(server: CohortServer) -> Profile:
    files = (r"(?P<subject>sub-\d+)/eeg/.*\.(edf|tsv)", r"participants\.tsv")
    address = (f"{server.url}/{SET}",)
    return toy(server, kind="openneuro", addresses=address, files=files)


def test_a_data_set_in_a_bucket_arrives_page_by_page(bucket, tmp_path):
    download_cohort(bids(bucket), tmp_path, ["1-2"])
    wanted = [p for p in BIDS if p.startswith((f"{SET}/sub-1/", f"{SET}/sub-2/", f"{SET}/part"))]
    assert listed_below(tmp_path) == sorted(p.removeprefix(f"{SET}/") for p in wanted)
    assert all((tmp_path / p.removeprefix(f"{SET}/")).read_bytes() == BIDS[p] for p in wanted)
    bucket.asked.clear()
    download_cohort(bids(bucket), tmp_path, ["1-2"])
    assert {path for path, _ in bucket.asked} == {"openneuro.org"}


def test_its_checksums_count_where_it_has_some(bucket, tmp_path):
    bucket.tags[NIGHT] = "0" * 32
    refused(r"MD5 \w{32}, expected 0{32}", bids(bucket), tmp_path)
    bucket.tags[NIGHT] = "0" * 32 + "-3"  # sent in three parts: no checksum of the file
    download_cohort(bids(bucket), tmp_path)
    bucket.files[NIGHT] += b"longer"
    bucket.tags[NIGHT] = ""
    download_cohort(bids(bucket), tmp_path)  # ours, of an older release: replaced
    assert (tmp_path / "sub-2/eeg/sub-2_eeg.edf").read_bytes() == bucket.files[NIGHT]


@pytest.mark.parametrize(
    "text",
    [
        PAGE,
        b"<Error><Code>AccessDenied</Code></Error>",
        b"<ListBucketResult><Contents><Key>ds1/a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>ds1/a</Key><Size>x</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>a</NextContinuationToken></ListBucketResult>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult>&b;</ListBucketResult>',
    ],
    ids=["page", "denied", "no_size", "no_number", "no_token", "for_ever", "entity"],
)
def test_a_listing_that_is_none_is_one_line(bucket, tmp_path, text, monkeypatch):
    monkeypatch.setattr(bucket, "listing", lambda request, *_: send(request, text))
    refused("cannot be listed", bids(bucket), tmp_path)
    assert listed_below(tmp_path) == []


def test_a_listing_cannot_lead_out_of_the_folder(bucket, tmp_path):
    bucket.files[f"{SET}/../../evil.tsv"] = b"1"
    refused("cannot be the name", bids(bucket), tmp_path / "a")
    assert listed_below(tmp_path) == []


# ---------------------------------------------------------------- declarations and scripts


@pytest.mark.parametrize("name", profile.names())
def test_every_declaration_is_whole(name, tmp_path, capsys):
    cohort = profile.load(name)
    assert cohort.name == name and cohort.cite and cohort.page.startswith("http")
    way = cohort.download
    for address in way.addresses:
        assert re.fullmatch(r"https://[^ ]*[^/ ]", address)
    if way.kind == "page":
        refused("cannot be fetched by a program", cohort, tmp_path)
        printed = capsys.readouterr().out
        assert cohort.page in printed and f"  {len(way.steps)}. " in printed
    else:
        assert way.subjects > 0 and "(?P<subject>" in way.files[0]


# paths as the fact sheet gives them, the subject, and neighbours that are not wanted
PATHS = {
    "hmc": ("recordings/SN001.edf recordings/SN001_sleepscoring.edf "
            "recordings/SN001_sleepscoring.txt", "SN001", "recordings/SN001.hea RECORDS"),
    "cap": ("nfle27.edf nfle27.txt", "nfle27", "n1.edf.st cap.pdf"),
    "cinc2018": ("training/tr03-0005/tr03-0005.hea training/tr03-0005/tr03-0005.mat "
                 "training/tr03-0005/tr03-0005.arousal", "tr03-0005",
                 "training/tr03-0005/tr03-0005-arousal.mat test/te03-0001/te03-0001.mat"),
    "slpdb": ("slp02b.hea slp02b.dat slp02b.st", "slp02", "slp02b.ecg"),
    "ucddb": ("ucddb018.rec ucddb018_stage.txt", "ucddb018", "ucddb018_respevt.txt"),
    "sleepedf": ("sleep-cassette/SC4192E0-PSG.edf sleep-cassette/SC4192EV-Hypnogram.edf",
                 "SC419", "SC-subjects.xls"),
    "boas": ("sub-12/eeg/sub-12_task-Sleep_acq-psg_eeg.edf "
             "sub-12/eeg/sub-12_task-Sleep_acq-psg_events.tsv", "sub-12",
             "sub-12/eeg/sub-12_task-Sleep_acq-headband_eeg.edf README"),
    "dodh": ("dodh/25a6b2b0-4d09-561b-82c6-f09bb271d3be.h5",
             "25a6b2b0-4d09-561b-82c6-f09bb271d3be", "dodh/readme.txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_patterns_take_the_files_of_a_night_and_no_others(name):
    files, subject, others = PATHS[name]
    patterns = profile.load(name).download.files
    for path in files.split():
        assert [m["subject"] for p in patterns if (m := re.fullmatch(p, path))] == [subject]
    assert not [p for p in patterns for path in others.split() if re.fullmatch(p, path)]


def with_server(folder: Path, name: str, url: str, **changes) -> None:
    """A cohort's profile in ``folder``, fetched from another address."""
    value = json.loads((profile.FOLDER / f"{name}.json").read_text())
    value["download"] |= {"addresses": [f"{url}/{FOLDER}"], "subjects": 1} | changes
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kind": "ftp"}, "kind: is 'ftp'; choose from page"),
        ({"addresses": []}, "addresses: is missing"),
        ({"files": ["("]}, r"files\[0\]: '\(' is not a regular"),
        ({"pattern": "x"}, "pattern: there is no such field"),
        ({"subjects": "all"}, "subjects: is 'all', not a whole number"),
        ({"kind": "page"}, "steps: is missing"),
    ],
)
def test_a_faulty_declaration_names_its_field(tmp_path, change, match):
    with_server(tmp_path, "hmc", "http://x", **change)
    with pytest.raises(UserError, match=rf"hmc\.json: download\.{match}"):
        profile.load(str(tmp_path / "hmc.json"))


def test_ucddb_is_fetched_and_prepared_by_one_command(tmp_path, monkeypatch, capsys):
    write_psg(tmp_path / "night.edf", 9, {"C3A2": 128})
    files = {
        f"{FOLDER}/ucddb002.rec": (tmp_path / "night.edf").read_bytes(),
        f"{FOLDER}/ucddb002_stage.txt": CODES.encode(),
    }
    server = CohortServer(files | {SUMS: checksums(files, FOLDER)})
    with_server(tmp_path / "profiles", "ucddb", server.url)
    monkeypatch.setattr(profile, "FOLDER", tmp_path / "profiles")
    words = ["--raw_path", str(tmp_path / "raw"), "--save_path", str(tmp_path / "s")]
    preprocess_ucddb.main([*words, "--download", "--subjects", "1", "--jobs", "1"])
    server.stop()
    assert "1 nights" in capsys.readouterr().out
    assert names(tmp_path / "raw") == ["SHA256SUMS.txt", "ucddb002.rec", "ucddb002_stage.txt"]
    assert "download" not in json.loads((tmp_path / "s" / "dataset.json").read_text())["command"]


def test_a_declared_cohort_is_fetched_and_prepared_by_one_command(tmp_path, monkeypatch, capsys):
    expected = hmc.write(tmp_path / "published")
    files = {
        f"{FOLDER}/recordings/{path.name}": path.read_bytes()
        for path in (tmp_path / "published").rglob("*")
        if path.is_file()
    }
    server = CohortServer(files | {SUMS: checksums(files, FOLDER)})
    with_server(tmp_path / "profiles", "hmc", server.url)
    monkeypatch.setattr(profile, "FOLDER", tmp_path / "profiles")
    words = ["--cohort", "hmc", "--raw_path", str(tmp_path / "raw"), "--jobs", "1"]
    words += ["--save_path", str(tmp_path / "s"), "--download", "--subjects", "1-2"]
    preprocess.main([*words, "--folds", "kfold:2:0"])
    server.stop()
    first = sorted(expected)[:2]
    store = Store(tmp_path / "s")
    assert list(store.recordings) == first
    for name in first:
        assert_stages(store, name, expected[name])
    assert "download" not in json.loads((tmp_path / "s" / "dataset.json").read_text())["command"]
    assert "licence: CC-BY-4.0" in capsys.readouterr().out


def test_a_cohort_without_declared_files_is_fetched_and_not_prepared(tmp_path, monkeypatch, capsys):
    files = {f"{FOLDER}/n1.edf": b"1", f"{FOLDER}/n1.txt": b"2"}
    server = CohortServer(files | {SUMS: checksums(files, FOLDER)})
    way = {"kind": "physionet", "addresses": [f"{server.url}/{FOLDER}"], "subjects": 1}
    about = {name: vars(toy(server))[name] for name in ("title", "access", "licence", "page")}
    value = {"schema": 1, "name": "later", "cite": [], **about}
    value["download"] = way | {"files": [r"(?P<subject>n\d)\.(edf|txt)"]}
    (tmp_path / "later.json").write_text(json.dumps(value))
    monkeypatch.setattr(profile, "FOLDER", tmp_path)
    words = ["--cohort", "later", "--raw_path", str(tmp_path / "raw")]
    fault = "later: not prepared by --cohort yet"
    with pytest.raises(UserError, match=f"^--cohort {fault}[^\n]*$"):
        preprocess.main(words)
    preprocess.main([*words, "--download"])
    server.stop()
    assert fault in capsys.readouterr().out.splitlines()[-1]
    assert names(tmp_path / "raw") == ["SHA256SUMS.txt", "n1.edf", "n1.txt"]
    preprocess.main(["--list_cohorts"])
    assert "fetched by --download" in capsys.readouterr().out


def test_a_profile_without_download_is_named(tmp_path):
    one = replace(profile.load("hmc"), download=None)
    refused("--download: the profile of hmc declares no download; put its", one, tmp_path)


@pytest.mark.parametrize(
    ("script", "words", "match"),
    [
        (preprocess_ucddb, ["--subjects", "1"], "--subjects is of --download"),
        (preprocess_sleepedf, ["--subjects", "1"], "--subjects is of --download"),
        (
            preprocess_sleepedf,
            ["--download", "--raw_path", "x", "--subjects", "1", "--study", "both"],
            "name one --study",
        ),
    ],
)
def test_flags_that_have_no_effect_are_refused(script, words, match):
    with pytest.raises(UserError, match=match):
        script.parse_args(words)


@pytest.mark.parametrize(
    ("words", "subjects"),
    [
        ([], ["SC401", "SC482"]),
        (["--version", "2013"], ["SC401"]),
        (["--study", "telemetry"], ["ST701"]),
        (["--study", "both"], ["SC401", "SC482", "ST701"]),
        (["--subjects", "2"], ["SC482"]),
        (["--study", "telemetry", "--subjects", "1"], ["ST701"]),
    ],
)
def test_sleepedf_fetches_what_its_flags_name(tmp_path, monkeypatch, words, subjects):
    paths = ["sleep-cassette/SC4011E0-PSG.edf", "sleep-cassette/SC4822G0-PSG.edf"]
    files = {f"{FOLDER}/{path}": b"1" for path in (*paths, "sleep-telemetry/ST7011J0-PSG.edf")}
    server = CohortServer(files | {SUMS: checksums(files, FOLDER)})
    with_server(tmp_path / "profiles", "sleepedf", server.url, subjects=3)
    monkeypatch.setattr(profile, "FOLDER", tmp_path / "profiles")
    raw = tmp_path / "raw"
    with pytest.raises(UserError, match="no hypnogram file beside it"):
        preprocess_sleepedf.main([*words, "--download", "--raw_path", str(raw)])
    server.stop()
    assert [path.name[:5] for path in sorted(raw.rglob("*.edf"))] == subjects
