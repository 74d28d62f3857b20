import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Any
from xml.parsers import expat

import pytest
from hypothesis import given, settings, strategies as st

from functions._feed_dates import parse_date
from functions._feed_document import MAX_ENTRIES_READ, FeedUnreadable
from functions._feed_parser import MAX_ENTRIES, Feed, parse_feed
from functions._markup import attributes, scan, unescaped
from tests.functions.feeds import DAMAGES, DIALECTS, FIRST_DAY, UNDATED, json_feed


def parsed(body: bytes | str, content_type: str = "text/xml") -> Feed:
    encoded = body if isinstance(body, bytes) else body.encode()
    return parse_feed(encoded, address="https://news.example/feed", content_type=content_type)


def rss(*items: str) -> str:
    return f"<rss version='2.0'><channel><title>News</title>{''.join(items)}</channel></rss>"


class TestDialects:
    """What feeds are written in, and what is wrong with many."""

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_every_dialect_is_read_however_damaged(self, dialect: str, damage: str) -> None:
        read = parsed(DAMAGES[damage](DIALECTS[dialect]([3, 1, 2])), "application/xml")
        again = parsed(DAMAGES[damage](DIALECTS[dialect]([4, 3, 1])), "application/xml")

        days = [3, 1, 2] if dialect in UNDATED else [3, 2, 1]
        assert [entry.title for entry in read.entries] == [f"Entry {day} & co" for day in days]
        assert [entry.link for entry in read.entries] == [f"https://news.example/{day}" for day in days]
        if dialect not in UNDATED:
            assert [(entry.published or FIRST_DAY) - FIRST_DAY for entry in read.entries] == [
                datetime(2025, 1, 1 + day, tzinfo=UTC) - FIRST_DAY for day in days
            ]
        assert re.fullmatch(r"N.ws\S?", read.title)
        assert len({entry.key for entry in read.entries} & {entry.key for entry in again.entries}) == 2

    def test_json_feed_is_read(self) -> None:
        feed = parsed(json.dumps(json_feed([3, 1, 2])), "application/feed+json")

        assert feed.title == "News"
        assert [(entry.title, entry.link) for entry in feed.entries] == [
            (f"Entry {day} & co", f"https://news.example/{day}") for day in (3, 2, 1)
        ]
        assert feed.entries[0].published == datetime(2025, 1, 4, tzinfo=UTC)

    def test_line_breaks_and_tabs_may_stand_in_the_texts_of_a_json_feed(self) -> None:
        body = '{"version": "https://jsonfeed.org/version/1", "items": [{"id": "1", "title": "a\nb\tc"}]}'

        assert parsed(body).entries[0].title == "a b c"

    @pytest.mark.parametrize(
        ("item", "title", "link"),
        (
            ({"id": "1", "content_text": "a < b & <meta>"}, "a < b & <meta>", None),
            ({"id": 1.5, "content_html": "<p>a &lt; b</p>", "external_url": "/x"}, "a < b", "https://news.example/x"),
            ({"id": None, "title": ["x"], "url": {}, "summary": "words"}, "words", None),
            ({}, "", None),
        ),
    )
    def test_items_of_a_json_feed_may_lack_what_they_like(self, item: Any, title: str, link: str | None) -> None:
        body = {"version": "https://jsonfeed.org/version/1", "items": [item, "no item", None, 3]}

        (entry,) = parsed(json.dumps(body)).entries

        assert (entry.title, entry.link) == (title, link)

    @pytest.mark.parametrize(
        ("links", "link"),
        (
            ('<link rel="enclosure">https://a.example/1.jpg</link><link href="/1"/>', "https://news.example/1"),
            ('<link rel="alternate" type="application/pdf" href="/p"/><link type="text/html" href="/h"/>', "/h"),
            ('<link rel="http://www.iana.org/assignments/relation/alternate" href="/1"/>', "/1"),
            ('<link rel="self" href="/1"/><link rel="via" href="/2"/>', None),
            ('<link href="http://[::1"/>', None),
            ('<link href="javascript:alert(1)"/>', None),
            ("<link/><guid>https://news.example/g</guid>", "/g"),
            ("<guid isPermaLink='false'>https://news.example/g</guid>", None),
            ("<guid>urn:uuid:1</guid>", None),
            ("<link>/a?b=1&copy=2&amp;c=3</link>", "/a?b=1&copy=2&c=3"),
            ("<link>\n  https://news.example/1\n</link>", "/1"),
            ("<link><![CDATA[/1]]></link>", "/1"),
        ),
    )
    def test_an_entry_links_to_its_page(self, links: str, link: str | None) -> None:
        (entry,) = parsed(rss(f"<item><title>x</title>{links}</item>")).entries

        assert entry.link == (f"https://news.example{link}" if link is not None and link[0] == "/" else link)

    @pytest.mark.parametrize(
        "entity",
        ("<!ENTITY a 'x'>", "<!ENTITY a SYSTEM 'file:///etc/passwd'>", "<!ENTITY a '&b;&b;'><!ENTITY b '&c;&c;'>"),
    )
    def test_declared_entities_stay_what_they_are(self, entity: str) -> None:
        (entry,) = parsed(f"<!DOCTYPE rss [{entity}]>{rss('<item><title>1 &a; 2</title></item>')}").entries

        assert entry.title == "1 &a; 2"

    def test_bytes_are_read_as_the_server_says_unless_they_are_utf_8(self) -> None:
        text = rss("<item><title>Ж</title></item>")

        assert parsed(text.encode("koi8-r"), "text/xml; charset=KOI8-R").entries[0].title == "Ж"
        assert parsed(text.encode("utf-8"), "text/xml; charset=iso-8859-1").entries[0].title == "Ж"

    @pytest.mark.parametrize(
        "label", ("utf-16", "punycode", "idna", "base64", "zip", "utf-7", "unicode_escape", "..", "a\0b", "")
    )
    def test_what_is_no_encoding_of_pages_or_not_that_of_this_one_is_passed_over(self, label: str) -> None:
        body = f"<?xml version='1.0' encoding='{label}'?>{rss('<item><title>é</title></item>')}"

        assert parsed(body, f"text/xml; charset={label}").entries[0].title == "é"


