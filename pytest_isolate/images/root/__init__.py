"""An image's layers as the root of a test that runs on the host's Python."""
