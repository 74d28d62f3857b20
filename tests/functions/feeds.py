"""A corpus of feeds: what widely used software writes, and the ways in which readers' users have reported it broken."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)

Dialect = Callable[[Sequence[int]], str]
"""Writes a feed whose entries are called ``Entry N & co``, are at https://news.example/N and were published on day N."""


def _day(number: int) -> datetime:
    return FIRST_DAY + timedelta(days=number)


def _rss(root: str, item: str, head: str = "", tail: str = "</channel></rss>") -> Dialect:
    def write(numbers: Sequence[int]) -> str:
        items = "\n".join(
            item.format(n=n, rfc=format_datetime(_day(n), usegmt=True), iso=_day(n).isoformat()) for n in numbers
        )
        return f"{root}<title>News</title><link>https://news.example/</link>{head}\n{items}\n{tail}"

    return write


def _atom(entry: str, root: str = '<feed xmlns="http://www.w3.org/2005/Atom">', tail: str = "</feed>") -> Dialect:
    return _rss(root, entry, '<link rel="self" href="https://news.example/feed"/><id>urn:feed</id>', tail)


_TITLE = "<title>Entry {n} &amp; co</title>"
_LINK = "<link>https://news.example/{n}</link>"
_DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
_CONTENT = 'xmlns:content="http://purl.org/rss/1.0/modules/content/"'

DIALECTS: dict[str, Dialect] = {
    "WordPress": _rss(
        f'<rss version="2.0" {_CONTENT} {_DC} xmlns:atom="http://www.w3.org/2005/Atom"><channel>',
        f"<item>{_TITLE}{_LINK}<dc:creator><![CDATA[ann]]></dc:creator><pubDate>{{rfc}}</pubDate>"
        '<category><![CDATA[a < b]]></category><guid isPermaLink="false">https://news.example/?p={n}</guid>'
        "<description><![CDATA[<p>Text &#8230;</p>]]></description>"
        "<content:encoded><![CDATA[<title>Other</title><item>]]></content:encoded></item>",
        '<atom:link href="https://news.example/feed/" rel="self" type="application/rss+xml"/>'
        "<image><url>https://news.example/i.png</url><title>Logo</title><link>https://news.example</link></image>",
    ),
    "GitHub releases": _atom(
        "<entry><id>tag:github.com,2008:Repository/1/v{n}</id><updated>{iso}</updated>"
        '<link rel="alternate" type="text/html" href="https://news.example/{n}"/>'
        f'{_TITLE}<content type="html">&lt;p&gt;x&lt;/p&gt;</content><author><name>bot</name></author>'
        '<media:thumbnail xmlns:media="http://search.yahoo.com/mrss/" height="30" url="https://a.example/"/></entry>'
    ),
    "YouTube": _atom(
        "<entry><id>yt:video:{n}</id><yt:videoId>{n}</yt:videoId>"
        f'{_TITLE}<link rel="alternate" href="https://news.example/{{n}}"/><author><name>A</name><uri>u</uri></author>'
        "<published>{iso}</published><updated>2025-06-01T00:00:00+00:00</updated>"
        '<media:group><media:title>Other</media:title><media:content url="https://v.example/{n}"/></media:group></entry>',
        '<feed xmlns:yt="http://www.youtube.com/xml/schemas/2015" xmlns:media="http://search.yahoo.com/mrss/" '
        'xmlns="http://www.w3.org/2005/Atom">',
    ),
    "Blogger": _atom(
        "<entry><id>tag:blogger.com,1999:blog-1.post-{n}</id><published>{iso}</published>"
        "<updated>2025-06-01T00:00:00.003-07:00</updated><title type='text'>Entry {n} &amp; co</title>"
        "<link rel='edit' href='https://e.example/{n}'/><link rel='self' href='https://s.example/{n}'/>"
        "<link rel='alternate' type='text/html' href='https://news.example/{n}' title='Other'/></entry>"
    ),
    "Reddit": _atom(
        '<entry><author><name>/u/a</name></author><content type="html">&lt;table&gt;</content><id>t3_{n}</id>'
        f'<link href="https://news.example/{{n}}"/><updated>{{iso}}</updated><published>{{iso}}</published>{_TITLE}</entry>'
    ),
    "arXiv (RSS 1.0)": _rss(
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" '
        f'{_DC}><channel rdf:about="https://news.example/">',
        f'<item rdf:about="https://news.example/{{n}}">{_TITLE}{_LINK}<dc:date>{{iso}}</dc:date></item>',
        '<items><rdf:Seq><rdf:li rdf:resource="https://news.example/1"/></rdf:Seq></items></channel>'
        "<image><title>Logo</title></image>",
        "</rdf:RDF>",
    ),
    "RSS 0.90": _rss(
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns="http://my.netscape.com/rdf/simple/0.9/"><channel>',
        f"<item>{_TITLE}{_LINK}</item>",
        "</channel>",
        "</rdf:RDF>",
    ),
    "RSS 0.91": _rss(
        '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" '
        '"http://my.netscape.com/publish/formats/rss-0.91.dtd" [<!ENTITY % x "y">]><rss version="0.91"><channel>',
        f"<item>{_TITLE}{_LINK}</item>",
        "<skipHours><hour>1</hour></skipHours><textinput><title>Search</title></textinput>",
    ),
    "RSS 0.91 of Userland": _rss(
        '<rss version="0.91" xmlns="http://backend.userland.com/rss091"><channel>', f"<item>{_TITLE}{_LINK}</item>"
    ),
    "a podcast": _rss(
        '<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel>',
        f"<item><itunes:title>Other</itunes:title>{_TITLE}<guid isPermaLink='false'>{{n}}</guid>"
        '<enclosure url="https://a.example/{n}.mp3" type="audio/mpeg"/><itunes:summary>Other</itunes:summary>'
        f"{_LINK}<pubDate>{{rfc}}</pubDate></item>",
        "<itunes:owner><itunes:name>A</itunes:name></itunes:owner>",
    ),
    "Mastodon": _rss(
        '<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/"><channel>',
        '<item><guid isPermaLink="true">https://news.example/{n}</guid>'
        f"{_LINK}<pubDate>{{rfc}}</pubDate><description>&lt;p&gt;Entry {{n}} &amp;amp; co&lt;/p&gt;</description>"
        '<media:content url="https://m.example/1.png"><media:description>Other</media:description></media:content></item>',
    ),
    "ASP.NET": _rss(
        '<rss version="2.0" xmlns:a10="http://www.w3.org/2005/Atom"><channel>',
        '<item><guid isPermaLink="false">{n}</guid><link>https://news.example/{n}</link>'
        f"<a10:author><a10:name>A</a10:name></a10:author>{_TITLE}<a10:updated>{{iso}}</a10:updated></item>",
    ),
    "ElementTree": _atom(
        "<ns0:entry><ns0:id>{n}</ns0:id><ns0:title>Entry {n} &amp; co</ns0:title>"
        '<ns0:link href="https://news.example/{n}"/><ns0:updated>{iso}</ns0:updated></ns0:entry>',
        '<ns0:feed xmlns:ns0="http://www.w3.org/2005/Atom">',
        "</ns0:feed>",
    ),
    "Atom with XHTML": _atom(
        '<entry><id>{n}</id><title type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">Entry <b>{n}</b> &amp; co'
        '</div></title><link href="https://news.example/{n}"/><updated>{iso}</updated>'
        '<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><title>Other</title><p>a<br/>b</p></div></content>'
        "<source><id>other</id><title>Other</title><updated>2001-01-01T00:00:00Z</updated></source></entry>"
    ),
    "Atom with bases": _atom(
        '<entry xml:base="x/"><id>{n}</id>' + _TITLE + '<updated>{iso}</updated><link href="../{n}"/></entry>',
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://news.example/">',
    ),
    "Atom 0.3": _atom(
        f'<entry>{_TITLE}<link rel="alternate" type="text/html" href="https://news.example/{{n}}"/>'
        "<issued>{iso}</issued><modified>2025-06-01T00:00:00Z</modified><id>{n}</id></entry>",
        '<feed version="0.3" xmlns="http://purl.org/atom/ns#">',
    ),
    "no identities": _rss(
        '<rss version="2.0"><channel>',
        "<item>" + _TITLE + "<link>https://news.example/{n}</link></item>",
    ),
    "only permalinks": _rss(
        '<rss version="2.0"><channel>',
        f"<item>{_TITLE}<guid>https://news.example/{{n}}</guid><pubDate>{{rfc}}</pubDate></item>",
    ),
    "one guid for all": _rss(
        '<rss version="2.0"><channel>',
        f"<item>{_TITLE}{_LINK}<guid>https://news.example/</guid><pubDate>{{rfc}}</pubDate></item>",
    ),
    "names in capitals": _rss(
        '<RSS version="2.0"><CHANNEL>',
        "<ITEM><TITLE>Entry {n} &amp; co</TITLE><LINK>https://news.example/{n}</LINK><PUBDATE>{rfc}</PUBDATE></ITEM>",
        "",
        "</CHANNEL></RSS>",
    ),
    "HTML without escapes": _rss(
        '<rss version="2.0"><channel>',
        '<item><title><a href="/x">Entry {n} &amp; co</a></title><description><p>a<br><img src=x>b</description>'
        + _LINK
        + "<pubDate>{rfc}</pubDate></item>",
    ),
}

