"""What a layer of Debian packages has beside their files."""

from __future__ import annotations

import pytest

from pytest_isolate.images.build.debian_packages import missing_links


@pytest.mark.parametrize(
    ("paths", "links"),
    [
        (["/.", "/usr", "/usr/bin", "/usr/bin/busybox"], ["bin"]),
        (["/usr/sbin/init", "/usr/lib64/ld.so", "/usr/share/doc"], ["sbin", "lib64"]),
        (["/bin", "/bin/busybox", "/usr/bin/other"], []),
        (["/bin", "/lib", "/usr/lib/libc.so"], []),
        (["/usr/share/bin"], []),
    ],
)
def test_links_to_usr_are_made_where_packages_have_their_files_there_alone(paths: list[str], links: list[str]) -> None:
    assert missing_links(paths) == links
