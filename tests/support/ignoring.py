"""A command that goes on as another with SIGCHLD ignored; a shell need not hand that on."""

from __future__ import annotations

import sys

_PROGRAM = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
IGNORING = (sys.executable, "-c", _PROGRAM)
