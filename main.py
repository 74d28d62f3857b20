"""The functions of this bundle, one line each: a name, and the workflow that it serves."""

from autopilot import api_entry_point, entry_point

feed_digest = entry_point("functions.feed_digest:FeedDigest")
uptime_check = entry_point("functions.uptime_check:UptimeCheck")

api = api_entry_point()
