"""A page as a tree of elements, to be asked what stands where."""

import re
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder

import httpx

_VOID = {"meta", "link", "input", "br"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tree = TreeBuilder()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        if tag in _VOID:
            self.tree.end(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tree.end(tag)

    def handle_data(self, data: str) -> None:
        self.tree.data(data)


def parsed(page: httpx.Response) -> Element:
    reader = _Reader()
    reader.feed(page.text.removeprefix("\n").removeprefix("<!doctype html>").strip())
    return reader.tree.close()


def find_all(within: Element, tag: str, class_name: str | None = None) -> list[Element]:
    """Every element with this tag and class, in the order of the page."""
    return [each for each in within.iter(tag) if class_name is None or class_name in classes(each)]


def find(within: Element, tag: str, class_name: str | None = None) -> Element:
    return find_all(within, tag, class_name)[0]


def classes(element: Element) -> list[str]:
    return element.get("class", "").split()


def text(element: Element) -> str:
    """What a person reads, with single spaces."""
    return " ".join("".join(element.itertext()).split())


def number(element: Element, name: str) -> float:
    """An attribute that is a length, in units or in percent."""
    return float(element.attrib[name].removesuffix("%"))


def points(path: Element) -> list[tuple[float, float]]:
    """The corners of an SVG path of straight lines."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.attrib["d"])]


def status_of(element: Element) -> str:
    """The status whose colour an element has."""
    (status,) = [name.removeprefix("s-") for name in classes(element) if name.startswith("s-")]
    return status
