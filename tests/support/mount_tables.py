"""Lists of mounts, as machines have them."""

from __future__ import annotations

from pytest_isolate.linux.mountinfo import Mount, parse, visible

LAPTOP = rb"""
22 27 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
24 27 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=8072996k
26 27 0:23 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw,size=1623604k,mode=755
27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw,errors=remount-ro
32 26 0:28 / /run/lock rw,nosuid,nodev,noexec,relatime shared:6 - tmpfs tmpfs rw,size=5120k
40 27 7:1 / /snap/core\040x/1 ro,nodev,relatime shared:30 - squashfs /dev/loop1 ro
41 27 254:2 / /home rw,relatime shared:31 - ext4 /dev/mapper/vg-home rw
42 27 8:1 / /boot rw,relatime shared:32 - ext2 /dev/sda1 rw
43 42 8:2 / /boot/efi rw,relatime shared:33 - vfat /dev/sda2 rw,fmask=0077
44 26 0:43 / /run/user/1000 rw,nosuid,nodev,relatime shared:40 - tmpfs tmpfs rw,uid=1000
45 44 0:44 / /run/user/1000/doc rw,nosuid,nodev,relatime shared:41 - fuse.portal portal rw,user_id=1000
46 27 0:45 / /proc/sys/fs/binfmt_misc rw shared:42 - binfmt_misc binfmt_misc rw
"""
DOCKER = rb"""
655 482 0:60 / / rw,relatime master:199 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u,workdir=/w
656 655 0:63 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
657 655 0:64 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
661 657 0:62 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
663 655 254:1 /var/lib/docker/x/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw
664 655 254:1 /var/lib/docker/x/hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
665 655 254:1 /src /src rw,relatime - ext4 /dev/vda1 rw
483 656 0:63 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw
"""


def shown(text: bytes) -> tuple[Mount, ...]:
    kept = [mount for mount in visible(parse(text.strip())) if not mount.point.startswith(("/proc", "/sys", "/dev"))]
    return tuple(kept)