class TestTitles:
    """What is shown of a title: HTML without its tags, and plain text as it is."""

    @pytest.mark.parametrize(
        ("element", "title"),
        (
            # RSS does not say what a title is: HTML if it closes a tag that formats.
            ("<title>How to use &lt;meta&gt;</title>", "How to use <meta>"),
            ("<title>A free guide to &lt;head&gt; elements</title>", "A free guide to <head> elements"),
            ("<title>a &lt; b and c &gt; d</title>", "a < b and c > d"),
            ("<title>a < b</title>", "a < b"),
            ("<title><![CDATA[a < b & c]]></title>", "a < b & c"),
            ("<title>Vec&lt;T&gt; &amp;amp; &amp;#8217;</title>", "Vec<T> & \N{RIGHT SINGLE QUOTATION MARK}"),
            ("<title>&lt;b&gt;Bold&lt;/b&gt; &amp;lt;meta&amp;gt;</title>", "Bold <meta>"),
            ("<title>H&lt;sub&gt;2&lt;/sub&gt;O&lt;br/&gt;is wet</title>", "H2O is wet"),
            ("<title>H<sub>2</sub>O</title>", "H2O"),
            ("<title>AT&T &bogus; &copy=1</title>", "AT&T &bogus; &copy=1"),
            # Atom says it.
            ('<title type="text">&lt;b&gt;not bold&lt;/b&gt;</title>', "<b>not bold</b>"),
            ('<title type="html">&lt;3 Deno</title>', "<3 Deno"),
            ('<title type="html">&lt;meta&gt;x&lt;script&gt;y&lt;/script&gt;</title>', "x"),
            ('<title type="html">AT&amp;amp;T</title>', "AT&T"),
            ('<title type="xhtml"><div>a &lt; <b>b</b></div></title>', "a < b"),
            ("<image><title>No</title></image><title>Yes</title>", "Yes"),
            ("<title/><dc:title>Dublin</dc:title>", "Dublin"),
            ("<title>Unclosed", "Unclosed"),
        ),
    )
    def test_a_title_is_shown_as_it_is_meant(self, element: str, title: str) -> None:
        (entry,) = parsed(rss(f"<item>{element}</item>")).entries

        assert entry.title == title

    def test_the_title_of_an_atom_entry_is_plain_unless_it_says_otherwise(self) -> None:
        entry = "<entry><title>Example &lt;b&gt;Atom&lt;/b&gt; &amp;amp;</title></entry>"

        feed = parsed(f"<feed xmlns='http://www.w3.org/2005/Atom'>{entry}</feed>")

        assert feed.entries[0].title == "Example <b>Atom</b> &amp;"

    @pytest.mark.parametrize(
        ("text", "title"),
        (
            ("<description>&lt;p&gt;Hello &lt;b&gt;world&lt;/b&gt;&lt;/p&gt;</description>", "Hello world"),
            ("<description>" + "word " * 100 + "</description>", "word " * 15 + "word…"),
            ("<description>" + "w" * 100 + "</description>", "w" * 79 + "…"),
            ("<content:encoded><![CDATA[<style>p {}</style><p>Hi</p>]]></content:encoded>", "Hi"),
            ("<description/><summary type='text'>a &lt;b&gt;</summary>", "a <b>"),
            ("<title> </title><description>x</description>", "x"),
            ("", ""),
        ),
    )
    def test_an_untitled_entry_shows_its_first_words(self, text: str, title: str) -> None:
        (entry,) = parsed(rss(f"<item>{text}</item>")).entries

        assert entry.title == title


