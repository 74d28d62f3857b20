"""Text from elsewhere as people can be shown it: what is not seen and changes how the rest is seen stands as an escape.

Control characters move a terminal's cursor, and those of bidirectional text turn the writing direction of what follows
(unicode.org/reports/tr9; trojansource.codes shows what for).
"""

import re

# Tabs and line ends stay what they are.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""``text`` with escapes as Python writes them: ``\x1b``, ``\u202e``."""
    return _UNSEEN.sub(lambda match: repr(match.group())[1:-1], text)


def visible_json(text: str) -> str:
    r"""JSON that means the same: ``\u009b``, ``\u202e``."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
