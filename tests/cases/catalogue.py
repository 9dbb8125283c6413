"""Every case by name: what runs inside, how that ends, and the tests elsewhere that show more of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Group = Literal["processes", "resources", "filesystem", "images", "network", "pytest"]
#: What a test's root is, and whether pytest itself is in a sandbox.
LAYOUTS: Mapping[str, tuple[str, ...]] = {
    "host": (),
    "image": ("--isolate-image=tiny",),
    "session": ("--isolate-session",),
    "session+image": ("--isolate-session", "--isolate-image=tiny"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Something that a test does, and that nobody outside must notice."""

    group: Group
    name: str  #: of ``tests/cases/inside/GROUP.py::test_NAME``, if it is there
    fails: str = ""  #: a regular expression for what its report says, if it is to fail; else it passes
    needs: tuple[str, ...] = ()  #: of the host, beside a sandbox
    kernel: str = ""  #: a regular expression for the reason with which it may be skipped inside: the kernel's
    tests: tuple[str, ...] = ()  #: others in ``tests`` that show it, on the host's tree
    inside: bool = True  #: whether it has a function of its own


def _all(group: Group, cases: Mapping[str, Sequence[str]]) -> list[Case]:
    """Those that pass inside, with their other tests."""
    return [Case(group=group, name=name, tests=tuple(tests)) for name, tests in cases.items()]


def _elsewhere(group: Group, cases: Mapping[str, Sequence[str]]) -> list[Case]:
    """Those that other tests show alone."""
    return [Case(group=group, name=name, tests=tuple(tests), inside=False) for name, tests in cases.items()]


_ENDS, _CLEANUP, _FILES = "plugin/test_ends.py", "plugin/test_cleanup.py", "plugin/test_files.py"
_WATCHING, _SESSIONS, _BRIDGES = (
    "plugin/test_watching.py",
    "kernel/cgroups/test_sessions.py",
    "kernel/network/test_bridges.py",
)
_ROOT, _LAYERS = "plugin/images/test_image_root.py", "plugin/images/test_image_layers.py"
_PORTS = "plugin/network/test_host_ports.py::test_a_port_of_the_host_is_reached_where_it_is_listed_and_no_other_one_is"
_CAPS, _LIMITS = "plugin/limits/test_caps.py", "kernel/cgroups/test_limits.py"
_CHANGES, _MOUNTS, _DEV = (f"kernel/rootfs/test_{name}.py" for name in ("changes", "mounts", "proc_sys_dev"))
_HOSTILE, _UNPACK = "kernel/images/test_hostile_layers.py", "kernel/images/test_unpack.py"
_REFUSED = "kernel/test_refused_calls.py::test_what_no_namespace_covers_is_refused_and_nothing_else_is"
_LEADS_OUT = f"{_HOSTILE}::test_a_layer_that_leads_out_or_is_impossible_is_refused_or_stays_inside"
_TIMES_OUT = "timeout=1"
_V1 = "cgroup v1 has no border"
#: Where a user's files are on disk, as a tmpfs has no user xattrs before Linux 6.6, nothing caps their size.
_OLD = os.geteuid() != 0 and tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 6)
_ON_DISK = "disk cannot be enforced here" if _OLD else ""

PROCESSES = [
    Case(group="processes", name="fork_bomb", fails="hit pids=20", needs=("pids",)),
    Case(group="processes", name="thread_bomb", needs=("pids",)),
    *_all(
        "processes",
        {
            "daemon_survives": [f"{_ENDS}::test_a_double_forked_daemon_does_not_outlive_its_test"],
            "orphan_reparent": [],
            "zombie_reap": [f"{_ENDS}::test_a_thousand_orphaned_zombies_are_reaped"],
        },
    ),
    Case(group="processes", name="self_sigterm", fails="killed by SIGTERM"),
    Case(group="processes", name="self_abort", fails="killed by SIGABRT"),
    Case(group="processes", name="self_sigkill", fails="killed by SIGKILL"),
    Case(group="processes", name="segv", fails="killed by SIGSEGV"),
    Case(group="processes", name="os_exit", fails="exited with status 0 without a result"),
    Case(group="processes", name="kill_parent", fails="killed by SIGKILL"),
    Case(group="processes", name="sigstop_self", fails=_TIMES_OUT),
    *_all(
        "processes",
        {
            "kill_all": [],
            "host_pids_invisible": [f"{_DEV}::test_proc_shows_the_sandbox_alone"],
            "ptrace_of_host": [f"{_DEV}::test_the_first_process_of_roots_sandbox_cannot_be_looked_into"],
            "process_vm_readv_of_host": [],
            "pidfd_of_host": [],
            "priority_raise": [],
            "oom_immunity": [],
            "exe_overwrite": [],
            "directory_descriptor": [
                "plugin/test_descriptors.py::test_no_descriptor_that_leads_out_reaches_a_test",
                f"{_DEV}::test_the_first_process_holds_nothing_that_leads_out",
            ],
            "chroot_escape": [],
            "machine_calls": ["plugin/test_privileges.py"],
        },
    ),
    *_elsewhere(
        "processes",
        {
            "pdeath": [
                f"{_CLEANUP}::test_a_killed_pytest_leaves_nothing",
                f"{_CLEANUP}::test_a_session_sweeps_what_was_left_when_pytest_and_builder_were_killed_together",
            ],
            "pdeath_thread": [f"{_WATCHING}::test_pytest_runs_no_python_while_a_test_runs_but_where_it_has_threads"],
            "sigint": [f"{_CLEANUP}::test_ctrl_c_ends_the_run_with_a_summary_and_leaves_nothing"],
            "nested_pytest_isolate": [
                "plugin/test_session_sandbox.py::test_a_pytest_in_the_sandbox_needs_no_second_one"
            ],
        },
    ),
]

