"""Annotations as text: damaged or hostile ones are one line, other encodings are read."""

from __future__ import annotations

import resource
import time
from datetime import datetime

import pytest

from datasets.readers.scorings import layouts, nsrr_annotations
from datasets.readers.scorings.scoring import Recorded, Wishes
from datasets.readers.scorings.xml_file import root_of
from tests.refused import refused_line

STAGES = [0, 1, 2, 3, 5]
CODES = [0, 1, 2, 3, 4]


def profusion(stages=STAGES, head: str = "", length: str = "30", note: str = "") -> str:
    rows = "".join(f"<SleepStage>{stage}</SleepStage>" for stage in stages)
    return (
        f"{head}<CMPStudyConfig><EpochLength>{length}</EpochLength><Note>{note}</Note>"
        f"<SleepStages>{rows}</SleepStages></CMPStudyConfig>"
    )


def nsrr(start: str = "0", duration: str = "30", concept: str = "Wake|0") -> str:
    return (
        "<PSGAnnotation><ScoredEvents><ScoredEvent><EventType>Stages|Stages</EventType>"
        f"<EventConcept>{concept}</EventConcept><Start>{start}</Start><Duration>{duration}"
        "</Duration></ScoredEvent></ScoredEvents></PSGAnnotation>"
    )


