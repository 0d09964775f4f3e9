"""Edits of an epoch's signals: more or less of one activity, rung by rung, all else untouched.

What is planted are the sleeper's own events, from the same night; what is taken away is brought
down to the night's background. Edges are smooth, and nothing outside the activity's band changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d
from scipy.signal import windows

from interpret.activities import Activity, Events, Measured

MOST_DB, STEP_DB = 15, 1  # of levels
_EDGE_SECONDS = 0.2  # over which an edit sets in and ends
_APART_SECONDS = 2.5  # between events that are counted: they come one by one
_DONORS = 20  # events of the night that are planted in turn
_ABOVE = 1.2  # of the least size, that donors of nights without events are brought to


@dataclass(frozen=True)
class Edit:
    """A ladder of edits of one epoch: more (``sign`` 1) or less (-1) of one activity.

    ``amounts`` (k,) ascend, in the activity's unit; ``gate`` (k, t) and ``planted`` (k, c, t) are
    what each rung adds to those before: the share of the own part that is taken away, and what
    comes in its place. Levels have neither: their rungs are gains.
    """

    measured: Measured
    epoch: int
    sign: int
    amounts: np.ndarray
    gate: np.ndarray | None = None
    planted: np.ndarray | None = None

    @property
    def activity(self) -> Activity:
        """What there is more or less of."""
        return self.measured.activity

    def __len__(self) -> int:
        return len(self.amounts)

    def added(self, rung: int) -> np.ndarray:
        """What is added to the channels (c, t) of the activity, in the night's unit; 0: nothing."""
        part = self.measured.part[self.epoch]
        if not rung:
            return np.zeros_like(part)
        if self.gate is None:
            return (10 ** (self.sign * self.amounts[rung - 1] / 20) - 1) * part
        gate = smoothed(self.gate[:rung].sum(axis=0), self.measured.fs)
        own = -gate * part
        return own if self.planted is None else own + self.planted[:rung].sum(axis=0)


def edits_of(measured: Measured, epoch: int, rng: np.random.Generator) -> list[Edit]:
    """More and less of an activity; without edits that would change nothing."""
    if measured.activity.how == "level":
        amounts = np.arange(STEP_DB, MOST_DB + STEP_DB, STEP_DB, dtype=float)
        return [Edit(measured, epoch, sign, amounts) for sign in (1, -1)]
    both = (_planting(measured, epoch, rng), _removing(measured, epoch))
    return [edit for edit in both if len(edit)]


def own_events(measured: Measured, epoch: int) -> Events:
    """The epoch's events, cut off at its edges, in samples from its beginning."""
    first, last = epoch * measured.length, (epoch + 1) * measured.length
    events = measured.events
    inside = events.some((events.stop > first) & (events.start < last))
    start, stop = np.maximum(inside.start, first), np.minimum(inside.stop, last)
    return Events(start - first, stop - first, inside.size)


def _removing(measured: Measured, epoch: int) -> Edit:
    """Take events away, the largest first: what is left of each is the night's background."""
    events = own_events(measured, epoch)
    events = events.some(np.argsort(-events.size, kind="stable"))
    gate = np.zeros((len(events), measured.length), np.float32)
    for k in range(len(events)):
        gate[k, events.start[k] : events.stop[k]] = 1 - measured.typical / events.size[k]
    return Edit(measured, epoch, -1, _amounts(measured, events.stop - events.start), gate)


def _planting(measured: Measured, epoch: int, rng: np.random.Generator) -> Edit:
    """Put the night's events where the epoch has none."""
    donors, length = donors_of(measured, epoch), measured.length
    places = list(_places(measured, own_events(measured, epoch), donors))
    if measured.activity.is_counted:
        # spread over the epoch; what has to last grows from one place
        places = [places[k] for k in rng.permutation(len(places))]
    gate = np.zeros((len(places), length), np.float32)
    planted = np.zeros((len(places), measured.part.shape[1], length), np.float32)
    for k, (begin, donor) in enumerate(places):
        end = begin + donor.shape[-1]
        gate[k, begin:end], planted[k, :, begin:end] = 1, donor
    amounts = _amounts(measured, np.array([donor.shape[-1] for _, donor in places]))
    return Edit(measured, epoch, 1, amounts, gate, planted)


def _amounts(measured: Measured, samples: np.ndarray) -> np.ndarray:
    """Amounts of the rungs: events, or the share in % of those so many samples long."""
    if measured.activity.is_counted:
        return np.arange(1, len(samples) + 1, dtype=float)
    return 100 * np.cumsum(samples, dtype=float) / measured.length


def donors_of(measured: Measured, epoch: int) -> list[np.ndarray]:
    """Events (c, k) of other epochs, of a size that is typical of this night's.

    Those of stages in which they are no artefacts, if there are any. A night without events lends
    its largest waves, brought to the size that counts as one.
    """
    length, line = measured.length, measured.part.swapaxes(0, 1).reshape(len(measured.columns), -1)
    for share in (1.0, 0.5, 0.25):
        events = measured.events if share == 1 else measured.events_in(measured.line, share)
        events = events.some((events.stop - events.start < length // 2) & _elsewhere(
            events, epoch, length))  # fmt: skip
        lent = events.some(measured.lends[events.start // length])
        if len(lent) or len(events):
            events = lent if len(lent) else events
            break
    near = np.argsort(np.abs(events.size - np.median(events.size)), kind="stable")[:_DONORS]
    donors = []
    for k in sorted(near.tolist()):
        grown = max(1.0, _ABOVE * measured.floor / events.size[k]) if share < 1 else 1.0
        # what comes one by one sets in and ends in what surrounds it
        edge = round(_EDGE_SECONDS * measured.fs) if measured.activity.is_counted else 0
        donor = line[:, max(0, events.start[k] - edge) : events.stop[k] + edge] * grown
        if edge:
            donor = donor * windows.tukey(donor.shape[-1], 2 * edge / donor.shape[-1])
        donors.append(donor if edge else _between_crossings(donor))
    return donors


def _between_crossings(donor: np.ndarray) -> np.ndarray:
    """Cut off what precedes the first falling zero crossing and follows the last one.

    Such pieces follow each other without a step and without a gap; waves are such pieces.
    """
    falls = np.flatnonzero((donor[0, :-1] >= 0) & (donor[0, 1:] < 0)) + 1
    return donor if len(falls) < 2 else donor[:, falls[0] : falls[-1]]


def _elsewhere(events: Events, epoch: int, length: int) -> np.ndarray:
    return (events.stop <= epoch * length) | (events.start >= (epoch + 1) * length)


def _places(
    measured: Measured, own: Events, donors: list[np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Where donors, in turn, fit between the epoch's own events, the widest gap first."""
    if not donors:
        return
    apart = round(_APART_SECONDS * measured.fs) if measured.activity.is_counted else 0
    order = np.argsort(own.start, kind="stable")
    begins = np.concatenate([[0], own.stop[order]])
    ends = np.concatenate([own.start[order], [measured.length]])
    turn = 0
    for gap in np.argsort(begins - ends, kind="stable"):
        at = begins[gap] + apart // 2
        while at + donors[turn % len(donors)].shape[-1] + apart // 2 <= ends[gap]:
            donor = donors[turn % len(donors)]
            yield int(at), donor
            at, turn = at + donor.shape[-1] + apart, turn + 1


def smoothed(gate: np.ndarray, fs: float) -> np.ndarray:
    """A gate (t,) whose steps are cosines of a fifth of a second."""
    kernel = windows.hann(max(3, round(_EDGE_SECONDS * fs) | 1))
    return convolve1d(gate, kernel / kernel.sum(), mode="nearest")
