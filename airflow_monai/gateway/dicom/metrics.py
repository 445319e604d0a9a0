"""Counters and timings of the receiver, by Airflow's own metrics (``[metrics]``: StatsD, Datadog or OpenTelemetry).

Nothing of a patient is in them. The only tag is the called AE title of an association that was taken: there are as many
of them as workflows say. Calling AE titles, which anybody may choose, would make metrics without number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_monai.gateway.dicom.association import Ended

PREFIX = "monai.dicom"
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,16}")


def begin() -> None:
    """Send them where Airflow's configuration says; until then, and where it says nothing, they go nowhere."""
    from airflow.sdk.configuration import conf
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils

    stats.initialize(
        factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on")
    )


def count_association(ended: Ended) -> None:
    """Tell of an association that has ended, with all that it brought."""
    from airflow.sdk.observability import stats

    if ended.request is None:
        stats.incr(f"{PREFIX}.connections_failed")
        return
    taken = ended.how in ("released", "aborted")
    called = ended.request.called
    tags = {"called_aet": called if _PLAIN.fullmatch(called) else "other"} if taken else {}
    stats.incr(f"{PREFIX}.associations_{ended.how}", tags=tags)
    if not taken:
        return
    tally = ended.tally
    stats.timing(f"{PREFIX}.association_duration", 1000 * ended.seconds, tags=tags)
    if tally.count:
        stats.incr(f"{PREFIX}.images_received", tally.count, tags=tags)
        stats.incr(f"{PREFIX}.bytes_received", tally.size, tags=tags)
        stats.timing(f"{PREFIX}.image_keep_duration", 1000 * tally.keep_seconds / tally.count, tags=tags)
    if tally.refused:
        stats.incr(f"{PREFIX}.images_refused", tally.refused, tags=tags)
