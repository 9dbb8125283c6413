"""Makes forks of a large process cheaper by gathering its heap in huge pages, where enough forks are to come.

For each 2 MB a fork copies 512 page table entries, and the end of the child frees them; in a huge page it is one. The
gathering copies the memory once. Whether it pays is worked out of what this process measures itself: how long its forks
take, and how long the blocks so far took to be gathered.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pytest_isolate.linux import native, procfs

_BLOCK = 2 << 20
_STEP = 4  # blocks at a time, by which the cost of the others is told
_SLICE = 0.05  # seconds before one run: a test must not wait long for what later ones gain by
_FORKS = 5  # measured before anything is decided
_FEWEST = 20  # runs to come: below, measuring costs as much as could be saved
#: A run is spared more than what the fork itself takes: freeing page tables at the child's end took about as long again
#: (docs/decisions/huge-pages.md). A little less, to be on the safe side.
_WHOLE = 1.5
#: Once the heap has grown by so much, it is looked at again: what a run writes to is in the newest blocks above all,
#: where this process has a page fault for each page after each run, and for a huge page one.
_GROWTH = 2 * _BLOCK


class Heap:
    """The memory of this process, seen as what each fork has to copy."""

    def __init__(
        self,
        collapse: Callable[[int, int], tuple[int, int, int]] = native.collapse,
        clock: Callable[[], float] = time.monotonic,
        resident: Callable[[], int] | None = None,
        align: Callable[[], None] = native.align_heap,
        inherit: Callable[[], object] = native.inherit_text,
    ) -> None:
        self._collapse = collapse
        self._align = align
        self._inherit: Callable[[], object] | None = inherit  # not yet
        self._clock = clock
        self._resident = resident or _resident
        self._forks: deque[float] = deque(maxlen=_FORKS)  # seconds
        self._before = 0.0  # that a fork took before the first gathering, until that has been judged
        self._next = 0  # address, while it is under way
        self._at = 0  # bytes resident when it was done, or found not to pay
        self._useless = False  # the kernel can't, or it did not help

    def forked(self, seconds: float) -> None:
        """Note how long a fork took."""
        self._forks.append(seconds)
        if self._before and len(self._forks) == _FORKS:
            self._useless = self._usual_fork() > self._before
            self._before = 0.0

    def _usual_fork(self) -> float:
        """The median of the last ones. The module ``statistics`` would take the session's start 4 ms."""
        return sorted(self._forks)[_FORKS // 2]

    def gather(self, runs: int) -> None:
        """Gather some of the heap, if that pays for ``runs`` forks to come. Takes a fraction of a second at most.

        The first time, have forks copy the page tables of what each child runs, too: that takes next to nothing.
        """
        if self._inherit is not None and runs >= _FEWEST:
            self._inherit()
            self._inherit = None
        if self._useless or runs < _FEWEST or len(self._forks) < _FORKS:
            return
        if not self._next and runs % _FEWEST and self._at:  # looking costs, too
            return
        resident = self._resident()
        if not self._next and resident < (self._at + _GROWTH if self._at else 8 * _BLOCK):
            return
        fork = self._usual_fork()
        started = self._clock()
        if not self._next and not self._at:
            self._align()
        tries = 0
        while True:
            done, tried, self._next = self._collapse(self._next, _STEP)
            tries += tried
            spent = self._clock() - started
            if tried and not done:
                self._useless = True
            saved = _WHOLE * fork * runs * _BLOCK / resident  # by one block
            if self._useless or not self._next or spent > saved * tries:
                self._end(resident, fork)
                return
            if spent > _SLICE:
                return

    def _end(self, resident: int, fork: float) -> None:
        if not self._at:  # later there is little to gather, and what it brings is less than two forks differ by
            self._before = fork
            self._forks.clear()
        self._next, self._at = 0, resident


def _resident() -> int:
    return procfs.own_memory("resident")
