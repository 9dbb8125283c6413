"""Layers unpacked once, shared by all of a user's tests."""
