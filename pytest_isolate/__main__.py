"""``python -m pytest_isolate images ...``: the command line beside pytest's."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Exit status of the command: 0 done, 1 it could not be done or something is damaged, 2 wrong usage."""
    from pytest_isolate.image_commands import run  # noqa: PLC0415 - `python -m pytest_isolate` may get other commands

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