RESOURCES = [
    Case(
        group="resources",
        name="memory_bomb",
        needs=("memory",),
        fails="exceeded memory=50M .*OOM-killed",
        tests=(f"{_CAPS}::test_200_megabytes_under_a_cap_of_50_are_a_failure_that_names_the_cap",),
    ),
    Case(
        group="resources", name="memory_bomb_in_files", needs=("memory",), fails="exceeded memory=50M", kernel=_ON_DISK
    ),
    Case(
        group="resources",
        name="disk_fill",
        kernel=_ON_DISK,
        tests=(f"{_CHANGES}::test_the_writable_layer_is_no_larger_than_asked_for",),
    ),
    Case(group="resources", name="swap_escape", needs=("memory", "swap"), fails="exceeded memory=50M"),
    Case(group="resources", name="cgroup_limit_raise", needs=("memory", "pids"), kernel=_V1),
    Case(group="resources", name="cgroup_limit_raise_by_root", needs=("memory", "pids"), kernel=_V1),
    Case(group="resources", name="cpu_spin_timeout", fails=_TIMES_OUT),
    Case(group="resources", name="sleep_timeout", fails=_TIMES_OUT),
    *_all(
        "resources",
        {
            "sysv_shm": [],
            "mlock": [],
            "posix_mqueue": [],
            "fd_exhaust": [],
            "rlimit_raise": [],
            "cgroup_escape_move": [f"{_SESSIONS}::test_groups_stay_below_the_one_we_are_in"],
        },
    ),
    *_elsewhere(
        "resources",
        {
            "cpu_cap": [f"{_CAPS}::test_a_quota_of_a_quarter_core_holds"],
            "io_cap": [f"{_CAPS}::test_reading_from_the_disk_is_throttled"],
            "cgroup_leftover": [
                f"{_CLEANUP}::test_an_ordinary_run_leaves_nothing",
                f"{_SESSIONS}::test_what_a_dead_session_left_is_swept_with_its_processes",
            ],
            "cgroup_readonly": [f"{_SESSIONS}::test_a_host_without_usable_groups_says_why_and_what_to_do"],
            "stats_match": [
                f"{_LIMITS}::test_memory_below_the_cap_is_left_alone_and_its_peak_known",
                f"{_LIMITS}::test_cpu_time_of_all_descendants_is_counted",
                f"{_LIMITS}::test_bytes_to_and_from_disks_are_counted",
            ],
        },
    ),
]

FILESYSTEM = [
    *_all(
        "filesystem",
        {
            "write_etc": [f"{_FILES}::test_removing_etc_usr_lib_and_home_is_over_with_the_test_and_listed"],
            "write_home": [],
            "write_rootdir": [],
            "tmp_private": [f"{_FILES}::test_files_in_every_place_are_private_to_the_test"],
            "next_test_sees_nothing": [],
            "delete_lower_file": [f"{_CHANGES}::test_a_file_that_is_written_changed_or_deleted_is_as_before_outside"],
            "rm_rf_rootdir": [],
            "rename_lower_dir": ["plugin/test_renames.py"],
            "hardlink_copyup": [],
            "truncate_chmod_and_times": [],
            "open_before_write": [],
            "flock_lower": [],
            "fifo_lower": [f"{_DEV}::test_a_socket_or_pipe_of_the_host_leads_nowhere"],
            "unix_socket_lower": [],
            "symlink_out": [],
            "deep_path": [],
            "device_nodes": [f"{_DEV}::test_dev_has_what_is_no_hardware_and_nothing_else"],
            "setuid_binary": [
                "kernel/rootfs/test_users.py::test_a_setuid_program_gives_nothing",
                f"{_MOUNTS}::test_no_mount_lets_programs_gain_rights_or_devices_be_used",
            ],
            "proc_sys_write": [f"{_DEV}::test_root_inside_cannot_write_the_settings_of_the_machine"],
            "remount_rw": [f"{_DEV}::test_read_only_trees_cannot_be_made_writable_nor_uncovered"],
            "remount_rw_in_a_namespace": [],
            "mount_propagation": [
                f"{_MOUNTS}::test_a_mount_made_outside_later_does_not_appear_and_one_made_inside_does_not_get_out",
                f"{_MOUNTS}::test_where_mounts_are_shared_none_of_the_sandboxs_gets_out",
            ],
        },
    ),
    *_elsewhere(
        "filesystem",
        {
            "submount_visible": [
                f"{_MOUNTS}::test_what_is_mounted_below_is_seen_and_writable_and_private",
                f"{_MOUNTS}::test_a_file_that_is_a_mount_point_shows_what_is_mounted_and_is_private",
            ],
            "locked_mounts": [
                f"{_MOUNTS}::test_a_tree_that_takes_no_overlay_is_shown_read_only_and_named",
                f"{_MOUNTS}::test_a_read_only_mount_stays_read_only",
            ],
            "200_mounts": [f"{_MOUNTS}::test_two_hundred_mounts_are_no_obstacle"],
            "lower_layers_hidden": [f"{_MOUNTS}::test_no_mount_of_the_host_is_left_inside"],
            "tmp_path_kept": ["plugin/fixtures/test_kept_folders.py"],
            "lazy_import_after_pivot": [
                f"{_ROOT}::test_modules_and_extensions_are_imported_inside_for_the_first_time",
                f"{_ROOT}::test_a_failing_assertion_has_its_traceback_with_source_lines",
            ],
        },
    ),
]

