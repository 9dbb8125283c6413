"""What ``--isolate-session`` promises: the run changes nothing but what is named, and ends as a plain one."""

from __future__ import annotations

from tests.mutate.mutation import Edit, Mutation

_NATIVE = "pytest_isolate/linux/_native/"
_PLAN = "pytest_isolate/plan/session_plan.py"
_MOUNTS = "pytest_isolate/plan/proc_sys_dev.py"
_OUTSIDE = "pytest_isolate/session/session_sandbox.py"
_PYTESTS_SIDE = "pytest_isolate/plugin/run/session_sandbox.py"
_TESTS = "tests/plugin/test_session_sandbox.py::"
_NETWORK = "tests/plugin/test_session_network.py::"
_ENDS = "tests/plugin/test_session_ends.py::"
_SIGNALS = f"{_ENDS}test_a_signal_to_the_process_outside_ends_the_run_as_a_plain_one"
_LIMIT = f"{_ENDS}test_a_limit_holds_for_fixtures_and_tests_together"
_READ_ONLY = f"{_TESTS}test_what_acts_on_the_machine_is_read_only"
_UNIT = "tests/unit/plan/test_session_plan.py"


def what_stays() -> list[Mutation]:
    return [
        Mutation.of_one(
            "session: only what is named stays",
            "pytest_isolate/sandbox/kept_changes.py",
            "            if self._names(change.path):\n",
            "            if True:\n",
            "tests/unit/sandbox/test_kept_changes.py",
        ),
        Mutation.of_one(
            "session: entries of /proc that act on the machine are read-only",
            _PLAN,
            "machine=host.tree.proc if host.real_root else ()",
            "machine=()",
            _READ_ONLY,
        ),
        Mutation.of_one(
            "session: /sys is read-only",
            _MOUNTS,
            '        do.read_only(target),\n        do.bind(f"{OLD}/sys/{groups}"',
            '        do.bind(f"{OLD}/sys/{groups}"',
            _READ_ONLY,
        ),
        Mutation.of_one(
            "session: shared memory of its own",
            _MOUNTS,
            '    ops.append(do.mount("tmpfs", f"{target}/shm", "tmpfs", memory, "mode=1777"))\n',
            "    del memory\n",
            _UNIT,
        ),
        Mutation.of_one(
            "session: its layers are read-only for those above it",
            _PLAN,
            "    return [*ops, do.read_only(top)]\n",
            "    return ops\n",
            _UNIT,
        ),
        Mutation.of_one(
            "session: a network of its own",
            _PLAN,
            '    shared = Clone.NEWNET if spec.network == "host" else Clone(0)\n',
            "    shared = Clone.NEWNET\n",
            f"{_NETWORK}test_it_has_a_network_of_its_own_with_a_way_out_or_none_or_the_hosts",
        ),
        Mutation.of_one(
            "session: sockets of the host are none of its own",
            "pytest_isolate/plan/host_tree.py",
            "    if not calls.access(OWN_NETWORK, os.F_OK):\n",
            "    if False:\n",
            f"{_NETWORK}test_a_server_in_a_folder_that_is_bound_through_is_reached_unless_it_may_be_the_hosts",
        ),
        Mutation.of_one(
            "session: a variable alone does not pass for a sandbox",
            "pytest_isolate/plugin/config/session_options.py",
            "    return has_mark()\n",
            "    return bool(has_mark)\n",
            f"{_TESTS}test_a_variable_that_is_left_over_or_written_by_hand_does_not_pass_for_a_sandbox",
        ),
        Mutation.of_one(
            "session: a program that calls pytest.main() is refused",
            _PYTESTS_SIDE,
            "    if not (session_editor.has_started() or _runs_as_program(sys._getframe())):",
            "    if _runs_as_program(None):",
            f"{_TESTS}test_a_program_that_calls_pytest_is_told_that_it_cannot_go_on_in_a_sandbox",
        ),
        Mutation.of_one(
            "session: limits",
            _OUTSIDE,
            "self._tree.whole_dirs(spec.limits)",
            "self._tree.whole_dirs(type(spec)().limits)",
            _LIMIT,
        ),
    ]


def how_it_ends() -> list[Mutation]:
    init, builder = f"{_NATIVE}init.c", f"{_NATIVE}builder.c"
    handed_on = "    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,"
    return [
        Mutation.of_one("session: signals are handed on", _OUTSIDE, handed_on, "    signal.SIGQUIT,", _SIGNALS),
        Mutation.of_one(
            "session: it ends by the signal of the one inside",
            _PYTESTS_SIDE,
            "        os.kill(os.getpid(), -status)\n",
            "        pass\n",
            f"{_ENDS}test_the_process_outside_ends_as_the_one_inside",
        ),
        Mutation.of_one(
            "session: a hang-up ends it, although nothing can be printed",
            _PYTESTS_SIDE,
            "        with suppress(OSError):  # a terminal",
            "        if True:  # a terminal",
            f"{_ENDS}test_a_terminal_that_hangs_up_ends_the_run_although_nothing_can_be_said",
        ),
        Mutation.of_one(
            "session: what was typed is handed on",
            _OUTSIDE,
            handed_on,
            handed_on.replace("signal.SIGINT, ", ""),
            f"{_ENDS}test_what_is_typed_at_the_terminal_interrupts_the_run_once",
        ),
        Mutation.of_one(
            "session: a lack of memory is told",
            _OUTSIDE,
            "        return bool(self._tree.read(self._sandbox.name).oom_kills)\n",
            "        return False\n",
            _LIMIT,
        ),
        Mutation(
            "session: the one inside ends with the one outside",
            (_SIGNALS,),
            (
                Edit(builder, " || polled[KEEPER].revents) shut_down(&builder);", ") shut_down(&builder);"),
                Edit(
                    builder, "!on_keeper(&builder)) shut_down(&builder);", "!on_keeper(&builder)) poll(NULL, 0, 100);"
                ),
                Edit(
                    init, "if (polled[1].revents || polled[2].revents) _exit(0);", "polled[1].fd = polled[2].fd = -1;"
                ),
            ),
        ),
    ]
