"""What keeps a sandbox's test from the machine: namespaces, mounts, what its process gives up."""

from __future__ import annotations

from tests.mutate.mutation import Mutation

_NATIVE = "pytest_isolate/linux/_native/"
_PLANNER = "pytest_isolate/plan/planner.py"
_KERNEL_FILES = "pytest_isolate/plan/proc_sys_dev.py"
_ROOTFS = "pytest_isolate/plan/rootfs.py"
_MOUNTS = "tests/kernel/rootfs/test_mounts.py::"
_MADE = "tests/kernel/rootfs/test_proc_sys_dev.py::"
_CAPS = "tests/plugin/limits/test_caps.py::"


def namespaces() -> list[Mutation]:
    test = "tests/plugin/test_files.py::test_all_eight_namespaces_are_fresh"
    usual = ("PID", "NET", "UTS", "IPC", "USER")
    joined = "joined = host.namespaces & (ESSENTIAL | USUAL) & ~shared\n    uplink ="
    late = "late = host.namespaces & OPTIONAL\n"
    without = [
        Mutation.of_one(
            f"namespace: {kind}", _PLANNER, joined, joined.replace("~shared", f"~shared & ~Clone.NEW{kind}"), test
        )
        for kind in usual
    ]
    without += [
        Mutation.of_one(f"namespace: {kind}", _PLANNER, late, late.replace("\n", f" & ~Clone.NEW{kind}\n"), test)
        for kind in ("CGROUP", "TIME")
    ]
    # Nothing is built with this one: it would be built over the machine's own mounts.
    unit = "tests/unit/plan/test_planner.py"
    return [
        *without,
        Mutation.of_one("namespace: NS", _PLANNER, joined, joined.replace("~shared", "~shared & ~Clone.NEWNS"), unit),
    ]


def given_up() -> list[Mutation]:
    enter = f"{_NATIVE}enter.c"
    privileges = "tests/plugin/test_privileges.py"
    return [
        Mutation.of_one("capabilities: bounding set", enter, "may && cap < 64", "may && cap < 0", privileges),
        Mutation.of_one(
            "capabilities: permitted, effective, inheritable sets",
            enter,
            "return (int)syscall(SYS_capset, &header, data);",
            "return 0;",
            privileges,
        ),
        Mutation.of_one(
            "no_new_privs", enter, "entry->no_new_privs && prctl", "entry->no_new_privs && 0 && prctl", privileges
        ),
        Mutation.of_one(
            "seccomp as a whole", enter, "entry->seccomp && seccomp", "entry->seccomp && 0 && seccomp", privileges
        ),
        Mutation.of_one(
            "a session of its own (setsid)",
            enter,
            "if (setsid() < 0) return ENTER_SETSID;",
            "",
            "tests/plugin/test_ends.py::test_a_test_that_dies_is_a_failure_that_says_how_and_the_run_goes_on",
        ),
        Mutation.of_one(
            "closing of descriptors in the child",
            enter,
            "for (int i = 0; i < entry->close_count; i++) close(entry->close[i]);",
            "",
            "tests/plugin/test_descriptors.py::test_no_descriptor_that_leads_out_reaches_a_test",
        ),
        Mutation.of_one(
            "closing of pidfds of others of the row",
            f"{_NATIVE}fork.c",
            "if (forked[i].pidfd >= 0) close(forked[i].pidfd);",
            ";",
            "tests/kernel/test_row.py::test_a_child_has_no_descriptor_of_those_before_it_nor_of_the_wait",
        ),
        Mutation.of_one(
            "closing of descriptors of sandboxes and builder",
            "pytest_isolate/session/run_starter.py",
            "return (*self.sandboxes.secrets(), *self.host_ports.secrets(doors))",
            "return (*self.host_ports.secrets(doors),)",
            "tests/plugin/test_descriptors.py::test_no_descriptor_that_leads_out_reaches_a_test",
        ),
        Mutation.of_one(
            "closing of descriptors in init",
            f"{_NATIVE}init.c",
            "  close_others(builder, keeper, signals, scratch);",
            "  (void)close_others;",
            f"{_MADE}test_the_first_process_holds_nothing_that_leads_out",
        ),
        Mutation.of_one(
            "init cannot be looked into",
            f"{_NATIVE}init.c",
            "int dumpable = (plan->namespaces & CLONE_NEWUSER) != 0;",
            "int dumpable = 1;",
            f"{_MADE}test_the_first_process_of_roots_sandbox_cannot_be_looked_into",
        ),
        Mutation.of_one(
            "landlock, where there are no namespaces",
            enter,
            "entry->landlock_count >= 0 &&",
            "entry->landlock_count > 9999 &&",
            "tests/plugin/test_hosts.py::test_without_user_namespaces_a_degraded_test_may_write_in_temporary_folders_only"
            "_and_leaves_no_process",
        ),
    ]


