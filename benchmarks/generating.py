"""How fast synthetic nights are written, and how much memory that takes, on one core.

python -m benchmarks.generating
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

from benchmarks.side_by_side import one_core, seconds
from datasets.synthetic import sleepedf_files
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject

# name, hours, limit in seconds
SIZES = (("22 h cassette tape", None, 4.0), ("8 h night", 8.0, 2.0), ("0.7 h, tiny", 0.7, 0.2))


def main() -> None:
    """Write every size a few times and compare with its limit."""
    one_core()
    with tempfile.TemporaryDirectory() as folder:
        for name, hours, limit in SIZES:
            # as a default, so that every function keeps the hours of its own round
            def write(hours: float | None = hours) -> None:
                night = draw_night(draw_subject(0, 0, Difficulty(1)), 1, hours=hours)
                sleepedf_files.write(Path(folder), night, {})

            write()  # untimed: the writer's library is imported on first use
            taken = seconds({"write": write}, 3)["write"]
            print(f"{name:<20} {taken:6.2f} s   limit {limit:g} s")
    # the largest of all sizes; Linux counts ru_maxrss in kB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak memory':<20} {peak:6.0f} MB  limit 400 MB")


if __name__ == "__main__":
    main()
