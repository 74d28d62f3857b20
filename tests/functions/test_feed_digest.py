import gzip
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt

from autopilot import ConfigInvalid, PayloadInvalid, RunStatus, TriggerType, WorkflowRun
from autopilot.core.runs.limits import RESULT_LIMIT, json_text
from autopilot.testing import ManualClock
from functions import _feed_memory, feed_digest
from functions._fair_share import fair_share
from functions._feed_document import FeedUnreadable
from functions._feed_memory import MAX_MEMORY_BYTES, MAX_SEEN, RememberedFeed, within_limits
from functions._feed_parser import KEY_LENGTH, MAX_ENTRIES, Entry, parse_feed, plain_text, safe_link, short_digest
from functions._markdown import in_markdown, link
from functions.feed_digest import (
    MAX_FEEDS,
    FeedDigest,
    FeedDigestInput,
    FeedDigestReport,
)
from tests.equipment import equipped
from tests.fakes import InMemoryRunLog
from tests.functions.feeds import DAMAGES, DIALECTS
from tests.functions.network import LocalNetwork
from tests.functions.web_server import Reply, WebServer, running_server

Run = Callable[..., Awaitable[WorkflowRun]]
Digest = Callable[..., Awaitable[FeedDigestReport]]

_FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)

_FRAGMENTS = tuple(
    fragment.encode()
    for fragment in (
        "<rss version='2.0'><channel> <item> </item> <title> </title> <title&#32;mode='base64'> <guid> </guid> <link> "
        "<feed&#32;xmlns='http://www.w3.org/2005/Atom'> <entry> </entry> <id> </id> <updated> </updated> <source> "
        "<georss:point&#32;xmlns:georss='http://www.georss.org/georss'>1&#32;x</georss:point> <textInput> <pubDate> "
        "<?xml&#32;version='1.0'&#32;encoding='utf-7'?> <!DOCTYPE&#32;x[ ]> <!ENTITY&#32;a&#32;'b'> <![CDATA[ ]]> <!-- --> "
        "&#xD800; &#99999999999; &#x110000; &a; 2024-13-45T99:99:99Z -0001-01-01 2003-W99-9 http://[::1 < > & ' \""
    )
    .replace("&#32;", "\t")
    .split(" ")
)


def rss(numbers: Iterable[int], title: str = "News") -> bytes:
    """An RSS feed of entries that are numbered by the day they were published, in the order given."""
    items = "".join(
        f"<item><title>Entry {number}</title><link>https://news.example/{number}</link><guid>id-{number}</guid>"
        f"<pubDate>{_FIRST_DAY + timedelta(days=number):%a, %d %b %Y %H:%M:%S} GMT</pubDate></item>"
        for number in numbers
    )
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>{title}</title>{items}</channel></rss>'.encode()


def listed(report: FeedDigestReport) -> list[int]:
    return [int(number) for number in re.findall(r"Entry (\d+)", report.digest)]


@pytest.fixture
def run(run_log: InMemoryRunLog, clock: ManualClock, network: LocalNetwork) -> Run:
    """Runs the workflow as a cold instance would, a day after the run before."""

    async def run_once(*feeds: str, **payload: Any) -> WorkflowRun:
        clock.advance(timedelta(days=1))
        workflow = equipped(FeedDigest(network=network.as_network), run_log=run_log, clock=clock)
        return await workflow.run(TriggerType.SCHEDULE, {"feeds": list(feeds), **payload})

    return run_once


@pytest.fixture
def digest(run: Run) -> Digest:
    async def run_well(*feeds: str, **payload: Any) -> FeedDigestReport:
        ended = await run(*feeds, **payload)
        assert ended.status is RunStatus.SUCCESS, ended.error
        return FeedDigestReport.model_validate(ended.result)

    return run_well


