"""Tests that run on an image of two layers."""

from __future__ import annotations

import pytest

from tests.support.image_layers import entry, programs, tar
from tests.support.project import Project

BASE = tar(
    *(entry(path, content, mode=0o755) for path, content in programs("sh", "cat", "ls").items()),
    entry("etc/old", "1"),
    entry("tree/file", "2"),
    entry("tmp/", mode=0o1777),
)
TOP = tar(entry("etc/.wh.old", ""), entry("etc/motd", "hello\n"))
SH = """
import os, subprocess, sys
import pytest

def sh(script):
    done = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout
"""


def passes(project: Project, text: str, *arguments: str, number: int = 1) -> pytest.RunResult:
    project.write(test_it=SH + text)
    result = project.isolated(*arguments)
    result.assert_outcomes(passed=number)
    return result
