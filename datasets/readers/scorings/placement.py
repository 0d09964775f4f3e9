"""Rows of a scoring on the 30 s epochs of a recording: by their own times, or in order.

No onset is rounded: an epoch takes the stage that fills more than half of it, and where the rows
do not begin on epochs, that is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from datasets.readers.scorings.scoring import Recorded
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, STAGES, UNSCORED

TOLERANCE = 2e-3  # s, float noise in onsets and lengths
_SHORTER_EPOCHS = (20, 10, 5, 1)  # s, that lists without times may have


@dataclass(frozen=True)
class Placed:
    """A stage with its onset and length in s; ``seconds`` is ``None`` where the file has none."""

    onset: float
    seconds: float | None
    code: int
    word: str = ""

    @property
    def end(self) -> float:
        """Where it ends, in s; of a known length alone."""
        return self.onset + (self.seconds or 0.0)


def of_times(
    placed: Sequence[Placed], recorded: Recorded, path: Path, *, until_next: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Stages per 30 s epoch, int8, of stages with times in any order, and what was assumed.

    Raises:
        UserError: two stages at one time, or none inside the recording.
    """
    once = {(row.onset, row.seconds, row.code): row for row in placed}
    ordered = sorted(once.values(), key=lambda row: (row.onset, row.code))
    for a, b in pairwise(row for row in ordered if row.code != UNSCORED):
        if b.onset - a.onset < TOLERANCE:
            raise UserError(f"{path}: two stages at {b.onset:g} s; correct the file")
    rows, notes = _with_lengths(ordered, recorded, until_next)
    rows = [replace(row, onset=_snapped(row.onset), seconds=_snapped(row.seconds)) for row in rows]
    scored = [row for row in rows if row.code != UNSCORED]
    for a, b in pairwise(scored):
        if b.onset < a.end - min(1.0, a.seconds / 2):
            raise UserError(f"{path}: two stages at {b.onset:g} s; correct the file")
    outside = [row for row in scored if row.end <= 0 or row.onset >= recorded.seconds]
    if len(outside) == len(scored) > 0:
        raise UserError(
            f"{path}: scores no epoch of {recorded.name}: its stages lie from {scored[0].onset:g} "
            f"to {scored[-1].end:g} s, the recording lasts {recorded.seconds:g} s"
        )
    last = max((row.end for row in scored), default=0.0)
    if last > recorded.seconds + EPOCH_SECONDS:
        notes.append(f"scores {last:g} s, the recording lasts {recorded.seconds:g} s")
    if before := sum(row.end <= 0 for row in scored):
        notes.append(f"{before} of its stages lie before the recording")
    odd = [row for row in scored if row.onset % EPOCH_SECONDS or row.seconds % EPOCH_SECONDS]
    if odd:
        notes.append(
            f"{len(odd)} of {len(scored)} stages do not fill whole 30 s epochs (first at "
            f"{odd[0].onset:g} s): an epoch takes the stage that fills more than half of it"
        )
    return _filled(scored, recorded), notes


def _snapped(seconds: float) -> float:
    """Seconds without float noise around whole epochs."""
    whole = round(seconds / EPOCH_SECONDS) * EPOCH_SECONDS
    return float(whole) if abs(seconds - whole) <= TOLERANCE else seconds


def _with_lengths(
    rows: list[Placed], recorded: Recorded, until_next: bool
) -> tuple[list[Placed], list[str]]:
    """Rows in order, those without a length until the next, or one epoch long."""
    open_rows = [row for row in rows if not row.seconds]
    if not open_rows:
        return rows, []
    steps = [b.onset - a.onset for a, b in pairwise(rows) if not a.seconds]
    step = _usual(steps)
    # a row per epoch repeats stages, a row per change does not
    same = [_is_same(a, b) for a, b in pairwise(rows) if not a.seconds]
    others = sum(abs(one - step) > 1 for one in steps)
    repeats = 4 * sum(same) > len(same) or (any(same) and 2 * others < len(steps))
    irregular = others > 0
    changes = until_next or (irregular and not repeats)
    # where no row has a length, the last change lasts to the end
    to_end = changes and (until_next or len(open_rows) == len(rows))
    end = max(recorded.seconds, rows[-1].onset + step) if to_end else rows[-1].onset + step
    following = [row.onset for row in rows[1:]] + [end]
    whole = [
        row
        if row.seconds
        else replace(row, seconds=(nxt if changes else min(nxt, row.onset + step)) - row.onset)
        for row, nxt in zip(rows, following, strict=True)
    ]
    notes = ["a stage lasts until the next row"] if changes and not until_next else []
    return [row for row in whole if row.seconds > TOLERANCE], notes


