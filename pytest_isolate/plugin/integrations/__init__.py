"""Other plugins that keep what they know in memory, a module each."""
