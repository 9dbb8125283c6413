"""Marker, command line and ini: read and checked, they become Specs."""
