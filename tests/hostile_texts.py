"""Texts that would do harm in a page or a terminal that took them at their word."""

from html.parser import HTMLParser

HOSTILE_NAME = "<script>alert('x')</script>\"&\x1b[31m\u202egpj'><img src=x onerror=alert(1)>"

_TAGS = {"table", "caption", "tr", "th", "td", "div", "details", "summary", "progress", "p"}


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.texts.append(data)


def is_harmless(html):
    """Whether HTML has only tags and attributes of ours, and nothing that acts unseen."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    acting = set("\x1b\u202e\x00") & set(html)
    return reader.tags <= _TAGS and reader.attributes <= {"style", "value", "max"} and not acting
