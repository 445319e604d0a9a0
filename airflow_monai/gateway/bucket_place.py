"""Where in a bucket images are put, as a pattern with the AE title and the day in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from airflow_monai.errors import SettingsError

_FIELD = re.compile(r"\{(ae|date)(?::([^{}]*))?\}")
_SCHEME = "s3://"
_DAY = "%Y%m%d"
_EASTERNMOST, _LONGEST = timedelta(hours=14), 31


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A prefix for each AE title, and for each day where it is a dated one.

    :param pattern: of the prefix, with ``{ae}`` and perhaps ``{date}`` or ``{date:%Y/%m/%d}``.
    """

    bucket: str
    pattern: str

    @classmethod
    def parse(cls, url: str) -> BucketPlace:
        """``s3://bucket/incoming/{ae}/{date}/``.

        :raises SettingsError: when it is no such thing.
        """
        bucket, _, pattern = url.strip().removeprefix(_SCHEME).partition("/")
        rest = _FIELD.sub("", pattern)
        ok = url.strip().startswith(_SCHEME) and bucket and "{" not in rest and "}" not in rest
        fields = [match.group(1) for match in _FIELD.finditer(pattern)]
        if not ok or fields.count("ae") != 1 or fields.count("date") > 1:
            raise SettingsError(
                f"[monai] inbox_s3: {url!r} is not s3://bucket/prefix/{{ae}}/ or s3://bucket/prefix/{{ae}}/{{date}}/ "
                "({date:%Y/%m/%d} for another form of the day)."
            )
        return cls(bucket, pattern if pattern.endswith("/") else f"{pattern}/")

    @property
    def is_dated(self) -> bool:
        return "{date" in self.pattern

    def prefix(self, ae_title: str, day: date) -> str:
        """Where images for an AE title lie that came on a day."""

        def value(match: re.Match[str]) -> str:
            return ae_title if match.group(1) == "ae" else day.strftime(match.group(2) or _DAY)

        return _FIELD.sub(value, self.pattern)

    def days(self, now: datetime, since: date | None = None) -> Iterator[date]:
        """Days on which images may be coming in now, anywhere; and all since then, a month at most.

        :param now: in UTC.
        """
        last = (now + _EASTERNMOST).date()
        if not self.is_dated:
            yield last
            return
        first = (now - timedelta(days=1)).date()
        if since is not None:
            first = max(min(first, since), last - timedelta(days=_LONGEST))
        for number in range((last - first).days + 1):
            yield first + timedelta(days=number)
