"""All that is fuzzed."""

from __future__ import annotations

from tests.fuzz.image_files import IMAGE_FILES
from tests.fuzz.kernel_tables import KERNEL_TABLES
from tests.fuzz.messages import MESSAGES
from tests.fuzz.native_plan import NATIVE_PLAN
from tests.fuzz.values import VALUES

PARSERS = {parser.name: parser for parser in (*VALUES, *MESSAGES, *KERNEL_TABLES, *IMAGE_FILES, *NATIVE_PLAN)}
