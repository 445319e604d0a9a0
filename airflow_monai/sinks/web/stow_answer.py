"""What an answer to a STOW-RS request means for each of its instances (PS3.18 section 10.5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.sinks.web.site import HttpAnswer
from airflow_monai.sinks.web.stow_report import Report, read_report, refusal

_BUSY = frozenset({408, 425, 429, 503, 507})
"""Nothing was stored, and a later try may end otherwise."""
_NOT_OURS = frozenset({401, 403, 404, 405, 407, 501})
"""The server does not want us, or is no STOW-RS service."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The meaning of one answer.

    :param verdicts: SOP Instance UID -> verdict, of all instances of the request.
    :param claimed: those that the answer says are stored, without naming them: to be confirmed by a query where that is
        possible. Their verdict is unknown until then.
    :param in_smaller: those that were refused together with others, which may have been the cause: to be sent again in
        smaller requests.
    :param problem: why the server does not want anything of us, empty where that is not so.
    """

    verdicts: Mapping[str, Delivery]
    claimed: frozenset[str] = field(default_factory=frozenset)
    in_smaller: frozenset[str] = field(default_factory=frozenset)
    problem: str = ""


def judged(answer: HttpAnswer, uids: Sequence[str]) -> Judged:
    """The verdicts on the instances of a request, in its order."""
    report = read_report(answer.content)
    verdicts: dict[str, Delivery] = {}
    claimed, in_smaller = set(), set()
    problem = _problem(answer) if not report else ""
    comment = _comment(answer, report)
    for uid in uids:
        news = report.verdict(uid) if report else None
        if news is None:
            news = _unnamed(answer, report, uid, len(uids))
            if answer.status == 200 and (not report if report is not None else not answer.content):
                claimed.add(uid)
            elif news.state is not DeliveryState.ACCEPTED and _is_split(answer, uids) and not problem:
                in_smaller.add(uid)
        verdicts[uid] = replace(news, comment=comment) if comment and not news.comment else news
    return Judged(verdicts, frozenset(claimed), frozenset(in_smaller), problem)


def _unnamed(answer: HttpAnswer, report: Report | None, uid: str, count: int) -> Delivery:
    """The verdict on an instance that the answer does not name."""
    status = f"HTTP {answer.status}"
    if 200 <= answer.status < 300:
        if answer.content and report is None:
            said = f"{status} with {answer.media_type or 'something'} that is no list of instances; is a proxy between?"
        else:
            said = f"{status}, and the answer does not name it"
        return Delivery(uid, DeliveryState.UNKNOWN, message=said, retry=True)
    if answer.status in _BUSY:
        return Delivery(uid, DeliveryState.REFUSED, status, f"{status}: the server is busy or full", retry=True)
    if answer.status >= 500:
        return Delivery(uid, DeliveryState.UNKNOWN, message=f"{status}: the server failed", retry=True)
    if answer.status in _NOT_OURS or 300 <= answer.status < 400:
        return Delivery(uid, DeliveryState.PENDING, message=status, retry=True)
    if count > 1:
        message = f"{status} for a request of {count} instances"
        return Delivery(uid, DeliveryState.REFUSED, status, message, retry=True)
    if report is not None and len(report.others) == 1:
        return refusal(uid, report.others[0])
    return Delivery(uid, DeliveryState.REFUSED, status, f"{status}: {_meaning(answer.status)}")


def _is_split(answer: HttpAnswer, uids: Sequence[str]) -> bool:
    return len(uids) > 1 and answer.status >= 400 and answer.status not in _BUSY


def _meaning(status: int) -> str:
    if status == 413:
        return "larger than what the server takes; raise the limit there, or in the proxy before it"
    known = {400: "the server does not understand it", 409: "it conflicts with what is there", 415: "not taken there"}
    return known.get(status, "the server refuses it")


def _problem(answer: HttpAnswer) -> str:
    status = f"HTTP {answer.status}"
    if answer.status in (401, 407):
        return f"{status}: the login is refused; check login, password or token_url"
    if answer.status == 403:
        return f"{status}: the login may not store there"
    if answer.status in _NOT_OURS:
        return f"{status}: there is no STOW-RS service; check host, port and path"
    if 300 <= answer.status < 400:
        return f"{status}: a redirect; enter the address that it leads to as host, schema, port and path"
    return ""


def _comment(answer: HttpAnswer, report: Report | None) -> str:
    """The server's own words, where they are no list."""
    if report is not None or answer.status < 300:
        return ""
    return answer.content[:500].decode("utf-8", "replace").strip()
