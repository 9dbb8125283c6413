"""``--isolate-report=FILE``: the whole run in one file, for programs (.json) or for people (.html)."""
