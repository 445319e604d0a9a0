"""The page: every operation of the APIs in a group of its own, to be unfolded, and a form that picks some of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any

from airflow_monai.api.common.reference.examples import Examples
from airflow_monai.api.common.reference.requests import Requests
from airflow_monai.api.common.reference.schemas import Field, Schemas
from airflow_monai.api.page import Html, code, escaped, link, page
from airflow_monai.api.page import listing as table_of

FEW = 5
"""So many that were picked are shown unfolded."""
_NO_PROBLEM = "3"
_STYLE = """
summary{cursor:pointer;padding:.3rem 0}summary:hover{background:var(--line)}
details.api>summary{font-size:1.1rem;font-weight:600;margin-top:.6rem;border-bottom:1px solid var(--line)}
details.way{border-bottom:1px solid var(--line);padding-left:.6rem}details.way>div{padding:0 0 1rem 1rem}
details.way>summary{display:flex;flex-wrap:wrap;gap:.1rem .7rem;align-items:baseline}
details.way>summary code{overflow-wrap:anywhere}details.way>summary span{color:var(--dim)}
b.method{font:600 .8em ui-monospace,monospace;min-width:3.6rem;text-align:center;border-radius:.25rem;
padding:.1rem .3rem;color:#fff;background:#0a6cbd}
b.POST{background:#217a3c}b.PUT{background:#9a5b00}b.DELETE{background:#b3261e}
h3{font-size:.95rem;margin:.9rem 0 .2rem}pre{margin:.2rem 0;padding:.6rem .8rem;background:var(--line);
border-radius:.3rem;overflow-x:auto;font:.85em/1.4 ui-monospace,monospace}
form{margin:.8rem 0;display:flex;gap:.5rem}input{flex:1;max-width:30rem;font:inherit;padding:.25rem .5rem}
button{font:inherit;padding:.25rem .9rem}.scroll{overflow-x:auto}.scroll td,.scroll th{overflow-wrap:normal}
.scroll td:last-child{min-width:12rem;width:60%}div p{color:inherit}
@media(max-width:40rem){body{margin:1rem auto}details.way>div{padding-left:.2rem}}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """An operation as it is shown.

    :param words: what it is found by, in small letters.
    :param head: and ``rest``: HTML; what is shown of it folded, and besides unfolded.
    """

    api: str
    words: str
    head: str
    rest: str


class Reference:
    """
    :param root: path under which the operations are.
    """

    def __init__(self, document: Mapping[str, Any], root: str):
        self._document, self._root = document, root
        self._schemas = Schemas(document.get("components", {}).get("schemas", {}))
        self._examples = Examples(self._schemas)
        self._requests = Requests(self._examples, root)

    def page(self, wanted: str = "", server: str = "") -> str:
        """
        :param wanted: words that an operation must have to be shown; those of nothing show all.
        :param server: address of the server, for the examples.
        """
        words = wanted.lower().split()
        found = [way for way in self._ways if all(word in way.words for word in words)]
        parts = (*self._top(wanted, server, len(found)), *_groups(found, words))
        return page("The APIs of this site", *parts, style=_STYLE)

    def _top(self, wanted: str, server: str, count: int) -> Iterator[str]:
        yield f"<p>{link('openapi.json', 'OpenAPI document, for tools')}. The examples need"
        yield f" who asks and where:</p><pre>SERVER={escaped(server)}\nUSER_AND_PASSWORD=name:password</pre>"
        yield '<p>A token does as well: <code>-H "Authorization: Bearer $TOKEN"</code> in place of <code>-u</code>. '
        yield "Every route may answer 401 to who is not known and 403 to who lacks the right that stands there.</p>"
        yield '<form><input name="find" type="search" aria-label="Find" placeholder="job, dataset, POST, …" '
        yield f'value="{escaped(wanted)}"><button>Find</button></form>'
        if wanted:
            yield f"<p>{count} of {len(self._ways)} routes. {link('docs', 'All')}</p>"

    @cached_property
    def _ways(self) -> list[Way]:
        ways = [
            self._way(method.upper(), path, operation)
            for path, item in self._document["paths"].items()
            for method, operation in item.items()
        ]
        return sorted(ways, key=lambda way: way.api.lower())  # within an API as they are declared

    def _way(self, method: str, path: str, operation: Mapping[str, Any]) -> Way:
        whole, summary = f"{self._root}{path}", operation["summary"]
        head = f'<b class="method {method}">{method}</b>{code(whole)}<span>{escaped(summary)}</span>'
        words = " ".join([method, whole, summary, operation.get("description", ""), *operation["tags"]]).lower()
        return Way(operation["tags"][0], words, head, "".join(self._rest(method, path, operation)))

    def _rest(self, method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        yield _prose(operation.get("description", ""))
        yield f"<p><b>Who may:</b> {escaped(operation.get('x-who-may', ''))}</p>"
        parameters = [self._parameter(one) for one in operation.get("parameters", ())]
        if parameters:
            yield _titled("Parameters", _fields(parameters))
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            yield _titled("Body", code(kind), _fields(self._schemas.fields(media.get("schema", {}))))
        yield _titled("Example", _block(self._requests.curl(method, path, operation)))
        yield from self._answers(operation)

    def _parameter(self, parameter: Mapping[str, Any]) -> Field:
        schema = {"description": parameter.get("description", ""), **parameter.get("schema", {})}
        note = "; ".join(filter(None, (f"in the {parameter['in']}", self._schemas.note(schema))))
        return Field(parameter["name"], self._schemas.type_of(schema), bool(parameter.get("required")), note)

    def _answers(self, operation: Mapping[str, Any]) -> Iterator[str]:
        alike: dict[str, list[str]] = {}
        problems = []
        for status, answer in operation["responses"].items():
            said = f"{status} {_told(status, answer)}"
            if status < _NO_PROBLEM:
                shown = "".join(self._answer(kind, media) for kind, media in answer.get("content", {}).items())
                alike.setdefault(shown, []).append(said)
            else:
                problems.append(said)
        for shown, answers in alike.items():
            yield _titled("Answer", *map(_prose, answers), shown)
        if problems:
            yield f"<p><b>Else:</b> {escaped(', '.join(problems))}</p>"

    def _answer(self, kind: str, media: Mapping[str, Any]) -> str:
        if "json" not in kind:
            return f"<p>{code(kind)}</p>"
        example = self._examples.of_media(media, asked=False)
        fields = _fields(self._schemas.fields(media.get("schema", {})))
        folded = f"<details><summary>Its fields</summary>{fields}</details>" if fields else ""
        return f"{_block(json.dumps(example, indent=1, ensure_ascii=False))}{folded}"


def _groups(ways: Iterable[Way], words: Iterable[str]) -> Iterator[str]:
    by_api: dict[str, list[Way]] = {}
    for way in ways:
        by_api.setdefault(way.api, []).append(way)
    count = sum(map(len, by_api.values()))
    unfolded = " open" if words and count <= FEW else ""
    for api, those in by_api.items():
        shown = "".join(
            f'<details class="way"{unfolded}><summary>{way.head}</summary><div>{way.rest}</div></details>'
            for way in those
        )
        yield f'<details class="api" open><summary>{escaped(api)}</summary>{shown}</details>'


def _told(status: str, answer: Mapping[str, Any]) -> str:
    """FastAPI's own words of a good answer say nothing."""
    said = str(answer.get("description", ""))
    return HTTPStatus(int(status)).phrase if said == "Successful Response" else said


def _fields(fields: Iterable[Field]) -> str:
    rows = [
        (code(field.name), f"{field.type}{'' if field.required else ', optional'}", Html(_inline(field.note)))
        for field in fields
    ]
    return f'<div class="scroll">{table_of(("Name", "Type", "What"), rows)}</div>' if rows else ""


def _titled(title: str, *parts: str) -> str:
    return f"<h3>{escaped(title)}</h3>{''.join(parts)}"


def _block(text: str) -> str:
    return f"<pre>{escaped(text)}</pre>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(piece)}</p>" for piece in text.split("\n\n") if piece.strip())


def _inline(text: str) -> str:
    """Escaped; what stands in backticks as code."""
    return re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", escaped(text))
