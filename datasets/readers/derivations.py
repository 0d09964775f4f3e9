"""Every derivation of a role that a file has, where one is not enough."""

from __future__ import annotations

import re

from datasets.readers.channels import MatchedChannel, match, normalised
from datasets.readers.recording import SignalFile

_SLOWEST_HZ = 50.0  # below which a channel is a slow sensor or an envelope, whatever its name
_MOST = 24  # of a role, which a dense cap would exceed
_REFERENCE = re.compile(r"(eeg)?[am][12]")  # ears and mastoids, which are no brain


def every_derivation(file: SignalFile, role: str) -> list[MatchedChannel]:
    """The channels of a role, best first, each electrode once.

    References alone are left out, and what is sampled below 50 Hz.

    Raises:
        UserError: a channel that cannot be read.
    """
    labels = [(f"{role} {k}", role) for k in range(1, _MOST + 1)]
    channels, electrodes = [], set()
    # one signal stands for one channel, so every further label gets another signal
    for one in match(file, labels, {}).values():
        electrode = electrode_of(one.parts[0])
        is_reference = _REFERENCE.fullmatch(normalised(one.label))
        if electrode in electrodes or is_reference or one.signal.fs < _SLOWEST_HZ:
            continue
        electrodes.add(electrode)
        channels.append(one)
    return channels


def electrode_of(label: str) -> str:
    """The electrode of a label without its reference: ``c4`` of ``EEG C4-M1``."""
    short = normalised(label).removeprefix("eeg")
    return re.sub(r"(?<=\d|z)([am][12]|ref|avg|le)$", "", short) or short
