"""One protection, and how to take it out of the code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A textual change of one file."""

    file: str  #: from the top of the checkout
    old: str  #: must be there exactly once
    new: str

    def apply(self, text: str) -> str:
        """``text`` with the change. :raises ValueError: it does not apply any more."""
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has this text {found} times, not once:\n{self.old}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A protection that is taken out, and the tests that must notice.

    Each test must be harmless to the machine without that protection: these tests run for real.
    """

    name: str  #: what is taken out
    tests: tuple[str, ...]  #: as pytest takes them
    edits: tuple[Edit, ...]

    @classmethod
    def of_one(cls, name: str, file: str, old: str, new: str, *tests: str) -> Mutation:
        """A mutation of one place."""
        return cls(name, tests, (Edit(file, old, new),))
