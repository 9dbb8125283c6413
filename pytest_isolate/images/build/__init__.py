"""Images built from recipes."""