def system_calls() -> list[Mutation]:
    file, test = f"{_NATIVE}seccomp.c", "tests/kernel/test_refused_calls.py"
    rules = [f"WHEN(SYS_{name}), REFUSE(ENOSYS)," for name in ("keyctl", "add_key", "request_key")]
    rules += [
        f"WHEN(SYS_{name}), REFUSE(EPERM),"
        for name in ("bpf", "perf_event_open", "kexec_load", "kexec_file_load", "open_by_handle_at")
    ]
    rules += [
        "WHEN(AF_VSOCK), REFUSE(EAFNOSUPPORT),",
        "WHEN(0x5412 /* TIOCSTI */), REFUSE(EPERM),",
        "WHEN(0x541C /* TIOCLINUX */), REFUSE(EPERM),",
    ]
    # Each rule is two instructions that jump over nothing else; two that do nothing keep the others' distances.
    nothing = "BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0), BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0),"
    found = [Mutation.of_one(f"seccomp: {rule.partition(')')[0][5:]}", file, rule, nothing, test) for rule in rules]
    for name, place in (("socket", 5), ("socketpair", 3), ("ioctl", 5)):
        rule = f"WHEN(SYS_{name}), BPF_JUMP(BPF_JMP | BPF_JA, {place}, 0, 0),"
        found.append(Mutation.of_one(f"seccomp: {name} is looked at", file, rule, nothing, test))
    arch = "BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),"
    x32 = "BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),"
    found.append(Mutation.of_one("seccomp: 32-bit calls", file, arch, arch.replace("1, 0)", "1, 1)"), test))
    found.append(Mutation.of_one("seccomp: x32 calls", file, x32, x32.replace("0, 1)", "1, 1)"), test))
    return found


def mounts() -> list[Mutation]:
    flags = f"{_MOUNTS}test_no_mount_lets_programs_gain_rights_or_devices_be_used"
    disk = f"{_CAPS}test_writing_beyond_the_disk_cap_fails_with_enospc"
    settings = f"{_MADE}test_root_inside_cannot_write_the_settings_of_the_machine"
    uncovered = f"{_MADE}test_read_only_trees_cannot_be_made_writable_nor_uncovered"
    inert = "_INERT = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC"
    operations, on_disk = f"{_NATIVE}operations.c", "{.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV}"
    safe = "SAFE = MountFlag.NOSUID | MountFlag.NODEV\n"
    return [
        Mutation.of_one("overlays: nosuid", _ROOTFS, safe, "SAFE = MountFlag.NODEV\n", flags),
        Mutation.of_one("overlays: nodev", _ROOTFS, safe, "SAFE = MountFlag.NOSUID\n", flags),
        Mutation.of_one(
            "what is on disk: nosuid", operations, on_disk, on_disk.replace("MOUNT_ATTR_NOSUID | ", ""), flags
        ),
        Mutation.of_one(
            "what is on disk: nodev", operations, on_disk, on_disk.replace(" | MOUNT_ATTR_NODEV", ""), flags
        ),
        Mutation.of_one(
            "/proc, /sys, mqueue: nosuid", _KERNEL_FILES, inert, inert.replace("MountFlag.NOSUID | ", ""), flags
        ),
        Mutation.of_one(
            "/proc, /sys, mqueue: nodev", _KERNEL_FILES, inert, inert.replace("MountFlag.NODEV | ", ""), flags
        ),
        Mutation.of_one(
            "/proc, /sys, mqueue: noexec", _KERNEL_FILES, inert, inert.replace(" | MountFlag.NOEXEC", ""), flags
        ),
        Mutation.of_one(
            "/dev: nosuid",
            _KERNEL_FILES,
            'target, "tmpfs", MountFlag.NOSUID | MountFlag.NOEXEC,',
            'target, "tmpfs", MountFlag.NOEXEC,',
            flags,
        ),
        Mutation.of_one("/dev/pts: nosuid", _KERNEL_FILES, "terminals = MountFlag.NOSUID | ", "terminals = ", flags),
        Mutation.of_one(
            "noexec mounts of the host stay so",
            _ROOTFS,
            "    return flags | MountFlag.NOEXEC if",
            "    return flags if",
            f"{_MOUNTS}test_a_mount_that_forbids_programs_forbids_them_inside",
        ),
        Mutation.of_one(
            "read-only mounts of the host stay so",
            _ROOTFS,
            "flags = MountFlag.RDONLY if mount.read_only else MountFlag(0)",
            "flags = MountFlag(0)",
            f"{_MOUNTS}test_a_read_only_mount_stays_read_only",
        ),
        Mutation.of_one(
            "entries of /proc that act on the machine are read-only",
            _KERNEL_FILES,
            "[op, *([do.freeze(target, machine)] if machine else [])]",
            "[op]",
            settings,
        ),
        Mutation.of_one(
            "/sys of root is read-only",
            _KERNEL_FILES,
            "    return [*ops, do.read_only(target)]",
            "    return ops",
            settings,
            uncovered,
        ),
        Mutation.of_one(
            "/sys of a user is read-only",
            _KERNEL_FILES,
            '"sysfs", _INERT | MountFlag.RDONLY)',
            '"sysfs", _INERT)',
            settings,
            uncovered,
        ),
        Mutation.of_one(
            "the host's device nodes are read-only",
            f"{_NATIVE}operations.c",
            "  return make_readonly(op, 0, failure);",
            "  return 0;",
            f"{_MADE}test_what_is_done_to_a_device_file_stays_inside",
        ),
        Mutation.of_one(
            "mounts are private",
            f"{_NATIVE}operations.c",
            'if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)',
            "if (0)",
            f"{_MOUNTS}test_where_mounts_are_shared_none_of_the_sandboxs_gets_out",
        ),
        Mutation.of_one(
            "the host's root is detached",
            f"{_NATIVE}operations.c",
            'if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)',
            'if (chdir("/") < 0)',
            f"{_MOUNTS}test_no_mount_of_the_host_is_left_inside",
        ),
        Mutation.of_one(
            "shared memory has a layer",
            _ROOTFS,
            "    late.overlay(SHM, mode)",
            "    late.add(do.bind(OLD + SHM, NEW + SHM))",
            f"{_MADE}test_shared_memory_of_the_host_is_seen_and_kept_from_the_test",
        ),
        Mutation.of_one("the size of the layers", _PLANNER, "do.stage(spec.limits.disk)", 'do.stage("64m")', disk),
    ]
