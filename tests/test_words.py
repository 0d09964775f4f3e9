"""One word for one thing: what the glossary replaced is nowhere in names, prose or pages."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = {
    ".py", ".md", ".ipynb", ".html", ".js", ".css", ".json", ".csv", ".toml", ".yml", ".cff",
    ".txt", ".svg", "",
}  # fmt: skip
# parts of names (snake or camel case) -> say instead
NAMES = {
    "told|says": "printed, reported, listed",
    "spoils?|spoilt|dirty": "corrupted",
    "doubts?|doubtful": "quality flag, uncertain",
    "levelled|levelling": "equalised",
    "trust|judged": "explanation metrics, evaluated",
    "worth": "importance, of interest",
    "ready|settle|settled": "initialised, resolve_defaults",
    "found|there": "the name of the thing",
    "evenly|lanes": "class-balanced, parallel nights",
    "looks|invented": "evaluation log, simulated",
    "people": "subjects",
}
WHOLE_NAMES = {"Family": "TrainingSpec", "Kept": "RolePreprocessing", "keep_to": "check_same_…"}
# in docstrings, comments, messages, help, docs and pages; "there is" is plain English
PROSE = NAMES | {
    "found": "detected, listed, there is no",
    "one average spectrum": "spectral equalisation",
    "table of trust": "explanation metrics",
    "speaks? (?:for|against)": "evidence for / against",
    "keep_to": "check_same_experiment",
    "lines between samples": "linear interpolation",
    "(?:gone|goes|going|went) on": "resumed, continues",
}
PROSE.pop("found|there")
THINGS = "epochs?|nights?|files?|rows?|columns?|lines?|values?|codes?|figures?|pages?|folders?"
UNITS = "seconds?|minutes?|steps?|times|batch(?:es)?|validations?|processes|windows?|one|once"
PER = re.compile(
    rf"\b(?:{THINGS}|{UNITS}) an? (?:night|epoch|pass|record|recording|stage|subject|fold|channel|"
    r"run|method|bin|step|line|trial|model|format|second|cohort|kind|seed|role|row|hour)\b",
    re.IGNORECASE,
)
# old names that must still open or be accepted, and tables from old to new
OLD_NAMES = {
    ("docs/migrating.md", None),
    ("docs/renamed.csv", None),
    ("tests/test_words.py", None),
    ("datasets/store/preparation.py", "levelled"),  # a preset of stores prepared before
    ("tests/test_equalisation.py", "levelled"),
    ("evaluation/probe_pretrained.py", "people"),  # a key of probes.json written before
    ("tests/test_ssl_evaluate.py", "people"),
    ("utils/manifest.py", "found"),  # found_events.csv of interpretations from before
}


def tracked() -> list[str]:
    """Text files of the repository, as git or the folder lists them."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    names = listed or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")]
    return [name for name in names if Path(name).suffix in TEXT and (ROOT / name).exists()]


def matches(name: str) -> Iterator[tuple[int, str, str]]:
    """Line, word and what to say instead, of every word of the glossary in a file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield from ((token.start[0], *pair) for pair in in_name(token.string))
            elif token.type in (tokenize.STRING, tokenize.COMMENT):
                yield from in_prose(token.string, token.start[0])
    else:
        yield from in_prose(text, 1)


def in_name(name: str) -> Iterator[tuple[str, str]]:
    """Words of the glossary among the parts of an identifier."""
    if name in WHOLE_NAMES:
        yield name, WHOLE_NAMES[name]
    for part in re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_"):
        yield from ((part, say) for words, say in NAMES.items() if re.fullmatch(words, part))


def in_prose(text: str, first: int) -> Iterator[tuple[int, str, str]]:
    """Words of the glossary in prose that begins in line ``first``."""
    for number, line in enumerate(text.split("\n"), first):
        for words, say in PROSE.items():
            for match in re.finditer(rf"\b(?:{words})\b", line, re.IGNORECASE):
                yield number, match[0], say
        for match in PER.finditer(line):
            yield number, match[0], "per"


@pytest.mark.parametrize("name", tracked())
def test_no_word_that_the_glossary_replaced(name):
    left = [
        f"{name}:{number}: {word!r}: say {say}"
        for number, word, say in matches(name)
        if not {(name, None), (name, word.lower())} & OLD_NAMES
    ]
    assert not left, "\n".join(left)


def test_the_glossary_would_catch_its_words():
    assert [word for word, _ in in_name("doubtful_epochs")] == ["doubtful"]
    assert [word for word, _ in in_name("FoundLabels")] == ["found"]
    assert not list(in_name("foundation_family"))
    line = "It says what is worth a look: one file a night, and killed runs are gone on with."
    words = {word for _, word, _ in in_prose(line, 1)}
    assert words == {"says", "worth", "file a night", "gone on"}
    assert not list(in_prose("There is one file per night.", 1))
