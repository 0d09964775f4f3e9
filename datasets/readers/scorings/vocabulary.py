"""The one vocabulary of sleep stages: what words and numbers in anybody's scoring stand for.

A word is compared without case, accents, blanks and hyphens, and without what laboratories write
around it: ``Sleep stage N2@@EEG C4``, ``SLEEP-S2``, ``Stage 2 sleep|2``, ``sleep-n2,Manual``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError
from utils.stages import STAGES, UNSCORED

# R&K, AASM, and the languages in which sleep laboratories' software names them
_STAGES = {
    0: "w wake awake waking wakefulness wakestate wk awa s0 eveil veille wach wachzustand vigilia "
    "veglia waak wakker vagen vaken despierto acordado czuwanie",
    1: "n1 s1 i nrem1 nonrem1 st1 nr1 nonrapideyemovementsleepn1",
    2: "n2 s2 ii nrem2 nonrem2 st2 nr2 nonrapideyemovementsleepn2",
    3: "n3 n4 s3 s4 iii iv nrem3 nrem4 nonrem3 nonrem4 st3 st4 nr3 nr4 sws slowwave "
    "nonrapideyemovementsleepn3 nonrapideyemovementsleepn4",
    4: "r rem remsleep sr mor rapideyemovement paradoxal sommeilparadoxal paradoxical",
}
# nobody's stage, wherever it is written
_UNSCORED = (
    "? u mt movementtime mouvement movimento movimiento bewegungszeit uns unscored notscored "
    "nostage unknownstage undefinedstage noscore unstaged notstaged"
)
# nobody's stage in a column of stages; elsewhere these may be events within one
_VAGUE = (
    "a m l art artifact artefact artefakt mvt mov move movement bewegung "
    "lights lightson lightsoff unknown undefined indeterminate disconnected noise nan na n/a none "
    "null - ns nd"
)
# sleep of a depth that nobody wrote: unscored, and named
_DEPTHLESS = {"n", "nrem", "nonrem", "t", "transitional", "nremsleep", "sleep"}
_SPELT = {word: code for code, words in _STAGES.items() for word in words.split()}
_NOBODYS = dict.fromkeys(_UNSCORED.split(), UNSCORED)
# sommeil paradoxal; elsewhere a spindle
_EMPTY = dict.fromkeys([*_VAGUE.split(), ""], UNSCORED) | {"sp": 4}
_PREFIX = re.compile(
    r"(?:s[dr]o:)?(?:(?:sleep|schlaf|slaap|somn)?[\s_-]*"
    r"(?:stage|stadium|stade|stadio|etapa|estagio|fase|phase)[\s_:-]*"
    r"|sleep[_-])?"
)
_LONGEST = 200  # characters; a stage has fewer, even with a channel behind it
# 4, 4.0, 4,0 and numpy.savetxt's 4.000000000000000000e+00
_NUMBER = re.compile(r"[+-]?\d{1,4}([.,]0{0,18})?(e[+-]?00?)?", re.ASCII)
_RK = {0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 6: UNSCORED, 7: UNSCORED, 9: UNSCORED, 10: UNSCORED}
_NEGATIVE = dict.fromkeys((-1, -2, -3, -9), UNSCORED)
VOCABULARIES = {
    "yasa": {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 8: UNSCORED, **_NEGATIVE},
    "rk": {**_RK, **_NEGATIVE},
    "deltamed": {0: UNSCORED, 1: 0, 2: 4, 3: 1, 4: 2, 5: 3, 6: UNSCORED, 7: UNSCORED, 8: UNSCORED},
    "ucddb": {0: 0, 1: 4, 2: 1, 3: 2, 4: 3, 5: 3, 6: UNSCORED, 7: UNSCORED, 8: UNSCORED},
    "dreams": {5: 0, 4: 4, 3: 1, 2: 2, 1: 3, 0: 3, **_NEGATIVE},
    "alice": {11: 0, 12: 1, 13: 2, 14: 3, 15: 4, 10: UNSCORED},
}


@dataclass(frozen=True)
class Word:
    """What one word of a scoring is: its ``code``, or ``None`` if it is no stage known here.

    ``number``: it is a bare number, whose stage depends on the vocabulary; ``prefixed``: it is
    called a stage, as in ``Sleep stage W``; ``vague``: elsewhere than among stages it could be an
    event.
    """

    code: int | None
    number: int | None = None
    prefixed: bool = False
    vague: bool = False


def described(name: str) -> str:
    """A vocabulary in words: ``rk (0 W, 1 N1, 2 N2, 3 N3, 4 N3, 5 REM)``."""
    numbers = (f"{n} {STAGES[code]}" for n, code in VOCABULARIES[name].items() if code >= 0)
    return f"{name} ({', '.join(numbers)})"


CHOICES = "; ".join(described(name) for name in VOCABULARIES)


def plain(text: str) -> str:
    """Text in lower case without accents and outer blanks."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(c for c in parts if not unicodedata.combining(c)).casefold().strip()


