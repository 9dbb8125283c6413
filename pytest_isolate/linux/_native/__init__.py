"""The C core: the module ``_core``, imported by :mod:`~pytest_isolate.linux.native` alone, and the builder program."""
