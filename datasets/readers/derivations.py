"""Every derivation of a role that a file has, where one is not enough."""

from __future__ import annotations

from datasets.readers.channels import MatchedChannel, match
from datasets.readers.electrodes import electrode_of
from datasets.readers.recording import SignalFile

_MOST = 24  # of a role, which a dense cap would exceed


def every_derivation(file: SignalFile, role: str) -> list[MatchedChannel]:
    """The channels of a role, best first, each electrode once.

    Raises:
        UserError: a channel that cannot be read.
    """
    labels = [(f"{role} {k}", role) for k in range(1, _MOST + 1)]
    channels, electrodes = [], set()
    # one signal stands for one channel, so every further label gets another signal
    for one in match(file, labels, {}).values():
        electrode = electrode_of(one.parts[0])
        if electrode not in electrodes:
            electrodes.add(electrode)
            channels.append(one)
    return channels