class TestIdentities:
    """By what an entry is known again."""

    @staticmethod
    def keys(*items: str) -> list[str]:
        return [entry.key for entry in parsed(rss(*(f"<item>{item}</item>" for item in items))).entries]

    @pytest.mark.parametrize(
        ("before", "after", "keys"),
        (
            ("<guid>1</guid><link>/a</link><title>A</title>", "<guid> 1 </guid><link>/b</link><title>B</title>", 1),
            ("<guid>1</guid><link>/a</link>", "<guid>2</guid><link>/a</link>", 2),
            ("<guid>http://a.example/1</guid>", "<guid>https://a.example/1</guid>", 1),
            ("<link>https://a.example/1</link>", "<link>http://a.example/1</link>", 1),
            ("<link>/a</link><title>A</title>", "<link>/a</link><title>B</title><pubDate>2025</pubDate>", 1),
            ("<link>/a</link><title>A</title>", "<link>/b</link><title>A</title>", 2),
            ("<title>A</title><pubDate>2025</pubDate>x", "<title>A</title><pubDate>2025</pubDate>y", 1),
            ("<title>A</title><pubDate>2025</pubDate>", "<title>A</title><pubDate>2026</pubDate>", 2),
            ("<description>a</description>", "<description>a</description><pubDate>2026</pubDate>", 1),
            ("<description>a</description>", "<description>b</description>", 2),
        ),
    )
    def test_guid_else_link_else_title_and_date_else_text(self, before: str, after: str, keys: int) -> None:
        assert len({*self.keys(before), *self.keys(after)}) == keys

    @pytest.mark.parametrize(
        "items",
        (
            [f"<guid>same</guid><link>/{number}</link>" for number in range(4)],
            [f"<guid>same</guid><link>/same</link><title>{number}</title>" for number in range(4)],
            [f"<guid>same</guid><title>same</title><pubDate>202{number}</pubDate>" for number in range(4)],
            [f"<guid>same</guid><title>same</title><description>{number}</description>" for number in range(4)],
            [f"<link>/same</link><description>{number}</description>" for number in range(4)],
        ),
    )
    def test_what_several_entries_share_identifies_none_of_them(self, items: list[str]) -> None:
        keys = self.keys(*items)

        assert len(set(keys)) == 4
        assert set(self.keys(*items[1:])) < set(keys), "nor do they change when one of them goes"

    def test_an_entry_that_stands_there_twice_is_one(self) -> None:
        item = "<guid>1</guid><link>/a</link><title>A</title>"

        assert self.keys(item, item) == self.keys(item)

    def test_a_neighbour_does_not_change_what_an_entry_is_known_by(self) -> None:
        item = "<guid>1</guid><link>/a</link>"

        assert self.keys(item)[0] in self.keys("<guid>2</guid><link>/a</link>", item)