IMAGES = _elsewhere(
    "images",
    {
        "dotdot_entry": [_LEADS_OUT],
        "abs_entry": [f"{_HOSTILE}::test_an_absolute_name_is_one_in_the_layer"],
        "symlink_parent": [f"{_HOSTILE}::test_a_link_to_the_host_and_a_file_through_it_stay_inside"],
        "hardlink_to_symlink": [f"{_HOSTILE}::test_a_file_written_through_a_hard_linked_symlink_stays_inside"],
        "device_in_layer": [f"{_HOSTILE}::test_devices_are_left_out_also_one_that_would_be_a_whiteout"],
        "overlay_xattrs_in_pax": [f"{_HOSTILE}::test_attributes_of_overlayfs_are_left_out_and_the_users_own_kept"],
        "whiteouts": [f"{_UNPACK}::test_a_whiteout_hides_what_lies_below_and_nothing_of_its_own_layer"],
        "dev_symlink_in_rootfs": [f"{_LAYERS}::test_an_image_with_a_link_where_the_kernels_trees_belong_is_refused"],
        "bad_digest": [f"{_HOSTILE}::test_a_blob_with_another_digest_leaves_nothing"],
        "truncated_tar": [f"{_HOSTILE}::test_a_tar_that_is_cut_off_is_refused"],
        "size_cap": [f"{_HOSTILE}::test_a_layer_that_is_too_large_is_refused"],
        "owners_rootless": [f"{_UNPACK}::test_owners_are_the_tars_as_root_and_the_users_without"],
        "layers_stay": [f"{_LAYERS}::test_what_a_test_writes_is_gone_and_the_layers_stay_as_they_were"],
        "unpacked_by_parallel_workers": [f"{_LAYERS}::test_workers_of_xdist_share_what_one_of_them_unpacks"],
    },
)

NETWORK = [
    *_all(
        "network",
        {
            "no_outside": [],
            "host_localhost_service": [_PORTS],
            "ports_free": [],
            "loopback_alone": [],
            "hostname_private": [f"{_DEV}::test_the_host_name_is_the_sandboxs"],
            "packets_stay_inside": [],
            "keyring_private": [_REFUSED],
            "vsock": [],
            "tiocsti": [],
            "clock_private": [f"{_FILES}::test_all_eight_namespaces_are_fresh"],
            "env_unchanged": [],
            "env_is_the_tests_own": [],
            "env_is_as_before": [],
        },
    ),
    *_elsewhere(
        "network",
        {
            "bridge_ping": ["kernel/network/test_cluster.py::test_twenty_nodes_reach_each_other_by_name_at_one_port"],
            "bridge_isolated_from_host": [f"{_BRIDGES}::test_nothing_of_the_host_is_reached_from_a_bridge"],
            "netns_leak": [f"{_BRIDGES}::test_many_bridged_runs_leave_no_link_and_no_namespace"],
        },
    ),
]

PYTEST = _elsewhere(
    "pytest",
    {
        "last_failed": ["plugin/test_parity.py::test_options_that_remember_the_last_run_choose_the_same_tests"],
        "junitxml": ["plugin/test_basics.py::test_junit_xml_has_the_same_cases_and_properties"],
        "xfail_of_a_limit": [f"{_CAPS}::test_xfail_applies_to_a_broken_limit"],
        "pdb": ["plugin/test_debugger.py::test_pdb_stops_in_the_failing_frame_inside_the_sandbox_and_the_run_goes_on"],
        "xdist_worker_crash": [
            f"{_CLEANUP}::test_a_killed_xdist_worker_is_replaced_as_in_a_plain_run_and_leaves_nothing"
        ],
        "pytest_timeout": ["plugin/test_basics.py::test_pytest_timeouts_alarm_does_not_go_off_in_pytests_own_process"],
    },
)
CASES = (*PROCESSES, *RESOURCES, *FILESYSTEM, *IMAGES, *NETWORK, *PYTEST)