def _is_same(a: Placed, b: Placed) -> bool:
    """Whether two rows say the same: S3 and S4 do not, though both are N3."""
    return a.code == b.code and (a.word == b.word or a.code != STAGES.index("N3"))


def _usual(steps: Sequence[float]) -> float:
    """The commonest step between rows if it can be an epoch, else 30 s."""
    counted = Counter(round(step, 2) for step in steps if step > 0)
    usual = counted.most_common(1)[0][0] if counted else EPOCH_SECONDS
    return usual if 1 <= usual <= 60 else float(EPOCH_SECONDS)


def _filled(rows: Sequence[Placed], recorded: Recorded) -> np.ndarray:
    """Stages (n,) int8: what fills more than half of an epoch, -1 where nothing does."""
    n = int(np.ceil(recorded.seconds / EPOCH_SECONDS - 1e-9))
    covered = np.zeros((n, len(STAGES)))
    for row in rows:
        begin, end = max(0.0, row.onset), min(row.end, float(n * EPOCH_SECONDS))
        first, last = int(begin // EPOCH_SECONDS), int(np.ceil(end / EPOCH_SECONDS))
        if last - first > 2:
            covered[first + 1 : last - 1, row.code] += EPOCH_SECONDS
        for epoch in {first, last - 1} if end > begin else ():
            inside = min(end, (epoch + 1) * EPOCH_SECONDS) - max(begin, epoch * EPOCH_SECONDS)
            covered[epoch, row.code] += inside
    stages = covered.argmax(axis=1)
    return np.where(covered.max(axis=1, initial=0) > EPOCH_SECONDS / 2 + TOLERANCE, stages,
                    UNSCORED).astype(np.int8)  # fmt: skip


def of_order(
    codes: Sequence[int], recorded: Recorded, path: Path, *, epoch: float | None = None
) -> tuple[np.ndarray, list[str]]:
    """Stages per 30 s epoch of a list with one code per epoch, and what was assumed.

    ``epoch`` is the length in s that the file states. Without one, a list of another number than
    the recording's epochs has shorter epochs, or a value per sample, if it fits exactly.

    Raises:
        UserError: the list fits nothing.
    """
    seconds, n = recorded.seconds, len(codes)
    if epoch and not 1e-3 <= epoch <= 3600:
        raise UserError(f"{path}: epochs of {epoch:g} s; correct the file")
    lengths = [epoch] if epoch else [EPOCH_SECONDS, *_SHORTER_EPOCHS]
    lengths += [] if epoch else [1 / rate for rate in dict.fromkeys(recorded.rates) if rate > 1]
    length = next((one for one in lengths if fits(n, one, seconds)), None)
    if length is None:
        stated = epoch or EPOCH_SECONDS
        raise UserError(
            f"{path}: {n} stages for {int(seconds / stated + 1e-9)} epochs of {stated:g} s: an "
            "epoch is missing or too many, and no other length of epochs fits; correct the list, "
            "or give it a column of onsets"
        )
    notes = [] if length == EPOCH_SECONDS else [f"{n} stages of {length:g} s each"]
    if n * length > seconds + TOLERANCE:
        notes.append(f"{n} stages for {seconds / length:.2f} epochs: the last is cut short")
    rows, at = [], 0
    for code, run in groupby(codes):
        size = len(list(run))
        if code != UNSCORED:
            rows.append(Placed(_snapped(at * length), _snapped(size * length), code))
        at += size
    return _filled(rows, recorded), notes


def fits(n: int, length: float, seconds: float) -> bool:
    """Whether ``n`` epochs of ``length`` s are those of a recording; the last may be cut short."""
    whole = int(seconds / length + 1e-6)
    return n == whole or (n == whole + 1 and seconds - whole * length > 1e-3 * length)
