"""What the session around a sandbox sees to: limits, ends, images, that no test is run past us."""

from __future__ import annotations

from tests.mutate.mutation import Edit, Mutation

_NATIVE = "pytest_isolate/linux/_native/"
_SANDBOX = f"{_NATIVE}sandbox.c"
_PORTS = "pytest_isolate/session/network/host_ports.py"
_CAPS = "tests/plugin/limits/test_caps.py::"
_CLEANUP = "tests/plugin/test_cleanup.py::"


def limits() -> list[Mutation]:
    v1, v2 = "pytest_isolate/cgroups/v1.py", "pytest_isolate/cgroups/v2.py"
    memory = f"{_CAPS}test_200_megabytes_under_a_cap_of_50_are_a_failure_that_names_the_cap"
    forks = f"{_CAPS}test_forks_beyond_the_cap_fail_with_eagain"
    core = f"{_CAPS}test_a_cpuset_of_core_0_leaves_one_core"
    quota = f"{_CAPS}test_a_quota_of_a_quarter_core_holds"
    disk = f"{_CAPS}test_reading_from_the_disk_is_throttled"
    text = "tests/unit/cgroups/test_worker_tree.py"
    found = []
    for file, version in ((v1, "v1"), (v2, "v2")):
        found += [
            Mutation.of_one(
                f"limit {key}, cgroup {version}",
                file,
                f'    if limits.{key} is not None and "{controller}" in usable',
                f'    if limits.{key} is not None and "none" in usable',
                test,
                text,
            )
            for key, controller, test in (("memory", "memory", memory), ("cpus", "cpu", quota), ("pids", "pids", forks))
        ]
        found.append(
            Mutation.of_one(f"limit io, cgroup {version}", file, '    if "io" in usable:\n', "    if 0:\n", disk, text)
        )
    found += [
        Mutation.of_one(
            "limit swap, cgroup v1",
            v1,
            'files.append(("memory.memsw.limit_in_bytes", str(limits.memory + limits.swap)))',
            "pass",
            text,
        ),
        Mutation.of_one(
            "limit swap, cgroup v2", v2, 'files.append(("memory.swap.max", str(limits.swap)))', "pass", text
        ),
        Mutation.of_one(
            "limit memory ends all, cgroup v2",
            v2,
            'files.append(("?memory.oom.group", "1"))',
            "pass",
            text,
            "tests/kernel/cgroups/test_limits.py::test_an_oom_kill_takes_the_whole_test_where_the_kernel_can",
        ),
        Mutation.of_one(
            "limit cpuset, cgroup v1",
            v1,
            "limits.cpuset if limits.cpuset is not None else self.cores()",
            "self.cores()",
            core,
        ),
        Mutation.of_one(
            "limit cpuset, cgroup v2",
            v2,
            '    if limits.cpuset is not None and "cpuset" in usable',
            "    if 0",
            core,
            text,
        ),
        Mutation.of_one(
            "devices, cgroup v1",
            v1,
            'return [("devices.deny", "a"), *(',
            "return [*(",
            "tests/kernel/cgroups/test_limits.py::test_devices_but_the_harmless_ones_are_closed",
        ),
        Mutation.of_one(
            "the child enters its groups",
            f"{_NATIVE}enter.c",
            "if (entry->attach[i] != born && attach(entry->attach[i]) < 0)",
            "if (0)",
            forks,
        ),
        Mutation.of_one(
            "a child that was not born in its group enters it",
            f"{_NATIVE}birth.c",
            "    born = 0;\n    result",
            "    result",
            "tests/kernel/cgroups/test_birth.py",
        ),
        Mutation.of_one(
            "timeout",
            "pytest_isolate/sandbox/watcher.py",
            "if self._deadline is not None and calls.monotonic() >= self._deadline:",
            "if False:",
            "tests/plugin/limits/test_timeouts.py::test_a_stopped_test_is_ended_at_its_timeout",
        ),
        Mutation.of_one(
            "stall_timeout",
            "pytest_isolate/sandbox/watcher.py",
            "elif self._patience.is_over(calls.monotonic(), self.processes.pids):",
            "elif False:",
            "tests/plugin/test_stalled.py::test_only_a_test_that_can_never_go_on_is_ended",
        ),
    ]
    return found


