"""``python -m pytest_isolate doctor``: what this host can do, tried for real."""
