"""Kinds of failure, and which of them another try may mend."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from enum import Enum

from airflow_monai.errors import MonaiError, UnexpectedError
from airflow_monai.types import FailureKind

__all__ = [
    "DEFAULT_POLICY",
    "MEANINGS",
    "Answer",
    "FailureKind",
    "hide_causes",
    "internal_error",
    "is_retried",
    "kind_of",
    "without_data",
]

PLACES = 8
"""Frames of a traceback that are told of an unexpected error, the innermost."""


class Answer(str, Enum):
    """What a failure of a kind means to the task."""

    RETRY = "retry"
    FAIL = "fail"


DEFAULT_POLICY: Mapping[FailureKind, Answer] = {
    FailureKind.CONNECTION: Answer.RETRY,
    FailureKind.INTERRUPTED: Answer.RETRY,
    FailureKind.INTERNAL: Answer.RETRY,
    FailureKind.NOT_STARTED: Answer.RETRY,
    FailureKind.EXIT_CODE: Answer.FAIL,
    FailureKind.OUT_OF_MEMORY: Answer.FAIL,
    FailureKind.TIMEOUT: Answer.FAIL,
    FailureKind.MISSING_OUTPUT: Answer.FAIL,
    FailureKind.REFUSED: Answer.FAIL,
    FailureKind.NOT_FOUND: Answer.FAIL,
    FailureKind.NO_CARD: Answer.FAIL,
    FailureKind.POLICY: Answer.FAIL,
    FailureKind.INVALID: Answer.FAIL,
}
"""What another try would only repeat is final, unless the author of a workflow says otherwise (``retry_policy``)."""


MEANINGS: Mapping[FailureKind, str] = {
    FailureKind.CONNECTION: "An engine, a destination or a service was out of reach or stopped answering.",
    FailureKind.INTERRUPTED: "The application was ended from outside, or asked for another try (exit code 75).",
    FailureKind.EXIT_CODE: "The application, or a job elsewhere, ended badly.",
    FailureKind.OUT_OF_MEMORY: "The application used more memory than it may.",
    FailureKind.TIMEOUT: "It took longer than timeout_minutes.",
    FailureKind.MISSING_OUTPUT: "A mandatory output artifact was not made.",
    FailureKind.REFUSED: "The far side answered, and did not want it.",
    FailureKind.NOT_FOUND: "An application, an image or a payload does not exist.",
    FailureKind.NO_CARD: "No GPU card was free within the time that a task may wait for one in all.",
    FailureKind.NOT_STARTED: "The task's time was over before its application began, as an image or a card took it.",
    FailureKind.POLICY: "The site does not allow it: a network, an image, more memory or output than a task may have.",
    FailureKind.INVALID: "What the task was told, or what it was given, cannot be used.",
    FailureKind.INTERNAL: "Anything else.",
}
"""For those who write ``retry_policy``."""


def kind_of(error: BaseException) -> FailureKind:
    """The kind of a failure; what is not an error of ours is ``internal``."""
    return getattr(error, "failure", FailureKind.INTERNAL)


def is_retried(error: BaseException, policy: Mapping[str, str] | None = None, kind: FailureKind | None = None) -> bool:
    """Whether another try may follow.

    :param policy: kind -> ``retry`` or ``fail``, in place of the default.
    :param kind: the failure's, where the error itself does not tell it.
    """
    kind = kind or kind_of(error)
    return Answer((policy or {}).get(kind.value, DEFAULT_POLICY[kind])) is Answer.RETRY


def internal_error(what: str, error: BaseException) -> str:
    """What a log may say of an error that nobody foresaw: its class and place. Its message may quote a file's name or
    content."""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{what}: internal error, {type(error).__name__}\n{places}"


def hide_causes(error: BaseException, is_foreign: Callable[[BaseException], bool]) -> None:
    """Put what may be told of them in place of the errors of others that led to one of ours.

    Airflow logs all that an error was caused by, and the operating system's own errors name files.
    """
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            return
        if is_foreign(cause):
            error.__cause__ = without_data(cause)  # type: ignore[arg-type]
            return
        error = cause


def without_data(error: Exception) -> MonaiError:
    """The error as it may be told: our own say nothing of a patient, of others their class and places are told."""
    if isinstance(error, MonaiError):
        return error
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    places = ", ".join(f"{frame.filename}:{frame.lineno} ({frame.name})" for frame in frames) or "an unknown place"
    return UnexpectedError(f"The task failed by an unexpected {type(error).__name__}, at {places}.")