def word_of(text: str) -> Word:
    """What a word is, whatever is written around it."""
    if len(text) > _LONGEST:
        return Word(None)
    name = re.sub(r",\s*manual$", "", plain(text.split("@@")[0].split("|")[0]))
    name = re.sub(r"(?<=.)[(\[].*[)\]]$", "", name.strip("\"' "))  # N3 (SWS)
    if _NUMBER.fullmatch(name):
        return Word(None, number=int(float(name.replace(",", "."))))
    prefix = _PREFIX.match(name)[0]
    bare = name[len(prefix) :]
    bare = re.sub(r"(?<=.)(sleep|schlaf|sommeil)$", "", re.sub(r"[\s_.-]+", "", bare)) or bare
    if bare in _SPELT or bare in _NOBODYS:
        return Word(_SPELT.get(bare, UNSCORED), prefixed=bool(prefix))
    if prefix and bare and _NUMBER.fullmatch(bare):
        return Word(_RK.get(int(float(bare.replace(",", ".")))), prefixed=True)
    if bare in _EMPTY and (bare or not prefix):
        return Word(_EMPTY[bare], prefixed=bool(prefix), vague=not prefix)
    if bare in _DEPTHLESS and (prefix or len(bare) > 1):
        return Word(None, prefixed=True)
    # "Sleep stage X" is a stage that is unknown here, "sleep-talking" is not
    calls = "st" in prefix and not prefix[-1].isalpha()
    return Word(None, prefixed=calls and len(bare) <= 12)


def stage_of(text: str) -> int | None:
    """Code of a word that is no bare number; ``None`` if it is no stage known here."""
    return word_of(text).code


def codes_of(
    words: Sequence[str], path: Path, vocabulary: str | None = None, *, only_stages: bool = True
) -> tuple[list[int | None], list[str]]:
    """Codes of a scoring's words, ``None`` for events beside stages, and what was assumed.

    What calls itself a stage and is unknown is -1 and named. Bare numbers are read by
    ``vocabulary``, or without one where they can be only one thing.

    Raises:
        UserError: a word that is no stage, unless there are events too (not ``only_stages``);
            no stages at all; numbers that could be several things.
    """
    known = {text: word_of(text) for text in dict.fromkeys(words)}
    spelt = {word.code for word in known.values() if word.code is not None}
    numbers = [word.number for word in map(known.__getitem__, words) if word.number is not None]
    numbering, notes = _numbering(numbers, spelt, path, vocabulary) if numbers else ({}, [])
    named = Counter[str]()
    codes: dict[str, int | None] = {}
    for text, word in known.items():
        code = word.code if word.number is None else numbering.get(word.number)
        if code is None and word.number is None and word.prefixed:
            named[text], code = words.count(text), UNSCORED
        elif code is None and only_stages:
            shown = repr(text[:60])
            raise UserError(f"{path}: stage {words.index(text) + 1} is {shown}, no sleep stage")
        codes[text] = None if word.vague and not only_stages else code
    if all(code is None or (named and code == UNSCORED) for code in codes.values()):
        raise UserError(f"{path}: holds no sleep stages{_list(named)}")
    if named:
        notes.append(f"unknown stages are unscored{_list(named)}")
    return [codes[text] for text in words], notes


def _list(named: Counter[str]) -> str:
    return "".join(f"; {text!r} ({n})" for text, n in named.most_common(5))


def _numbering(
    numbers: Sequence[int], spelt: set[int], path: Path, vocabulary: str | None
) -> tuple[dict[int, int], list[str]]:
    """What bare numbers stand for, and that in words.

    Raises:
        UserError: they could stand for several things, or are not in the vocabulary.
    """
    present = sorted(set(numbers))
    if vocabulary is not None:
        known = VOCABULARIES[vocabulary]
        if strange := [n for n in present if n not in known]:
            raise UserError(
                f"{path}: {strange[0]} is not in the vocabulary {described(vocabulary)}"
            )
        return known, [f"numbers are {described(vocabulary)}"]
    fitting = [name for name in ("yasa", "rk", "alice") if _fits(name, numbers, spelt)]
    meanings = {tuple(VOCABULARIES[name][n] for n in present) for name in fitting}
    if len(meanings) != 1:
        shown = " ".join(map(str, present[:12]))
        raise UserError(
            f"{path}: its numbers {shown} could be several vocabularies; name one with "
            f"--vocabulary: {CHOICES}"
        )
    return VOCABULARIES[fitting[0]], [f"numbers are {described(fitting[-1])}"]


def _fits(name: str, numbers: Sequence[int], spelt: set[int]) -> bool:
    """Whether numbers, beside stages that are spelt, are likely to be of a vocabulary."""
    known, present = VOCABULARIES[name], set(numbers)
    if not present <= set(known):
        return False
    if spelt & {0, 4}:
        # beside R no number is REM, so 4 is R&K's; beside W alone it may be either
        rem = 4 in spelt
        return (name == "rk" and not (rem and 5 in present)) or (name == "yasa" and not rem)
    if name == "alice":
        return len(present) > 1 or present == {11}
    if min(present) < 0 and 5 not in present and name == "rk":
        return False  # artefacts and unscored epochs below 0 are YASA's
    # a night begins awake, and sleep with N1; where 1 is Wake or REM, or 5 is Wake, it would not
    scored = [n for n in numbers if 0 <= n <= 5]
    asleep = next((n for n in scored if n), 1)
    return bool(scored) and scored[0] == 0 and asleep == 1
