"""Kinds of messages that the child of a test sends to pytest's process: who sends each, and who receives it.

A message is a pair of its kind and its data, plain JSON on the wire. The kinds are strings and no enum: the child would
look at the enum and its members, and each page of memory that it looks at is copied.
"""

from __future__ import annotations

from collections.abc import Callable

#: Passes one message to pytest's process.
Send = Callable[[object], None]

# Of each test. Received by report/received.py.
REPORT = "report"  # run/report_sender.py: a report, when it is logged in the child
AGAIN = "again"  # run/report_sender.py: another plugin runs the test again; what follows is the next attempt
WARNING = "warning"  # run/warning_recorder.py: a warning that pytest would have recorded
SHOULD_STOP = "shouldstop"  # run/child_protocol.py: the test has set session.shouldstop
SHOULD_FAIL = "shouldfail"  # run/child_protocol.py: the test has set session.shouldfail
EXIT = "exit"  # run/child_protocol.py: pytest.exit was called
INTERRUPT = "interrupt"  # run/child_protocol.py: a KeyboardInterrupt reached the protocol
BROKEN = "broken"  # run/child_protocol.py: a plugin's hook raised; the traceback

# Of one plugin each. Sent and received by its module in integrations/.
COVERAGE = "coverage"  # coverage.py: what the test covered
SUITE_PROPERTY = "suite_property"  # junitxml.py: record_testsuite_property was called
XML_ATTRIBUTE = "xml_attribute"  # junitxml.py: record_xml_attribute was called
FAILED_SUBTESTS = "failed_subtests"  # subtests.py: how many sub-tests failed
BENCHMARK = "benchmark"  # benchmark.py: what one benchmark measured
SNAPSHOTS = "snapshots"  # syrupy.py: which snapshots the test asked for, and those to write
ALLURE = "allure"  # allure.py: the test's result
RETRIES = "retries"  # retry.py: what pytest-retry says at the end
IMPORTS = "imports"  # imports.py: which modules the test has imported
PATTERNS = "patterns"  # patterns.py: which regular expressions the test has compiled
TEAR_DOWN_BEGINS = "tear_down_begins"  # live_log.py: whether the test has written to the terminal
LIVE_RECORD = "live_record"  # live_log.py: what the tear-down has logged
SCENARIO = "scenario"  # bdd.py: the report of a scenario
COMPARISON = "comparison"  # teamcity.py: both sides of a comparison that failed
