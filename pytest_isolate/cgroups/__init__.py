"""cgroups: where ours may live, the group of this worker, and what to write there for a Spec.

:func:`~pytest_isolate.cgroups.discovery.find` walks the discovery ladder and returns a
:class:`~pytest_isolate.cgroups.interface.CgroupTree`, which is the same for v1, v2 and hybrid hosts.
"""
