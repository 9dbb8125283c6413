"""Writable layers of tests that are kept on disk, to be looked at later."""
