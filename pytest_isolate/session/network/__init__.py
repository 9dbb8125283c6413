"""Bridges between sandboxes, and the doors to ports of the host."""
