"""Help and docs have every option, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_isolate.spec.keys import KEYS
from tests.support.documents import blocks
from tests.support.options import Options

DOCS = Path(__file__).parents[3] / "docs" / "options.md"


def test_help_and_markers_list_everything(options: Options) -> None:
    text = options.run("--help").stdout.str()
    for name in ("all", "off", "unsupported", "usage", "cgroup", "memory", "swap", "cpus", "cpuset", "pids", "disk",
                 "timeout", "network", "host-port", "image", "hostname", "user", "writable", "device"):  # fmt: skip
        assert f"--isolate-{name}" in text
    for name in ("unsupported", "memory", "host_ports", "writable", "devices"):
        assert f"isolate_{name} (" in text

    options.run("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.isolate(memory, swap, cpus, *", "@pytest.mark.no_isolate: *"]
    )


def test_the_docs_table_has_every_key_option_and_ini_value(options: Options) -> None:
    text = options.run("--help").stdout.str()
    options_there = set(re.findall(r"--isolate-[a-z-]+", text))
    ini_there = set(re.findall(r"^ +(isolate_[a-z_]+) \(", text, re.MULTILINE))
    docs = DOCS.read_text()
    table = [line for line in docs.splitlines() if line.startswith("| `")]

    assert options_there == set(re.findall(r"`(--isolate-[a-z-]+)", "\n".join(table)))
    assert ini_there == set(re.findall(r"`(isolate_[a-z_]+)`", "\n".join(table)))
    assert [line.split("`")[1] for line in table][: len(KEYS)] == list(KEYS)


def test_the_docs_errors_are_those_that_a_user_sees(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest


        @pytest.mark.isolate(memory="1,5G")
        def test_a(): pass



        @pytest.mark.isolate(memroy="50M")
        def test_b(): pass
        """,
        test_b="import pytest\npytestmark = pytest.mark.isolate(user='Root')\ndef test_c(): pass\n",
    )
    quoted = re.findall(r"^ERROR: (test_.*)$", DOCS.read_text(), re.MULTILINE)

    assert quoted == options.errors()
    assert options.errors("--isolate-cpus=half")[0] in DOCS.read_text()


def test_the_docs_examples_are_taken(options: Options, pytester: pytest.Pytester) -> None:
    examples = blocks(DOCS, "python")
    for number, block in enumerate(examples):
        code = re.sub(r"^(@pytest\.mark.*\n)(?=@|\Z)", r"\1def test_marked(): ...\n", block.text, flags=re.MULTILINE)
        pytester.path.joinpath(f"test_{number}.py").write_text(f"import pytest\n{code}")

    specs = options.specs("--isolate-all")

    assert "timeout=10" in specs["test_limited"]
    assert "5432" in specs["test_query"]
    assert "/dev/nvidiactl" in specs["test_marked"]
    assert "process:gpg-agent" in specs["test_signs"]
    assert len(specs) >= len(re.findall(r"def (test_\w+)", "".join(block.text for block in examples)))
