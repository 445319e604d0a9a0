"""Why a study cannot be segmented; each kind has an exit code of its own. Messages hold no patient data."""

from __future__ import annotations


class Problem(Exception):
    """Base of what this application tells its caller."""

    exit_code = 1


class NoCt(Problem):
    """The input holds no CT series with a geometry."""

    exit_code = 3


class Unreadable(Problem):
    """The input folder may not be read by the user that runs this."""

    exit_code = 6


class NoLungs(Problem):
    """The CT shows no lung."""

    exit_code = 4


class Undecodable(Problem):
    """The pixels are compressed in a way that this image has no decoder for."""

    exit_code = 5
