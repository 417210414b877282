"""Run one part of the torture tests; what follows its name is for the part."""

from __future__ import annotations

import sys
from functools import partial

from tortures import (
    big,
    drills,
    faults,
    flips,
    full,
    kill,
    kills,
    power,
    programs,
    random_runs,
    reversal,
    soak,
    space,
    stress,
)

PARTS = {
    "posix": partial(random_runs.main, "posix"),
    "fsx": partial(random_runs.main, "fsx"),
    "big": big.main,
    "full": full.main,
    "kill": kill.main,
    "power": power.main,
    "programs": programs.main,
    "stress": stress.main,
    "space": space.main,
    "soak": soak.main,
    "kills": kills.main,
    "drills": drills.main,
    "flips": flips.main,
    "faults": faults.main,
    "reversal": reversal.main,
}

if __name__ == "__main__":
    try:
        sys.exit(PARTS[sys.argv[1]](sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
