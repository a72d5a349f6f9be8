"""Where a benchmark reads the time, so that a test can put a clock of its own in its place."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Wall time, CPU time of this process, and a pause."""

    def wall_ns(self) -> int:
        """Nanoseconds since some moment; never runs backwards."""

    def cpu_ns(self) -> int:
        """Nanoseconds of CPU time this process has used, all its threads together."""

    def sleep(self, seconds: float) -> None:
        """Do nothing for `seconds`."""


class SystemClock:
    """The clocks of the machine, without a layer of Python in between."""

    wall_ns = staticmethod(time.perf_counter_ns)
    cpu_ns = staticmethod(time.process_time_ns)
    sleep = staticmethod(time.sleep)


SYSTEM_CLOCK = SystemClock()