def ends() -> list[Mutation]:
    init, builder = f"{_NATIVE}init.c", f"{_NATIVE}builder.c"
    pact = "if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)"
    last = '  }\n  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) give_up_at(builder, "PR_SET_PDEATHSIG");\n'
    both = f"{_CLEANUP}test_a_session_sweeps_what_was_left_when_pytest_and_builder_were_killed_together"
    return [
        Mutation(
            "death pact: init ends with builder and pytest",
            (both,),
            (
                Edit(
                    init,
                    f'  {pact} give_up_at(builder, "PR_SET_PDEATHSIG");\n  prctl(PR_SET_NAME',
                    "  prctl(PR_SET_NAME",
                ),
                Edit(init, last, "  }\n"),
                Edit(
                    init, "if (polled[1].revents || polled[2].revents) _exit(0);", "polled[1].fd = polled[2].fd = -1;"
                ),
            ),
        ),
        Mutation(
            "death pact: builder ends with pytest",
            (f"{_CLEANUP}test_a_killed_pytest_leaves_nothing",),
            (
                Edit(builder, " || polled[KEEPER].revents) shut_down(&builder);", ") shut_down(&builder);"),
                Edit(
                    builder, "!on_keeper(&builder)) shut_down(&builder);", "!on_keeper(&builder)) poll(NULL, 0, 100);"
                ),
            ),
        ),
        Mutation.of_one(
            "builder cleans up at its end",
            builder,
            "  remove_shared_groups(builder, until);\n",
            "  _exit(0);\n",
            f"{_CLEANUP}test_the_builder_of_a_killed_pytest_removes_what_it_was_told_of",
        ),
        Mutation(
            "a sandbox's processes end with it",
            ("tests/plugin/test_ends.py::test_a_double_forked_daemon_does_not_outlive_its_test",),
            (
                Edit(_SANDBOX, "if (sandbox->pid > 0) kill(sandbox->pid, SIGKILL);", ""),
                Edit(
                    _SANDBOX,
                    "  close_fd(&sandbox->init);\n  close_fd(&sandbox->scratch);\n  close_fd(&sandbox->pidfd);\n",
                    "",
                ),
            ),
        ),
        Mutation.of_one(
            "init reaps",
            init,
            "while (waitpid(-1, NULL, WNOHANG) > 0) continue;",
            "continue;",
            "tests/plugin/test_ends.py::test_a_thousand_orphaned_zombies_are_reaped",
        ),
        Mutation.of_one(
            "groups of a session that ends as it begins",
            "pytest_isolate/cgroups/discovery.py",
            "            undo.callback(group.close)\n",
            "",
            "tests/kernel/cgroups/test_sessions.py::test_an_error_on_the_way_leaves_all_as_it_was",
        ),
        Mutation.of_one(
            "sweep of groups",
            "pytest_isolate/cgroups/discovery.py",
            "        group.sweep()\n",
            "        pass\n",
            both,
            "tests/kernel/cgroups/test_sessions.py::test_what_a_dead_session_left_is_swept_with_its_processes",
        ),
        Mutation.of_one(
            "sweep of scratch directories",
            "pytest_isolate/sandbox/scratch_dir.py",
            "            remove_tree(old, ignore_errors=True)\n",
            "            pass\n",
            "tests/unit/sandbox/test_scratch_dir.py",
        ),
        Mutation.of_one(
            "a test that the host cannot isolate is an error",
            "pytest_isolate/session/sandbox_pool.py",
            "        if missing and not self._degrade:\n",
            "        if False:\n",
            "tests/plugin/test_hosts.py::test_without_user_namespaces_a_test_is_an_error_that_names_the_setting",
        ),
    ]


def images() -> list[Mutation]:
    untar, hostile = "pytest_isolate/images/store/untar.py", "tests/kernel/images/test_hostile_layers.py"
    return [
        Mutation.of_one(
            "images: digests",
            "pytest_isolate/images/oci/layer_stream.py",
            "if self._expected is not None and found != self._expected:",
            "if False:",
            "tests/unit/images/oci/test_layer_stream.py",
            hostile,
        ),
        Mutation.of_one(
            "images: digests of manifests",
            "pytest_isolate/images/oci/layout_reader.py",
            "if digest is not None and digest_of(text, digest) != digest:",
            "if False:",
            "tests/unit/images/oci/test_layout_reader.py",
        ),
        Mutation.of_one("images: names that lead out", untar, '    if ".." in parts:\n', "    if False:\n", hostile),
        Mutation.of_one(
            "images: number of entries", untar, "if self.entries > self.most_entries:", "if False:", hostile
        ),
    ]


def pytests_side() -> list[Mutation]:
    hooks, basics = "pytest_isolate/plugin/hooks.py", "tests/plugin/test_basics.py::"
    return [
        Mutation.of_one(
            "guard: tests that a plugin runs past us",
            hooks,
            "if fixtures.ISOLATED not in item.config.stash and item_specs.spec_for(item) is not None:",
            "if False:",
            f"{basics}test_a_test_that_is_run_past_us_ends_the_run",
        ),
        Mutation.of_one(
            "guard: we come before plugins that run tests",
            hooks,
            "    @pytest.hookimpl(tryfirst=True)\n    def pytest_runtest_protocol",
            "    @pytest.hookimpl(trylast=True)\n    def pytest_runtest_protocol",
            f"{basics}test_another_plugin_that_wants_to_run_tests_first_does_so_inside",
        ),
        Mutation.of_one(
            "guard: markers that come too late",
            hooks,
            "    item_specs.check_late_markers(item)\n",
            "    del item\n",
            f"{basics}test_a_marker_that_a_fixture_adds_too_late_ends_the_run",
        ),
        Mutation.of_one(
            "imports outside: the standard library's only",
            "pytest_isolate/plugin/integrations/imports.py",
            "origin.startswith(_LIBRARY)",
            "origin",
            "tests/plugin/test_imports.py::test_what_else_they_import_is_imported_in_each_sandbox",
        ),
        Mutation(
            "host ports: none without leave",
            (
                (
                    "tests/plugin/network/test_host_ports.py::"
                    "test_a_port_of_the_host_is_reached_where_it_is_listed_and_no_other_one_is"
                ),
            ),
            (
                Edit(_PORTS, "        if spec.host_ports is None:\n            return ()\n", ""),
                Edit(_PORTS, "{*spec.host_ports, *self._opened}", "{*(spec.host_ports or ()), *self._opened}"),
            ),
        ),
    ]
