from __future__ import annotations

import re
from pathlib import Path

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.registry import INTEGRATIONS


def test_each_kind_of_message_has_one_receiver() -> None:
    own = {name for name, value in vars(messages).items() if isinstance(value, str) and name.isupper()}
    received = (Path(messages.__file__).parent / "report" / "received.py").read_text()
    receivers = [getattr(messages, name) for name in re.findall(r"messages\.([A-Z_]+)", received)]
    receivers += [kind for integration in INTEGRATIONS for kind in integration.kinds]
    assert sorted(receivers) == sorted(getattr(messages, name) for name in own)
