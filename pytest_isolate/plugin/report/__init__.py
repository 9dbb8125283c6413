"""Outcomes become pytest's reports, and the summary's tables."""