class TestDates:
    @pytest.mark.parametrize(
        ("text", "date"),
        (
            ("Thu, 01 Jan 2004 19:48:21 GMT", "2004-01-01T19:48:21"),
            ("Thu, 1 January 2004 19:48:21 EST", "2004-01-02T00:48:21"),
            ("Thu, 01 Jan 04 19:48 +0200", "2004-01-01T17:48:00"),
            ("Thu Jan  1 19:48:21 2004", "2004-01-01T19:48:21"),
            ("Thu, 01 Jan 2004 19:48:21 +02:00", "2004-01-01T17:48:21"),
            ("Thu, 01 Jan 2004 19:48:21 GMT+0200", "2004-01-01T17:48:21"),
            ("Thu, 01 Jan 2004 19:48 UTC -01:30", "2004-01-01T21:18:00"),
            ("Thu, 01 Jan 2004 19:48:21 +99999", None),
            ("1 Sept 2025 10:00:00 GMT", "2025-09-01T10:00:00"),
            ("Thu, 01-Jan-2004 19:48:21 GMT", "2004-01-01T19:48:21"),
            ("Tue, 30 Sep 2025", "2025-09-30T00:00:00"),
            ("Jan 1, 2004", "2004-01-01T00:00:00"),
            ("2003", "2003-01-01T00:00:00"),
            ("2003-12", "2003-12-01T00:00:00"),
            ("20031231", "2003-12-31T00:00:00"),
            ("2003-12-31T10:14Z", "2003-12-31T10:14:00"),
            ("2003-12-31T10:14:55.123456789+01:00", "2003-12-31T09:14:55"),
            ("2003-12-31 10:14:55 -0130", "2003-12-31T11:44:55"),
            ("2003-12-31T24:00:00Z", "2004-01-01T00:00:00"),
            ("2003-12-31T23:59:60Z", "2004-01-01T00:00:00"),
            ("Thu, 01 Jan 99999 00:00:00 GMT", None),
            ("99999-01-01", None),
            ("9999-12-31T23:59:59-01:00", None),
            ("0001-01-01T00:00:00+14:00", None),
            ("0000-00-00T00:00:00Z", None),
            ("2003-02-31", None),
            ("2003-12-31T25:00:00Z", None),
            ("2003-12-31T10:14:00+99:99", None),
            ("Mon, 99 Foo 9999", None),
            ("1 2 3 4 5", None),
            (",", None),
            ("yesterday", None),
            ("9" * 5000, None),
            ("\N{ARABIC-INDIC DIGIT TWO}025-01-01", None),
            ("", None),
        ),
    )
    def test_a_date_is_read_or_is_none(self, text: str, date: str | None) -> None:
        assert parse_date(text) == (datetime.fromisoformat(date).replace(tzinfo=UTC) if date is not None else None)

    @settings(deadline=None)
    @given(st.text(st.sampled_from("0123456789 :-+TZ,./JanMoGT\0\u0663"), max_size=70))
    def test_no_text_is_more_than_a_date_or_none(self, text: str) -> None:
        date = parse_date(text)

        assert date is None or date.tzinfo is UTC


