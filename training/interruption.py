"""Ctrl-C and SIGTERM as requests: training stops between two steps, where its state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interruption:
    """Context manager that remembers the first Ctrl-C or SIGTERM; a second one stops at once."""

    def __init__(self) -> None:
        self.wanted = False
        self._former: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        # Python lets only the main thread set signal handlers
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
