"""OCI's image layouts and layers, read."""
