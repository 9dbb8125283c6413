"""The C core, reached through :mod:`pytest_isolate.native` only: the module ``_core`` and the program ``builder``."""
