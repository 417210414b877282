"""How many cases there are: `PYTHONPATH=tests python -m posix_cases`."""

from __future__ import annotations

from collections import Counter

from posix_cases import ALL
from posix_cases.known import known


def main() -> None:
    """Counts by call and by user, on standard output."""
    for call, count in sorted(Counter(case.call for case in ALL).items()):
        print(f"{count:5} {call}")
    for user, count in Counter(case.who.name for case in ALL).most_common():
        print(f"{count:5} by {user}")
    print(f"{len(ALL):5} in all, {sum(known(case.id) is not None for case in ALL)} of them known to differ")


if __name__ == "__main__":
    main()