def line(path, read=nsrr_annotations.read_profusion) -> str:
    """What is said of a file; neither memory nor time may be wasted on it."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    said = refused_line(lambda: read(path), path)
    assert time.monotonic() - began < 5
    used = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert used < 4 * path.stat().st_size + 100e6
    return said


ENCODINGS = [
    ("big5", "名"), ("gb18030", "名"), ("shift_jis", "名"), ("euc-kr", "이름"), ("utf-7", "名"),
    ("koi8-r", "имя"), ("windows-1251", "имя"), ("iso-8859-1", "é"), ("iso-8859-15", "€"),
    ("cp1252", "é"), ("mac-roman", "é"), ("utf-8", "é"), ("utf-16", "é"), ("utf-16-le", "é"),
    ("utf-16-be", "é"), ("utf-32", "é"), ("utf-8-sig", "é"), ("ascii", "e"),
]  # fmt: skip


@pytest.mark.parametrize(("encoding", "note"), ENCODINGS, ids=[one[0] for one in ENCODINGS])
@pytest.mark.parametrize("is_declared", [True, False])
def test_xml_in_every_encoding_of_text_is_read(tmp_path, encoding, note, is_declared):
    if not is_declared and not encoding.startswith("utf"):
        note = "e"  # nobody can know: ASCII is in all of them
    if not is_declared and encoding == "utf-7":
        pytest.skip("seven bits without a declaration are ASCII")
    declared = encoding.removesuffix("-sig")
    head = f'<?xml version="1.0" encoding="{declared}"?>' if is_declared else ""
    (tmp_path / "a.xml").write_bytes(profusion(head=head, note=note).encode(encoding))
    assert nsrr_annotations.read_profusion(tmp_path / "a.xml").tolist() == CODES
    assert root_of(tmp_path / "a.xml").findtext("Note") == note


@pytest.mark.parametrize("declared", ["utf-16", "UTF-8", "utf8"])
def test_xml_in_other_bytes_than_declared_is_read(tmp_path, declared):
    """UTF-16 by its declaration, Latin-1 by its bytes: as programs of Windows leave it."""
    head = f'<?xml version="1.0" encoding="{declared}"?>'
    (tmp_path / "a.xml").write_bytes(profusion(head=head, note="é").encode("latin-1"))
    assert nsrr_annotations.read_profusion(tmp_path / "a.xml").tolist() == CODES


@pytest.mark.parametrize(
    "encoding", ["klingon", "rot13", "zlib", "base64", "punycode", "idna", "unicode_escape", "hex"]
)
def test_unknown_encodings_are_one_line(tmp_path, encoding):
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    (tmp_path / "a.xml").write_text(profusion(head=head))
    assert "not readable as XML" in line(tmp_path / "a.xml")


LAUGHS = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
HOSTILE = {
    "laughs": profusion(head=f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>', note="&l11;"),
    "quadratic": profusion(
        head=f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]>', note="&a;" * 50_000
    ),
    "external file": profusion(head='<!DOCTYPE x [<!ENTITY a SYSTEM "/etc/passwd">]>', note="&a;"),
    "external parameter": profusion(
        head='<!DOCTYPE x [<!ENTITY % a SYSTEM "http://localhost:1/x"> %a;]>'
    ),
    "undeclared": profusion(note="&a;"),
    "elements": "<CMPStudyConfig>" + "<a/>" * 250_000 + "</CMPStudyConfig>",
    "depth": "<a>" * 250_000,
    "cut": profusion()[:-30],
    "empty": "",
    "control characters": profusion(note="\x01"),
    "two roots": profusion() * 2,
    "another root": "<x/>",
    "attributes": "<CMPStudyConfig " + " ".join(f'a{k}=""' for k in range(10_000)) + ">",
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_xml_made_to_harm_is_one_line(tmp_path, kind):
    (tmp_path / "a.xml").write_text(HOSTILE[kind])
    line(tmp_path / "a.xml")


def test_a_document_type_without_entities_is_read(tmp_path):
    (tmp_path / "a.xml").write_text(profusion(head='<!DOCTYPE CMPStudyConfig SYSTEM "a.dtd">'))
    assert nsrr_annotations.read_profusion(tmp_path / "a.xml").tolist() == CODES


@pytest.mark.parametrize(
    "code", ["²", "①", "٣", "३", "9" * 5000, "-1", "1.5", "nan", "", "N2", "1_0"]
)
def test_numbers_that_are_no_codes_are_refused(tmp_path, code):
    (tmp_path / "a.xml").write_text(profusion([0, 1, code]), encoding="utf-8")
    assert "codes are numbers" in line(tmp_path / "a.xml")
    # a stage of another translator's number is nobody's stage: it is no reason to refuse a night
    (tmp_path / "b.xml").write_text(nsrr(concept=f"Stage 9|{code}"), encoding="utf-8")
    assert nsrr_annotations.read_nsrr(tmp_path / "b.xml").tolist() == [-1]


NO_TIMES = ["nan", "inf", "-inf", "3e10", "-3e10", "1e300", "9" * 5000, "", "x", "²", "30,0"]


@pytest.mark.parametrize("value", NO_TIMES, ids=lambda value: value[:10])
def test_times_beyond_any_night_are_refused(tmp_path, value):
    (tmp_path / "a.xml").write_text(nsrr(duration=value), encoding="utf-8")
    assert "not a number of seconds" in line(tmp_path / "a.xml", nsrr_annotations.read_nsrr)
    (tmp_path / "a.xml").write_text(nsrr(start=value), encoding="utf-8")
    assert "not a number of seconds" in line(tmp_path / "a.xml", nsrr_annotations.read_nsrr)
    if value:  # absent: 30 s
        (tmp_path / "a.xml").write_text(profusion(length=value), encoding="utf-8")
        line(tmp_path / "a.xml")

    def apples(path):
        return nsrr_annotations.read_apples(path, datetime(2000, 1, 1), 10)

    for cells in (f"W\t.\t.\t{value}\t...", f"W\t.\t.\t0\t{value}", f"W\t.\t.\t0\t+{value}"):
        (tmp_path / "a.annot").write_text(cells + "\n", encoding="utf-8")
        assert "has no start and stop" in line(tmp_path / "a.annot", apples)


def text(path):
    recorded = Recorded("night.edf", None, 300.0)
    return layouts.read(path, recorded, Wishes())


TABLES = {
    "a cell above the limit": "stage\n" + "N" * 140_000 + "\n",
    "a cell above the limit, quoted": 'stage,note\nN2,"' + "x" * 140_000 + '"\n',
    "5,000 digits": "9" * 5000 + "\n",
    "5,000 digits in a column": "onset,stage\n0," + "9" * 5000 + "\n",
    "5,000 digits as onset": "onset,stage\n" + "9" * 5000 + ",N2\n",
    "superscripts": "²\n",
    "infinite onset": "onset,stage\ninf,N2\n",
    "onset nan": "onset,stage\nnan,N2\n",
    "endless duration": "onset,duration,stage\n0,inf,N2\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_that_are_none(tmp_path, kind):
    (tmp_path / "a.csv").write_text(TABLES[kind], encoding="utf-8")
    line(tmp_path / "a.csv", text)
