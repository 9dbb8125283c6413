"""Figures of each test against those of earlier runs, which a file has (``--isolate-baseline``)."""
