"""Fuzzes the builder's reader of Plans, in C, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_isolate.linux import native
from pytest_isolate.plan.plan import CgroupDir, Plan
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.spec.spec import Spec
from tests.fuzz.parser import Parser
from tests.support.hosts import HOST, ROOT

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_LENGTH = struct.Struct("=I")
#: Reads Plans, each after its length, from standard input; answers each with a byte.
_PROGRAM = r"""
#include "plan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t sum;

static void look(const char *text) { sum += strlen(text); }

static void look_at(const struct plan *plan) {
  look(plan->uid_map), look(plan->gid_map), look(plan->scratch);
  for (uint32_t i = 0; i < plan->cgroup_count; i++) {
    look(plan->cgroups[i].parent), look(plan->cgroups[i].attach);
    for (uint32_t k = 0; k < plan->cgroups[i].file_count; k++)
      look(plan->cgroups[i].files[k].name), look(plan->cgroups[i].files[k].value);
  }
  for (uint32_t i = 0; i < plan->op_count; i++)
    look(plan->ops[i].source), look(plan->ops[i].target), look(plan->ops[i].type), look(plan->ops[i].data);
  for (uint32_t i = 0; i < plan->uplink_count; i++)
    for (const char **word = plan->uplink[i]; *word; word++) look(*word);
}

int main(void) {
  uint32_t size;
  while (fread(&size, sizeof size, 1, stdin) == 1) {
    char *bytes = malloc(size ? size : 1); /* of its own, so that a byte too far is noticed */
    if (size && fread(bytes, size, 1, stdin) != 1) return 1;
    struct plan *plan = plan_decode(bytes, size);
    if (plan) look_at(plan), plan_free(plan);
    free(bytes);
    putchar(plan ? 'y' : 'n');
    fflush(stdout);
  }
  return sum == 1;
}
"""


class _Decoder:
    """The program, which is started again by each session of fuzzing."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def enter(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            sources = native.BUILDER.parent
            program = Path(folder, "decode")
            Path(folder, "main.c").write_text(_PROGRAM)
            command = [
                "gcc",
                "-O1",
                "-g",
                "-std=gnu11",
                "-D_GNU_SOURCE",
                *SANITIZERS,
                f"-I{sources}",
                "-o",
                str(program),
            ]
            subprocess.run([*command, f"{folder}/main.c", f"{sources}/plan_decode.c"], check=True)
            with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as self._process:
                yield
                self._process.kill()

    def try_one(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_LENGTH.pack(len(data)) + data)
        self._process.stdin.flush()
        assert self._process.stdout.read(1) in (b"y", b"n"), "the program has ended; its last words are above"


def _seeds() -> Iterator[bytes]:
    group = CgroupDir(parent="/sys/fs/cgroup/x", files=(("?memory.max", "1"), ("pids.max", "2")), shared=True)
    yield plan_for(Spec.of(memory="50M", hostname="h"), ROOT, (group, group)).encode()
    yield plan_for(Spec(), HOST).encode()
    yield Plan(namespaces=plan_for(Spec(), HOST).namespaces, uplink=(("pasta", "-f"), ("true",))).encode()


_DECODER = _Decoder()
NATIVE_PLAN = (Parser(name="plans", try_one=_DECODER.try_one, seeds=_seeds, enter=_DECODER.enter),)
