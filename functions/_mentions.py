"""Text from elsewhere that notifies nobody when it is posted to a chat service."""

import re

# "@here"; Slack's "<!channel>", "<@U1>", "<#C1>" and "<https://address|text>", Discord's "<@&1>", Google Chat's "<users/all>".
_MENTION = re.compile(r"@(?=\w)|<(?=[!@#]|\w+[/:])")


def without_mentions(text: str) -> str:
    """Break what chat services read as a mention with a zero-width space: they have no escape for it.

    Slack's links in angle brackets are broken too: their text could name another host than they lead to.
    """
    return _MENTION.sub("\\g<0>\u200b", text)