class TestMarkup:
    """The scanner agrees with an XML parser about every well-formed document."""

    names = st.sampled_from(["a", "b", "x:c", "d-e.f", "é"])
    texts = st.text(st.sampled_from("ab <>&'\"é\n]-"), max_size=8)

    @st.composite
    @staticmethod
    def elements(draw: st.DrawFn, depth: int = 3) -> str:
        name = draw(TestMarkup.names)
        found = draw(st.dictionaries(TestMarkup.names, TestMarkup.texts, max_size=2))
        written = "".join(
            f" {key}={draw(st.sampled_from(['%s', ' %s']))}" % f'"{escape(value)}"' for key, value in found.items()
        )
        if depth == 0 or draw(st.booleans()):
            return f"<{name}{written}/>"
        inner = draw(
            st.lists(
                TestMarkup.texts.map(escape)
                | TestMarkup.texts.map(lambda text: f"<![CDATA[{text.replace(']]>', '')}]]>")
                | TestMarkup.texts.map(lambda text: f"<!--{text.replace('-', '')}-->")
                | st.just("<?php a>b ?>")
                | TestMarkup.elements(depth - 1),
                max_size=4,
            )
        )
        return f"<{name}{written}>{''.join(inner)}</{name} >"

    @settings(deadline=None)
    @given(document=elements())
    def test_a_well_formed_document_means_the_same_to_it_as_to_expat(self, document: str) -> None:
        expected: list[Any] = []
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = lambda name, found: expected.append(("start", name, found))
        parser.EndElementHandler = lambda name: expected.append(("end", name))
        parser.CharacterDataHandler = lambda text: expected.append(("text", text))
        parser.Parse(document.encode(), True)

        found: list[Any] = []
        for token in scan(document):
            if token.kind in {"text", "cdata"}:
                text = unescaped(token.content) if token.kind == "text" else token.content
                if found and found[-1][0] == "text":
                    text = found.pop()[1] + text
                if text:
                    found.append(("text", text))
            if token.kind in {"start", "empty"}:
                # XML makes a space of a line's end in an attribute.
                found.append(("start", token.name, {k: v.replace("\n", " ") for k, v in attributes(token).items()}))
            if token.kind in {"end", "empty"}:
                found.append(("end", token.name))
        assert found == _merged(expected)

    @given(st.text(st.sampled_from("<>!?/[]-='\" aCDATA&;#x1")))
    def test_any_text_is_scanned_to_its_end(self, text: str) -> None:
        assert sum(len(token.content) for token in scan(text)) <= len(text)


def _merged(events: list[Any]) -> list[Any]:
    merged: list[Any] = []
    for event in events:
        if event[0] == "text" and merged and merged[-1][0] == "text":
            event = ("text", merged.pop()[1] + event[1])  # noqa: PLW2901 - comments part what expat reads as one text
        merged.append(event)
    return merged


SIZE = 4 * 1024 * 1024


