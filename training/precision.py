"""Number formats of the computation that leave signals as they were read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_fabric import wrappers
from lightning_fabric.plugins import MixedPrecision


class WholeInputs(MixedPrecision):
    """Mixed precision that does not round its input, as evaluation does not.

    Eight bits of a signal with an offset are steps of microvolts, and noise in its spectrogram.
    """

    def convert_input(self, data: Any) -> Any:
        """What the model is given, as it is."""
        return data


def of_fabric(precision: str, kind: str) -> dict[str, Any]:
    """Arguments by which Fabric computes in ``precision`` on a kind of device."""
    if precision.endswith("-mixed"):
        return {"plugins": WholeInputs(precision, kind)}
    return {"precision": precision}


@contextmanager
def gradients_may_be_measured() -> Iterator[None]:
    """Let an objective take gradients that train nothing, such as norms to balance losses by.

    In mixed precision Fabric refuses whatever its own ``backward`` did not begin, since that might
    have to be scaled. It has no public switch for a gradient that is only looked at.
    """
    before, wrappers._in_fabric_backward = wrappers._in_fabric_backward, True
    try:
        yield
    finally:
        wrappers._in_fabric_backward = before
