"""Capabilities (capabilities(7)) by number."""

from __future__ import annotations

#: Capabilities (numbers of linux/capability.h) that root inside keeps, in its own user namespace: over its own
#: processes, files it may map, its network, host name, and mounts in namespaces that it makes. Left out is what the
#: kernel grants in the initial user namespace only, so that having it would only make programs try.
ROOT_KEEPS = sum(
    1 << number
    for number in (
        0,  # CHOWN
        1,  # DAC_OVERRIDE
        2,  # DAC_READ_SEARCH
        3,  # FOWNER
        4,  # FSETID
        5,  # KILL
        6,  # SETGID
        7,  # SETUID
        8,  # SETPCAP
        10,  # NET_BIND_SERVICE
        11,  # NET_BROADCAST
        12,  # NET_ADMIN
        13,  # NET_RAW
        14,  # IPC_LOCK
        15,  # IPC_OWNER
        18,  # SYS_CHROOT
        19,  # SYS_PTRACE
        21,  # SYS_ADMIN
        23,  # SYS_NICE
        24,  # SYS_RESOURCE
        27,  # MKNOD
        29,  # AUDIT_WRITE
        31,  # SETFCAP
    )
)