UNDATED = frozenset({"RSS 0.90", "RSS 0.91", "RSS 0.91 of Userland", "no identities"})


def _encoded(name: str) -> Callable[[str], bytes]:
    return lambda text: f'<?xml version="1.0" encoding="{name}"?>\n{text}'.encode(name)


DAMAGES: dict[str, Callable[[str], bytes]] = {
    "as it should be": _encoded("utf-8"),
    "UTF-16": _encoded("utf-16"),
    "UTF-8 that claims to be Latin-1": lambda text: f'<?xml version="1.0" encoding="iso-8859-1"?>{text}'.encode(),
    "an unknown encoding": lambda text: f'<?xml version="1.0" encoding="utf-8x"?>{text}'.encode(),
    "text before the declaration": lambda text: f'\ufeff\r\n <br />\n<?xml version="1.0"?>{text}'.encode(),
    "bare ampersands": lambda text: text.replace("&amp;", "&").encode(),
    "entities of HTML": lambda text: text.replace("&amp;", "&#38;").replace("News", "N&eacute;ws&nbsp;").encode(),
    "control characters": lambda text: text.replace("Entry", "\x08Entry\0\x1b").encode(),
    "bytes of another encoding": lambda text: text.encode().replace(b"News", b"N\xe9ws\xff"),
    "never closed": lambda text: text.rpartition("\n")[0].encode(),
    "text after the end": lambda text: f"{text}\n<!-- made in 0.1 s --><script>1 < 2</script>".encode(),
}


def json_feed(numbers: Sequence[int]) -> dict[str, object]:
    return {
        "version": "https://jsonfeed.org/version/1.1",
        "title": "News",
        "items": [
            {
                "id": n,
                "url": f"https://news.example/{n}",
                "title": f"Entry {n} & co",
                "content_html": "<p>x</p>",
                "date_published": _day(n).isoformat(),
                "authors": [{"name": "A"}],
            }
            for n in numbers
        ],
    }