def filled(unit: str, before: str = "<rss version='2.0'><channel><item><title>", after: str = "</title></item>") -> str:
    return before + unit * ((SIZE - len(before) - len(after)) // len(unit.encode())) + after


_CHANNEL = "<rss version='2.0'><channel>"
_JSON = '{"version":"https://jsonfeed.org/version/1","items":['

HOSTILE: dict[str, Callable[[], str | bytes]] = {
    "an e-mail address without an end": lambda: filled("a.", f"{_CHANNEL}<item><author>a@", "!</author></item>"),
    "empty items": lambda: filled("<item/>", _CHANNEL, ""),
    "items": lambda: _CHANNEL + "<item><title>a&amp;b</title><link>/x</link><pubDate>1 2 3</pubDate></item>" * 19_000,
    "depth": lambda: filled("<a>", _CHANNEL, ""),
    "depth of one name": lambda: filled("<title>"),
    "end tags": lambda: filled("</a>"),
    "tags in a text": lambda: filled("<b>x"),
    "attributes": lambda: filled("a='1' ", f"{_CHANNEL}<item ", "/>"),
    "different attributes": lambda: _CHANNEL + "<item " + " ".join(f"a{n}='{n}'" for n in range(250_000)) + "/>",
    "namespaces": lambda: _CHANNEL + "<item " + " ".join(f"xmlns:a{n}='{n}'" for n in range(180_000)) + "/>",
    "a namespace each": lambda: filled("<item xmlns:a='b'/>", _CHANNEL, ""),
    "bases": lambda: filled("<feed xml:base='a/'>", "", ""),
    "entities": lambda: filled("<!ENTITY a 'bbbbbbbb'>", "<!DOCTYPE rss [", f"]>{_CHANNEL}"),
    "references": lambda: filled("&amp;"),
    "what is almost a reference": lambda: filled("&a"),
    "a reference to a huge number": lambda: filled(
        "9", f"{_CHANNEL}<item><title type='html'>&amp;#", ";</title></item>"
    ),
    "escaped tags": lambda: filled("&lt;a"),
    "HTML in HTML": lambda: filled("&lt;b&gt;x", f"{_CHANNEL}<item><description>", "</description></item>"),
    "empty CDATA": lambda: filled("<![CDATA[]]>"),
    "CDATA without an end": lambda: filled("<![CDATA["),
    "comments": lambda: filled("a<!---->"),
    "comments without an end": lambda: filled("<!--"),
    "instructions without an end": lambda: filled("<?"),
    "declarations without an end": lambda: filled("<!A["),
    "quotes without an end": lambda: filled("<a '\""),
    "quotes in quotes": lambda: filled("<a \"<a '"),
    "angle brackets": lambda: filled("<"),
    "spaces": lambda: filled(" ", "", ""),
    "spaces in a tag": lambda: filled(" ", f"{_CHANNEL}<item ", ">"),
    "a date": lambda: filled("1,", f"{_CHANNEL}<item><pubDate>", "</pubDate></item>"),
    "a link": lambda: filled("a.", f"{_CHANNEL}<item><link>http://", "</link></item>"),
    "links in Unicode": lambda: _CHANNEL + f"<item><link>http://{'ü' * 900}</link></item>" * 2000,
    "an id": lambda: filled("x", f"{_CHANNEL}<item><guid>", "</guid></item>"),
    "null characters": lambda: filled("\0"),
    "a word": lambda: filled("w"),
    "arrays": lambda: _JSON + "[]," * 1_390_000 + "{}]}",
    "objects": lambda: _JSON + '{"":0},' * 590_000 + "{}]}",
    "arrays in arrays": lambda: _JSON + "[" * 4_000_000,
    "a number": lambda: _JSON + '{"id":' + "9" * 4_000_000 + "}]}",
    "numbers": lambda: _JSON + "1," * 2_000_000 + "1]}",
    "members": lambda: "{" + ",".join(f'"k{n}":{n}' for n in range(280_000)) + "}",
    "bytes of no encoding": lambda: (
        b"<?xml version='1.0' encoding='cp1252'?><rss><channel><item><title>" + b"\x81" * SIZE
    ),
    "UTF-16": lambda: filled("é", "\ufeff" + _CHANNEL + "<item><title>", "")[: SIZE // 2].encode("utf-16-le"),
}


class TestHostileDocuments:
    """No document of 4 MB holds up a process for more than seconds, and the interpreter lock for a fraction of one."""

    @pytest.mark.slow
    @pytest.mark.parametrize("name", HOSTILE)
    def test_four_megabytes_take_seconds(self, name: str) -> None:
        document = HOSTILE[name]()
        body = (document if isinstance(document, bytes) else document.encode())[:SIZE]
        began = time.process_time()

        try:
            feed = parsed(body)
        except FeedUnreadable:
            feed = Feed("", ())

        # A second at most where this was written; feedparser takes a minute, or does not return.
        assert time.process_time() - began < 10
        assert len(feed.entries) <= MAX_ENTRIES

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("body", "reason"),
        (
            (_CHANNEL + "<item/>" * (MAX_ENTRIES_READ + 1), "it has more than 20,000 entries"),
            (_CHANNEL + "<a>" * 500_001, "it has more than 500,000 tags and texts"),
            (_JSON + "1," * MAX_ENTRIES_READ + "1]}", "it has more than 20,000 entries"),
            (_JSON + "[]," * 200_000 + "1]}", "it has more than 200,000 arrays and objects"),
            ('{"version":' + "[" * 900 + "]" * 900 + ',"items":[]}', "it is JSON, but not a JSON Feed"),
            (_JSON + "[" * 100_000, "it is not JSON, though it begins like it"),
        ),
        ids=lambda value: value if len(value) < 100 else f"{len(value)} characters",
    )
    def test_too_much_is_refused_with_its_reason(self, body: str, reason: str) -> None:
        with pytest.raises(FeedUnreadable, match=reason):
            parsed(body)
