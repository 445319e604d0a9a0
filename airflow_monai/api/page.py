"""Small HTML pages. All text goes through :func:`escaped`; there is no script, and nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--dim:#666}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
h1{font-size:1.35rem;margin:0 0 .2rem}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
p{margin:.2rem 0;color:var(--dim)}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.28rem .8rem .28rem 0;
border-bottom:1px solid var(--line);overflow-wrap:anywhere}th{font-weight:600;white-space:nowrap;width:12rem}
table.list th{width:auto}td.n,th.n{text-align:right;white-space:nowrap}
code{font-family:ui-monospace,monospace;font-size:.92em}
.error{color:#c33}.warning{color:#a60}a{color:#0a6cbd}
@media(prefers-color-scheme:dark){:root{--dim:#aaa}.error{color:#f77}.warning{color:#fb5}a{color:#6bb5f2}}
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(value: object) -> str:
    """Any value as HTML; :class:`Html` as it is."""
    return value if isinstance(value, Html) else escape(str(value), quote=True)


def page(title: str, *parts: str, note: str = "", style: str = "") -> str:
    """A whole page; the parts are HTML already.

    :param style: more of it than all pages have.
    """
    below = f"<p>{escaped(note)}</p>" if note else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<title>{escaped(title)}</title><meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}{style}</style></head>"
        f"<body><h1>{escaped(title)}</h1>{below}{''.join(parts)}</body></html>"
    )


def heading(text: str) -> str:
    return f"<h2>{escaped(text)}</h2>"


def row(name: str, value: object) -> str:
    return f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>"


def table(*rows: str) -> str:
    return f"<table>{''.join(rows)}</table>"


def listing(head: Iterable[str], rows: Iterable[Iterable[object]], numbers: Iterable[int] = ()) -> str:
    """A table with a head.

    :param numbers: columns that hold numbers, counted from 0.
    """
    right = frozenset(numbers)
    cells = "".join(
        f'<th class="n">{escaped(name)}</th>' if at in right else f"<th>{escaped(name)}</th>"
        for at, name in enumerate(head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="n">{escaped(cell)}</td>' if at in right else f"<td>{escaped(cell)}</td>"
            for at, cell in enumerate(line)
        )
        + "</tr>"
        for line in rows
    )
    return f'<table class="list"><tr>{cells}</tr>{body}</table>'


def code(text: object) -> Html:
    return Html(f"<code>{escape(str(text))}</code>")


def marked(kind: str, text: object) -> Html:
    """Text in the colour of ``error`` or ``warning``."""
    return Html(f'<span class="{escape(kind)}">{escape(str(text))}</span>')


def link(address: str, text: object) -> Html:
    """:param address: of which every part has gone through :func:`part`."""
    return Html(f'<a href="{escape(address)}">{escape(str(text))}</a>')


def part(text: object) -> str:
    """One part of an address's path."""
    return quote(str(text), safe="")


def size(count: int) -> str:
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"
