"""Every protection, as a change that takes it out, and the tests that must turn red.

In the order of docs/security.md. Two that stand in for one another, as two ways by which init notices that it is alone,
are taken out together.
"""

from __future__ import annotations

from tests.mutate import sandbox, session, session_sandbox

MUTATIONS = (
    *sandbox.namespaces(),
    *sandbox.given_up(),
    *sandbox.system_calls(),
    *sandbox.mounts(),
    *session.limits(),
    *session.ends(),
    *session.images(),
    *session.pytests_side(),
    *session_sandbox.what_stays(),
    *session_sandbox.how_it_ends(),
)