@pytest.fixture
def webhook(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a webhook that is configured and takes what is posted."""
    path = "/hook/s3cret"
    web.pages[path] = Reply(200)
    monkeypatch.setenv("FEED_DIGEST_WEBHOOK_URL", web.address(path))
    return path


async def test_a_digest_lists_entries_newest_first_with_links_and_dates(digest: Digest, web: WebServer) -> None:
    web.pages["/rss"] = Reply(200, rss([1, 3, 2]))

    report = await digest(web.address("/rss"), title="Morning news")

    assert report.digest == (
        "# Morning news, 2025-03-02\n\n"
        "## News\n\n"
        "- [Entry 3](https://news.example/3), 2025-01-04\n"
        "- [Entry 2](https://news.example/2), 2025-01-03\n"
        "- [Entry 1](https://news.example/1), 2025-01-02\n"
    )
    assert (report.new_entries, report.broken_feeds, report.posted) == (3, 0, False)


async def test_atom_is_read_and_relative_links_are_meant_from_where_the_feed_is(digest: Digest, web: WebServer) -> None:
    atom = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>Blog</title>
        <entry><id>tag:1</id><title type="html">&lt;b&gt;Bold&lt;/b&gt; news</title><link href="../posts/1"/>
        <updated>2025-02-01T10:00:00+02:00</updated></entry></feed>"""
    web.pages |= {"/feed": Reply(301, headers={"location": "/blog/atom/"}), "/blog/atom/": Reply(200, atom)}

    report = await digest(web.address("/feed"))

    assert f"- [Bold news]({web.address('/blog/posts/1')}), 2025-02-01" in report.digest


class TestWhatIsNew:
    """The entries that are new since the last successful run."""

    async def test_only_what_the_last_digest_had_not_is_listed(self, digest: Digest, web: WebServer) -> None:
        feed = web.address("/rss")
        seen = []

        for numbers in ([2, 1], [3, 2, 1], [3, 2, 1], [5, 4]):
            web.pages["/rss"] = Reply(200, rss(numbers))
            report = await digest(feed)
            seen.append(listed(report))

        assert seen == [[2, 1], [3], [], [5, 4]]

    async def test_nothing_new_is_said(self, digest: Digest, web: WebServer) -> None:
        web.pages["/rss"] = Reply(200, rss([1]))
        await digest(web.address("/rss"))

        report = await digest(web.address("/rss"))

        assert report.digest == "# Feed digest, 2025-03-03\n\nNothing new.\n"

    async def test_of_a_feed_that_is_read_first_only_the_newest_are_new(self, digest: Digest, web: WebServer) -> None:
        web.pages["/rss"] = Reply(200, rss(range(10)))
        first = await digest(web.address("/rss"), first_entries=2)
        web.pages["/rss"] = Reply(200, rss(range(11)))

        second = await digest(web.address("/rss"), first_entries=2)

        assert listed(first) == [9, 8]
        assert listed(second) == [10]

    async def test_what_there_is_no_room_for_comes_with_the_next_digest(self, digest: Digest, web: WebServer) -> None:
        web.pages["/rss"] = Reply(200, rss([]))
        await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(200, rss(range(5)))

        reports = [await digest(web.address("/rss"), max_entries=2) for _ in range(4)]

        assert [listed(report) for report in reports] == [[4, 3], [2, 1], [0], []]
        assert [report.feeds[0].waiting for report in reports] == [3, 1, 0, 0]
        assert "3 more from 127.0.0.1" in reports[0].digest

    async def test_a_feed_that_is_unchanged_is_not_sent_again(self, digest: Digest, web: WebServer) -> None:
        validators = {"etag": '"v1"', "last-modified": "Sat, 01 Mar 2025 00:00:00 GMT"}
        web.pages["/rss"] = Reply(200, rss([1]), validators)
        await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(304)
        unchanged = await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(200, rss([2, 1]))

        changed = await digest(web.address("/rss"))

        assert unchanged.feeds[0].error is None
        assert listed(changed) == [2]
        for request in web.asked("/rss")[1:]:
            assert request.headers["if-none-match"] == validators["etag"]
            assert request.headers["if-modified-since"] == validators["last-modified"]

    async def test_entries_are_known_by_id_else_by_link_else_by_title_and_date(
        self, digest: Digest, web: WebServer
    ) -> None:
        def feed(*items: str) -> Reply:
            return Reply(200, f"<rss version='2.0'><channel>{''.join(items)}</channel></rss>".encode())

        by_id = (
            "<item><guid isPermaLink='false'>1</guid><title>Entry {}</title><link>https://n.example/{}</link></item>"
        )
        by_link = "<item><title>Entry {}</title><link>https://n.example/x</link></item>"
        by_title = "<item><title>Entry 3</title><description>{}</description></item>"
        web.pages["/rss"] = feed(by_id.format(1, "a"), by_link.format(2), by_title.format("old"))
        first = await digest(web.address("/rss"))
        web.pages["/rss"] = feed(by_id.format(11, "b"), by_link.format(12), by_title.format("new"))

        second = await digest(web.address("/rss"))

        assert listed(first) == [1, 2, 3]
        assert listed(second) == []

    async def test_an_entry_that_stays_in_a_long_feed_is_never_new_again(self, digest: Digest, web: WebServer) -> None:
        reports = []
        for end in (MAX_ENTRIES, MAX_ENTRIES + 100, MAX_ENTRIES + 200):
            web.pages["/rss"] = Reply(200, rss(range(end)))
            reports.append(await digest(web.address("/rss"), max_entries=100, first_entries=0))

        assert [len(listed(report)) for report in reports] == [0, 100, 100]
        assert listed(reports[2])[0] == MAX_ENTRIES + 199
        assert reports[2].feeds[0].waiting == 0

    async def test_runs_with_other_feeds_do_not_make_it_forget(self, digest: Digest, web: WebServer) -> None:
        web.pages |= {"/a": Reply(200, rss([1])), "/b": Reply(200, rss([2]))}
        await digest(web.address("/a"))
        await digest(web.address("/b"))

        report = await digest(web.address("/a"), web.address("/a"))

        assert listed(report) == []

    @pytest.mark.parametrize("result", (None, [1], {"remembered": 3}, {"remembered": [{"seen": "all"}]}))
    async def test_a_result_of_another_shape_is_as_good_as_none(
        self, digest: Digest, web: WebServer, run_log: InMemoryRunLog, result: Any
    ) -> None:
        old = WorkflowRun(
            id="old",
            workflow_id="feed_digest",
            status=RunStatus.SUCCESS,
            trigger_type=TriggerType.SCHEDULE,
            started_at=_FIRST_DAY,
            result=result,
        )
        await run_log.save_run(old)
        web.pages["/rss"] = Reply(200, rss([1]))

        with structlog.testing.capture_logs() as lines:
            report = await digest(web.address("/rss"))

        assert listed(report) == [1]
        assert "last_result_unreadable" in {line["event"] for line in lines}

    async def test_without_its_run_log_it_fails_rather_than_listing_everything_again(
        self, run: Run, web: WebServer, run_log: InMemoryRunLog, webhook: str
    ) -> None:
        web.pages["/rss"] = Reply(200, rss([1]))
        run_log.is_away = True

        ended = await run(web.address("/rss"))

        assert ended.status is RunStatus.FAILED
        assert web.asked(webhook) == []


class TestWaitingEntries:
    """Entries that were found and had no room are kept, whatever becomes of their feed."""

    @pytest.mark.parametrize(
        "reply",
        (Reply(500), Reply(304), Reply(200, rss([])), Reply(200, rss([9])), Reply(200, b"<rss>")),
        ids=("broken", "not modified", "empty", "replaced", "cut off"),
    )
    async def test_they_come_with_the_next_digest_even_if_the_feed_has_them_no_more(
        self, digest: Digest, web: WebServer, reply: Reply
    ) -> None:
        web.pages["/rss"] = Reply(200, rss([]))
        await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(200, rss(range(5)), {"etag": '"v1"'})
        await digest(web.address("/rss"), max_entries=2)
        web.pages["/rss"] = reply

        reports = [await digest(web.address("/rss"), max_entries=2) for _ in range(3)]
        web.pages["/rss"] = Reply(200, rss(range(5)))
        after = await digest(web.address("/rss"))

        together = [number for report in reports for number in listed(report)]
        assert together == ([9, 2, 1, 0] if reply.body == rss([9]) else [2, 1, 0])
        assert "- [Entry 0](https://news.example/0), 2025-01-01\n" in "".join(report.digest for report in reports)
        assert listed(after) == []

    async def test_newer_ones_come_first_and_none_twice(self, digest: Digest, web: WebServer) -> None:
        reports = []
        for numbers in ([0], [4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0]):
            web.pages["/rss"] = Reply(200, rss(numbers))
            reports.append(await digest(web.address("/rss"), max_entries=2))

        assert [listed(report) for report in reports] == [[0], [4, 3], [5, 2], [1]]
        assert [report.feeds[0].waiting for report in reports] == [0, 2, 1, 0]

    async def test_a_feed_that_holds_more_of_them_than_are_kept_is_read_again(
        self, digest: Digest, web: WebServer
    ) -> None:
        web.pages["/rss"] = Reply(200, rss([0]), {"etag": '"v0"'})
        await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(200, rss(range(250)), {"etag": '"v1"'})

        reports = [await digest(web.address("/rss"), max_entries=100) for _ in range(4)]

        assert [number for report in reports for number in listed(report)] == [*range(249, 0, -1)]
        asked = [request.headers.get("if-none-match") for request in web.asked("/rss")]
        assert asked == [None, '"v0"', None, None, '"v1"'], "not modified would hide those that are only in the feed"

    @pytest.mark.slow
    async def test_there_is_room_for_some_and_the_others_are_found_again(self, digest: Digest, web: WebServer) -> None:
        def feed(count: int) -> Reply:
            items = "".join(
                f"<item><guid>{n}</guid><title>Entry {n} {'x' * 150}</title><link>https://n.example/{n}{'a' * 900}</link></item>"
                for n in range(count)
            )
            return Reply(200, f"<rss version='2.0'><channel>{items}</channel></rss>".encode(), {"etag": '"v1"'})

        paths = [f"/{number}" for number in range(4)]
        web.pages |= dict.fromkeys(paths, feed(0))
        await digest(*map(web.address, paths))
        web.pages |= dict.fromkeys(paths, feed(100))

        reports = [await digest(*map(web.address, paths)) for _ in range(12)]

        assert listed(reports[-1]) == []
        assert sum(len(listed(report)) for report in reports) == 400

    async def test_a_feed_that_has_more_every_day_than_a_digest_takes_keeps_no_other_feed_out(
        self, digest: Digest, web: WebServer
    ) -> None:
        def feed(day: int, count: int) -> Reply:
            items = "".join(
                f"<item><guid>{day}-{n}</guid><title>{'&amp;' * 200}</title><link>https://n.example/{n}{'a' * 900}</link></item>"
                for n in range(count)
            )
            return Reply(200, f"<rss version='2.0'><channel>{items}</channel></rss>".encode())

        web.pages |= {"/flood": feed(0, 0), "/good": feed(0, 0)}
        await digest(web.address("/flood"), web.address("/good"))
        reports = []
        for day in range(3):
            web.pages |= {"/flood": feed(day, 100), "/good": feed(day, 5)}
            reports.append(await digest(web.address("/flood"), web.address("/good"), max_entries=100))

        assert [report.feeds[1].listed for report in reports] == [5, 5, 5]
        assert all(0 < report.feeds[0].listed < 50 for report in reports)
        assert all(len(report.digest.encode()) < 66 * 1024 for report in reports)

    def test_a_feed_of_which_much_waits_leaves_room_for_what_waits_of_the_others(self) -> None:
        def feed(key: str, waiting: int, link: str) -> RememberedFeed:
            entries = [Entry(f"{number:06}", "x" * 200, link, None) for number in range(waiting)]
            return RememberedFeed(key=key, seen="", waiting=entries, etag='"v1"', asked_at=datetime.now(UTC))

        flood, good = within_limits(
            [feed("a", 300, f"https://n.example/{'a' * 900}"), feed("b", 20, "https://n.example/")]
        )

        assert (len(good.waiting), good.etag) == (20, '"v1"')
        assert 100 < len(flood.waiting) < 300
        assert flood.etag is None, "not modified would hide those that are only in the feed"

    @pytest.mark.parametrize(
        ("room", "sizes", "fitting"),
        (
            (10, [], []),
            (10, [[], [4, 4, 4]], [0, 2]),
            (10, [[4, 4, 4], [4, 1, 1]], [1, 3]),
            (9, [[5, 5], [1, 1, 9], [2, 1]], [1, 2, 1]),
            (3, [[9, 1], [1, 1, 1, 1]], [0, 3]),
            (-1, [[1]], [0]),
        ),
    )
    def test_the_feeds_take_one_entry_in_turn_while_the_next_one_fits(
        self, room: int, sizes: list[list[int]], fitting: list[int]
    ) -> None:
        assert fair_share(room, sizes) == fitting


class TestMemory:
    """What is remembered from one digest to the next."""

    @pytest.mark.slow
    async def test_a_hundred_feeds_on_five_schedules_are_listed_once_and_then_what_changed(
        self, digest: Digest, web: WebServer
    ) -> None:
        feeds = [(dialect, damage) for dialect in DIALECTS for damage in DAMAGES][:100]
        paths = [f"/{number}" for number in range(100)]

        async def run_all(numbers: list[int]) -> list[list[int]]:
            for path, (dialect, damage) in zip(paths, feeds, strict=True):
                web.pages[path] = Reply(200, DAMAGES[damage](DIALECTS[dialect](numbers)))
            runs = [await digest(*map(web.address, paths[first : first + 20])) for first in range(0, 100, 20)]
            assert [feed.error for run in runs for feed in run.feeds] == [None] * 100
            return [[feed.listed for feed in run.feeds] for run in runs]

        assert await run_all([3, 2, 1]) == [[3] * 20] * 5
        assert await run_all([3, 2, 1]) == [[0] * 20] * 5
        assert await run_all([4, 3, 2]) == [[1] * 20] * 5

    @pytest.mark.slow
    async def test_a_hundred_long_feeds_have_room(self, digest: Digest, web: WebServer) -> None:
        paths = [f"/{number}" for number in range(100)]
        web.pages |= dict.fromkeys(paths, Reply(200, rss(range(100)), {"etag": '"0123456789abcdef0123456789abcdef"'}))

        runs = [
            [await digest(*map(web.address, paths[first : first + 20])) for first in range(0, 100, 20)]
            for _ in range(2)
        ]

        assert [run.new_entries for run in runs[0]] == [100] * 5
        assert [run.new_entries for run in runs[1]] == [0] * 5
        assert len(runs[1][4].remembered) == 100

    async def test_what_there_is_no_room_for_is_forgotten_aloud_the_feed_that_was_read_last_at_last(
        self, digest: Digest, web: WebServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_feed_memory, "MAX_MEMORY_BYTES", 1000)
        web.pages |= {f"/{number}": Reply(200, rss([1])) for number in range(10)}
        with structlog.testing.capture_logs() as lines:
            reports = [await digest(web.address(f"/{number}")) for number in range(10)]

        again = [await digest(web.address(f"/{number}")) for number in (9, 8, 0)]

        assert "feeds_forgotten" in {line["event"] for line in lines}
        assert 2 <= len(reports[-1].remembered) < 10
        assert [report.new_entries for report in again] == [0, 0, 1]

    @pytest.mark.parametrize("answered", ({}, {"etag": '"v2"', "last-modified": "Sun, 02 Mar 2025 00:00:00 GMT"}))
    async def test_the_validators_of_not_modified_are_taken(
        self, digest: Digest, web: WebServer, answered: dict[str, str]
    ) -> None:
        first = {"etag": '"v1"', "last-modified": "Sat, 01 Mar 2025 00:00:00 GMT"}
        web.pages["/rss"] = Reply(200, rss([1]), first)
        await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(304, headers=answered)
        await digest(web.address("/rss"))
        await digest(web.address("/rss"))

        asked = web.asked("/rss")[2].headers
        assert (asked["if-none-match"], asked["if-modified-since"]) == tuple((first | answered).values())

    @pytest.mark.parametrize("length", (10, MAX_ENTRIES + 200))
    @pytest.mark.parametrize("newest", ("first", "last"))
    @pytest.mark.parametrize("most", ("kept", "dropped"))
    async def test_an_undated_feed_may_have_its_newest_entry_first_or_last(
        self, digest: Digest, web: WebServer, length: int, newest: str, most: str
    ) -> None:
        def feed(end: int) -> Reply:
            numbers = [*range(end - length if most == "dropped" else 0, end)]
            ordered = numbers[::-1] if newest == "first" else numbers
            items = "".join(f"<item><title>Entry {number}</title></item>" for number in ordered)
            return Reply(200, f"<rss version='2.0'><channel>{items}</channel></rss>".encode())

        seen = []
        for end in (length, length, length + 3, length + 4, length + 4):
            web.pages["/rss"] = feed(end)
            seen.append(listed(await digest(web.address("/rss"), first_entries=0)))

        assert seen == [[], [], [length + 2, length + 1, length], [length + 3], []]

    async def test_an_entry_that_comes_back_is_not_new(self, digest: Digest, web: WebServer) -> None:
        seen = []
        for numbers in ([2, 1], [3, 2], [3], [], [3, 2, 1]):
            web.pages["/rss"] = Reply(200, rss(numbers))
            seen.append(listed(await digest(web.address("/rss"))))

        assert seen == [[2, 1], [3], [], [], []]

    async def test_the_memory_of_an_older_version_is_taken(
        self, digest: Digest, web: WebServer, run_log: InMemoryRunLog
    ) -> None:
        feed = {"key": short_digest(web.address("/rss")), "seen": [short_digest("id-1"), short_digest("id-2")]}
        old = WorkflowRun(
            id="old",
            workflow_id="feed_digest",
            status=RunStatus.SUCCESS,
            trigger_type=TriggerType.SCHEDULE,
            started_at=_FIRST_DAY,
            result={"remembered": [feed | {"asked_at": "2025-02-28T00:00:00Z"}]},
        )
        await run_log.save_run(old)
        web.pages["/rss"] = Reply(200, rss([3, 2, 1]))

        assert listed(await digest(web.address("/rss"))) == [3]


class TestBrokenFeeds:
    """A broken feed is reported, the rest is delivered."""

    @pytest.mark.parametrize(
        ("reply", "reason"),
        (
            (Reply(404), "answered 404, not 200"),
            (Reply(304), "answered 304, not 200"),
            (Reply(200, b""), "it is not an RSS or Atom feed"),
            (
                Reply(200, b"<!doctype html><html><body><h1>Not found</h1></body></html>"),
                "it is not an RSS or Atom feed",
            ),
            (Reply(200, b'{"version": "https://jsonfeed.org/version/1"}'), "it is JSON, but not a JSON Feed"),
            (Reply(200, b'{"items": []}'), "it is JSON, but not a JSON Feed"),
            (Reply(200, b'{"version": '), "it is not JSON, though it begins like it"),
            (Reply(200, b"\x00\xff\xfe\x80" * 1000), "it is not an RSS or Atom feed"),
            (Reply(200, b"http://127.0.0.1/"), "it is not an RSS or Atom feed"),
            (
                Reply(200, b"<rss version='2.0'><channel><title>x"),
                "it is a broken RSS or Atom feed without a readable entry",
            ),
            (
                Reply(200, b"<rss version='2.0'><channel><item><title>&#99999999999;"),
                "it is a broken RSS or Atom feed without a readable entry",
            ),
            (Reply(200, b" " * 5_000_000), "it is over 4,194,304 bytes"),
            (Reply(302, headers={"location": "/rss"}), "it redirects more than 5 times"),
        ),
        ids=lambda value: value if isinstance(value, str) else f"{value.status}, {len(value.body)} bytes",
    )
    async def test_a_broken_feed_is_in_the_digest_with_its_reason(
        self, digest: Digest, web: WebServer, reply: Reply, reason: str
    ) -> None:
        web.pages |= {"/rss": reply, "/fine": Reply(200, rss([1]))}

        report = await digest(web.address("/rss"), web.address("/fine"))

        assert listed(report) == [1]
        assert report.broken_feeds == 1
        assert report.feeds[0].error == reason
        assert report.digest.endswith(f"## Could not be read\n\n- 127.0.0.1:{web.port}/rss: {reason}\n")

    async def test_a_feed_that_never_ends_is_given_up_at_the_timeout(
        self, digest: Digest, web: WebServer, network: LocalNetwork, clock: ManualClock
    ) -> None:
        web.pages["/rss"] = Reply(200, b"<rss version='2.0'>", headers={"content-length": "1000"})
        network.stall_after(b"<rss", lambda: clock.advance(timedelta(seconds=0.5)))

        report = await digest(web.address("/rss"), timeout_seconds=0.5)

        assert report.feeds[0].error == "timed out after 0.5 s while reading the body"

    async def test_a_gzip_body_that_breaks_off_is_not_taken_for_complete_and_one_of_two_members_is(
        self, digest: Digest, web: WebServer
    ) -> None:
        body, headers = rss([2, 1]), {"content-encoding": "gzip"}
        web.pages |= {
            "/cut": Reply(200, gzip.compress(body)[:-9], headers),
            "/members": Reply(200, gzip.compress(body[:100]) + gzip.compress(body[100:]), headers),
            "/cut%20member": Reply(200, gzip.compress(body[:100]) + gzip.compress(body[100:])[:-1], headers),
        }

        report = await digest(*map(web.address, ("/cut", "/members", "/cut%20member")))

        assert [feed.listed for feed in report.feeds] == [0, 2, 0]
        assert [feed.error is None for feed in report.feeds] == [False, True, False]

    async def test_what_a_feed_had_while_it_was_broken_is_not_lost(self, digest: Digest, web: WebServer) -> None:
        web.pages["/rss"] = Reply(200, rss([1]))
        await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(500)
        await digest(web.address("/rss"))
        web.pages["/rss"] = Reply(200, rss([3, 2, 1]))

        report = await digest(web.address("/rss"))

        assert listed(report) == [3, 2]

    async def test_a_feed_that_breaks_off_gives_what_was_read(self, digest: Digest, web: WebServer) -> None:
        web.pages["/rss"] = Reply(200, rss([2, 1]).partition(b"<guid>id-1")[0])

        report = await digest(web.address("/rss"))

        assert listed(report) == [2, 1]

    async def test_a_digest_of_nothing_but_broken_feeds_is_a_success_and_reported_once(
        self, digest: Digest, web: WebServer, webhook: str
    ) -> None:
        reports = [await digest(web.address("/a?token=s3cret")) for _ in range(2)]

        assert [report.posted for report in reports] == [True, False]
        assert "Could not be read" in reports[1].digest
        assert "s3cret" not in reports[0].digest

    async def test_broken_feeds_are_logged_by_host(self, digest: Digest, web: WebServer) -> None:
        with structlog.testing.capture_logs() as lines:
            await digest(web.address("/private?token=s3cret"))

        (line,) = [line for line in lines if line["event"] == "feed_broken"]
        assert (line["host"], line["reason"]) == (f"127.0.0.1:{web.port}", "answered 404, not 200")
        assert not any(word in repr(lines) for word in ("s3cret", "/private"))


class TestHostileFeeds:
    """The author of a feed can neither write Markdown in the digest nor break the run."""

    @pytest.mark.parametrize(
        "title",
        (
            "](javascript:alert(1))",
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "![x](https://evil.example/pixel.png)",
            "`code` **bold** _it_ ~~gone~~ | # heading",
            "one\n\n# two\n- three",
            "\\](https://evil.example)",
            "gnp.exe\u202etxt.a",
            "&#xD800; &#0; \x1b[31m",
            "",
        ),
    )
    async def test_a_title_is_shown_as_it_is_and_marks_nothing_up(
        self, digest: Digest, web: WebServer, title: str
    ) -> None:
        feed = f"<rss version='2.0'><channel><title>{escape(title)}</title><item><title>{escape(title)}</title>"
        feed += "<link>https://news.example/1</link></item></channel></rss>"
        web.pages["/rss"] = Reply(200, feed.encode())

        report = await digest(web.address("/rss"))

        html = MarkdownIt("gfm-like", {"linkify": False}).render(report.digest)
        tags = re.findall(r"<(\w+)", html)
        assert tags == ["h1", "h2", "ul", "li", "a"]
        assert re.findall(r'href="([^"]*)"', html) == ["https://news.example/1"]
        assert "\u202e" not in report.digest

    @given(st.text(), st.text())
    def test_any_title_and_any_address_make_one_link_or_none(self, title: str, address: str) -> None:
        shown = plain_text(title)
        target = safe_link(f"https://news.example/{address}")

        tokens = MarkdownIt("gfm-like", {"linkify": False}).parseInline(link(shown, target))[0].children or []

        assert len(shown) <= 200
        assert [token.type for token in tokens] == (
            (["link_open", "text", "link_close"] if shown else ["link_open", "link_close"]) if target else ["text"]
        )
        assert "".join(token.content for token in tokens).replace("\u200b", "") == shown

    @pytest.mark.parametrize(
        ("title", "posted"),
        (
            ("@channel: hello @here", "@\u200bchannel: hello @\u200bhere"),
            ("@everyone @all @alice a@b.example", "@\u200beveryone @\u200ball @\u200balice a@\u200bb.example"),
            (
                "<!channel> <@U1234> <users/all>",
                "&lt;\u200b\\!channel&gt; &lt;\u200b@\u200bU1234&gt; &lt;\u200busers/all&gt;",
            ),
            ("a <b> <meta> < c <https", "a &lt;b&gt; &lt;meta&gt; &lt; c &lt;https"),
            ("1 @ 2 @", "1 @ 2 @"),
        ),
    )
    async def test_a_title_notifies_nobody_in_a_chat(
        self, digest: Digest, web: WebServer, webhook: str, title: str, posted: str
    ) -> None:
        feed = f"<rss version='2.0'><channel><title>{escape(title)}</title><item><title>{escape(title)}</title>"
        feed += "<link>https://news.example/@everyone/@alice</link></item></channel></rss>"
        web.pages["/rss"] = Reply(200, feed.encode())

        await digest(web.address("/rss"))

        (request,) = web.asked(webhook)
        assert json.loads(request.body)["text"].endswith(
            f"\n## {posted}\n\n- [{posted}](https://news.example/%40everyone/@alice)\n"
        )

    @pytest.mark.parametrize(
        ("address", "shown"),
        (
            ("https://news.example/a", "https://news.example/a"),
            ("https://news.example/a b(c)<d>\"'`\\|é", "https://news.example/a%20b%28c%29%3Cd%3E%22%27%60%5C%7C%C3%A9"),
            ("https://news.example/?q=%41&p=1#x", "https://news.example/?q=%41&p=1#x"),
            ("https://news.example//a", "https://news.example//a"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            ("HTTPS://news.example", "https://news.example"),
            ("javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("//news.example/", None),
            ("/relative", None),
            ("https://bank.example@evil.example/", None),
            ("https://news.example)evil/", None),
            ("https://", None),
            ("http://[::1", None),
            ("https://news.example/" + "a" * 1000, None),
            (None, None),
        ),
    )
    def test_only_web_addresses_become_links(self, address: str | None, shown: str | None) -> None:
        assert safe_link(address) == shown

    @pytest.mark.parametrize(
        "body",
        (
            b"""<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
            <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;">
            <!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;"><!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;">]>
            <rss version="2.0"><channel><item><title>Entry 1 &g;</title></item></channel></rss>""",
            b"""<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>
            <rss version="2.0"><channel><item><title>Entry 1 &x;</title></item></channel></rss>""",
        ),
        ids=("entities in entities", "an entity that is a file"),
    )
    async def test_entities_are_not_expanded(self, digest: Digest, web: WebServer, body: bytes) -> None:
        web.pages["/rss"] = Reply(200, body)

        report = await digest(web.address("/rss"))

        assert "Entry 1" in report.digest
        assert "root:" not in report.digest
        assert len(report.digest) < 1000

    def test_a_body_that_is_the_name_of_a_file_is_not_opened(self, tmp_path: Path) -> None:
        file = tmp_path / "feed.xml"
        file.write_bytes(rss([1]))

        with pytest.raises(FeedUnreadable):
            parse_feed(str(file).encode(), address="https://news.example/", content_type="text/xml")

    @pytest.mark.parametrize("encoding", ("utf-8", "utf-16", "iso-8859-1", "windows-1252"))
    def test_feeds_are_read_in_the_encoding_they_say(self, encoding: str) -> None:
        text = f"<?xml version='1.0' encoding='{encoding}'?><rss version='2.0'><channel><title>Grüße</title></channel></rss>"

        feed = parse_feed(text.encode(encoding), address="https://news.example/", content_type="application/xml")

        assert feed.title == "Grüße"

    @pytest.mark.parametrize("date", ("Mon, 99 Foo 9999", "0000-00-00T00:00:00Z", "9999-12-31T23:59:60Z", "x" * 10_000))
    def test_a_date_that_is_none_is_none(self, date: str) -> None:
        body = f"<rss version='2.0'><channel><item><title>x</title><pubDate>{date}</pubDate></item></channel></rss>"

        feed = parse_feed(body.encode(), address="https://news.example/", content_type="text/xml")

        assert len(feed.entries) == 1

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(_FRAGMENTS) | st.binary(max_size=20), max_size=30).map(b"".join))
    def test_any_bytes_are_a_feed_or_refused_as_one(self, noise: bytes) -> None:
        for body in (noise, b"<rss version='2.0'><channel><item><title>" + noise + b"</title></item></channel></rss>"):
            try:
                feed = parse_feed(body, address="https://news.example/", content_type="text/xml; charset=nonsense")
            except FeedUnreadable:
                continue
            assert all(json_text(entry.title) and in_markdown(entry.title) is not None for entry in feed.entries)


class TestWebhook:
    """Where digests are posted: a secret of the configuration."""

    async def test_what_is_new_is_posted_and_nothing_new_is_not(
        self, digest: Digest, web: WebServer, webhook: str
    ) -> None:
        web.pages["/rss"] = Reply(200, rss([1]))

        reports = [await digest(web.address("/rss")) for _ in range(2)]

        assert [report.posted for report in reports] == [True, False]
        (posted,) = web.asked(webhook)
        assert posted.method == "POST"
        assert posted.headers["content-type"] == "application/json"
        assert json.loads(posted.body) == {"text": reports[0].digest}

    @pytest.mark.parametrize("refusal", (Reply(500), Reply(302, headers={"location": "/elsewhere"}), "gone"))
    async def test_a_digest_that_was_not_posted_fails_the_run_and_comes_again(
        self,
        run: Run,
        web: WebServer,
        webhook: str,
        monkeypatch: pytest.MonkeyPatch,
        refusal: Reply | str,
    ) -> None:
        web.pages["/rss"] = Reply(200, rss([2, 1]))
        taking = web.address(webhook)
        if isinstance(refusal, Reply):
            web.pages[webhook] = refusal
        else:
            async with running_server() as gone:
                monkeypatch.setenv("FEED_DIGEST_WEBHOOK_URL", gone.address(webhook))
        failed = await run(web.address("/rss"))
        web.pages[webhook] = Reply(204)
        monkeypatch.setenv("FEED_DIGEST_WEBHOOK_URL", taking)

        again = await run(web.address("/rss"))

        assert (failed.status, failed.error_type) == (RunStatus.FAILED, "DigestNotPosted")
        assert failed.error is not None
        assert failed.error.startswith("the digest could not be posted to the webhook: ")
        assert web.asked("/elsewhere") == []
        assert again.result["new_entries"] == 2
        assert again.result["posted"]

    @pytest.mark.parametrize("status", (200, 500))
    async def test_its_address_is_never_shown(
        self, run: Run, web: WebServer, webhook: str, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        web.pages |= {"/rss": Reply(200, rss([1])), webhook: Reply(status, webhook.encode())}

        with caplog.at_level("INFO"), structlog.testing.capture_logs() as lines:
            ended = await run(web.address("/rss"))

        assert len(web.asked(webhook)) == 1
        assert "s3cret" not in f"{ended.model_dump_json()}{lines}{caplog.text}"

    @pytest.mark.parametrize(
        "value", ("s3cret", "ftp://h/s3cret", "https://u:s3cret@h/", "http://169.254.169.254/s3cret")
    )
    async def test_an_address_that_cannot_be_one_is_refused_by_name_and_not_by_value(
        self, run: Run, run_log: InMemoryRunLog, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("FEED_DIGEST_WEBHOOK_URL", value)

        with pytest.raises(ConfigInvalid, match="FEED_DIGEST_WEBHOOK_URL") as refused:
            await run("https://news.example/rss")

        assert "s3cret" not in str(refused.value)
        assert run_log.runs == {}


class TestPayload:
    """Payloads that are refused before a run exists."""

    @pytest.mark.parametrize(
        ("payload", "field"),
        (
            ({}, "feeds"),
            ({"feeds": []}, "feeds"),
            ({"feeds": ["https://news.example/rss"] * 21}, "feeds"),
            ({"feeds": ["file:///etc/passwd"]}, "feeds"),
            ({"feeds": ["http://metadata.google.internal/"]}, "feeds"),
            ({"feeds": ["https://news.example/rss"], "webhook_url": "https://evil.example"}, "webhook_url"),
            ({"feeds": ["https://news.example/rss"], "title": "x" * 101}, "title"),
            ({"feeds": ["https://news.example/rss"], "max_entries": 101}, "max_entries"),
            ({"feeds": ["https://news.example/rss"], "first_entries": -1}, "first_entries"),
            ({"feeds": ["https://news.example/rss"], "timeout_seconds": "NaN"}, "timeout_seconds"),
        ),
    )
    async def test_a_payload_out_of_bounds_names_its_field(
        self, run_log: InMemoryRunLog, payload: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(PayloadInvalid) as refused:
            await FeedDigest(run_log=run_log).run(TriggerType.HTTP, payload)

        assert refused.value.details[0]["loc"][0] == field
        assert run_log.runs == {}

    def test_the_schedule_has_a_payload_that_fits(self) -> None:
        for schedule in FeedDigest.manifest.schedules:
            FeedDigestInput.model_validate(schedule.payload)


async def test_the_largest_report_fits_into_a_run(
    digest: Digest, web: WebServer, run_log: InMemoryRunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_digest, "MAX_FEED_BYTES", 10_000_000)
    wide = escape("\N{GRINNING FACE}[" * 150)
    items = "".join(
        f"<item><guid>{number}</guid><title>{number} {wide}</title>"
        f"<link>https://news.example/{number}{'a' * 900}</link></item>"
        for number in range(MAX_ENTRIES)
    )
    body = f"<rss version='2.0'><channel><title>{wide}</title>{items}</channel></rss>".encode()
    paths = [f"/{'p' * 1900}{number:03}" for number in range(MAX_FEEDS)]
    validators = {"etag": '"' + "e" * 250 + '"', "last-modified": "m" * 256}
    web.pages |= {path: Reply(200, body, validators) for path in paths[:3]}
    others = [
        RememberedFeed(
            key=f"{number:011}",
            seen="0" * KEY_LENGTH * MAX_SEEN,
            waiting=[Entry(key="0" * KEY_LENGTH, title=wide[:200], link="https://" + "a" * 990, published=_FIRST_DAY)],
            etag="e" * 256,
            last_modified="m" * 256,
            failing_since=_FIRST_DAY,
            asked_at=_FIRST_DAY,
        )
        for number in range(MAX_MEMORY_BYTES // (KEY_LENGTH * MAX_SEEN))
    ]
    before = FeedDigestReport(digest="", new_entries=0, broken_feeds=0, posted=False, feeds=[], remembered=others)
    await run_log.save_run(
        WorkflowRun(
            id="before",
            workflow_id="feed_digest",
            status=RunStatus.SUCCESS,
            trigger_type=TriggerType.MANUAL,
            started_at=_FIRST_DAY,
            result=before.model_dump(mode="json"),
        )
    )

    report = await digest(*(web.address(path) for path in paths), first_entries=100, max_entries=100)

    assert report.new_entries > 20
    assert report.feeds[2].waiting > 0
    size = len(json_text(report.model_dump(mode="json")).encode())
    assert MAX_MEMORY_BYTES < size < RESULT_LIMIT * 0.9
