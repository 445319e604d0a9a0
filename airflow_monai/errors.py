"""Errors of this package: one base class, then narrow ones that carry data.

A message says what happened, to what, and what to do. None of them ever holds patient data.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any

from airflow_monai.types import FailureKind


class MonaiError(Exception):
    """Base of every error that this package raises on purpose.

    :cvar failure: the kind of failure, which decides whether a task that ends so is tried again.
    :ivar facts: what is known of the run that failed, for its record's statistics.
    """

    failure = FailureKind.INTERNAL
    facts: Mapping[str, Any] = {}


class SettingsError(MonaiError):
    """A setting of the ``[monai]`` section is missing or cannot be used."""

    failure = FailureKind.INVALID


_NAMED = re.compile(
    r"(payloads/[0-9a-f-]{36}/(?:dcm|workflows(?:/[\w.-]+){3}(?:/[0-9]+)?/g[0-9]+))/(?:[^'\"\n]*(?=['\"])|[^\s'\":]+)"
)
"""An object below the received images, which are named by UIDs, or below what an application made."""


class StoreError(MonaiError):
    """The store cannot do what was asked (missing object, unsafe key, disk full).

    Everybody who sees the UI reads task logs, and applications name files after patients: of an image or a result the
    message says the folder only.
    """

    def __init__(self, message: object = ""):
        super().__init__(_NAMED.sub(r"\1/...", str(message)))


class DamagedObject(StoreError, ValueError):
    """An object of the store does not hold what it should: a power cut or a full disk has left a part of it, or
    somebody has changed it. It is left as it is, for whoever can restore it; nothing else may wait for that.

    :ivar key: of the object.
    """

    def __init__(self, key: str, reason: object):
        self.key = key
        super().__init__(f"The object {key} of the store is damaged: {reason}. Restore it from a backup, or remove it.")


class StoreFull(StoreError):
    """There is no space left where the store, or its spool, is."""


def disk_error(what: str, error: OSError) -> StoreError:
    """The store's error for one of the operating system.

    :param what: could not be done, a sentence without its point.
    """
    kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
    return kind(f"{what}: {error.strerror or error}.")


class SecretsUnsafe(MonaiError):
    """A secret cannot be kept here, or not be read, and why."""


class UnsafeKey(StoreError):
    """What was to be a key of the store could lead out of it, or be no object's name: there can be no such object."""


class PayloadNotFound(StoreError):
    """No payload has this id."""

    failure = FailureKind.NOT_FOUND

    def __init__(self, payload_id: str):
        super().__init__(
            f"There is no payload {payload_id!r} in the store. Trigger the workflow with the id of a payload that "
            "`airflow monai payloads list` shows, as the partition key or as conf {'payload_id': ...}."
        )
        self.payload_id = payload_id


class PayloadDeleted(PayloadNotFound):
    """There was one with this id; what is still told of it says why it is gone."""

    def __init__(self, payload_id: str):
        StoreError.__init__(
            self,
            f"The payload {payload_id!r} was deleted because somebody wanted it: `airflow monai payloads show` tells "
            "what is known of it.",
        )
        self.payload_id = payload_id


class NoPayload(MonaiError):
    """A DAG run does not say what it is about."""

    failure = FailureKind.INVALID

    def __init__(self) -> None:
        super().__init__(
            "This DAG run names no payload. Trigger it with a payload id as its partition key, or with "
            'conf {"payload_id": "..."}.'
        )


class MapError(MonaiError):
    """A MAP cannot be run, or its run did not give what it must.

    :ivar log_tail: the last lines of an application that had begun, filtered for the task log.
    """

    failure = FailureKind.INVALID
    log_tail: tuple[str, ...] = ()


class PolicyRefused(MapError):
    """A task, or its application, asks for what the site does not allow.

    :param refusals: what exactly (``airflow_monai.maps.policy.Refusal``).
    """

    failure = FailureKind.POLICY

    def __init__(self, message: str, *, refusals: tuple = ()):
        super().__init__(message)
        self.refusals = refusals


class ManifestError(MapError):
    """``app.json`` or ``pkg.json`` is missing or cannot be used.

    :param field: file and field that are wrong, as ``app.json timeout``; empty where it is about neither.
    """

    def __init__(self, message: str, *, field: str = ""):
        super().__init__(message)
        self.field = field


class MapNotFound(MapError):
    """The image or the folder of a MAP does not exist here."""

    failure = FailureKind.NOT_FOUND


class MapUnregistered(MapNotFound):
    """A MAP was registered once and is not any more: nothing starts it."""


class MapChanged(MapNotFound):
    """What is here under the name of a registered MAP is not what was registered."""


class RegistryError(MapError):
    """A MAP cannot be registered. The message says what is in its way."""


class RegistryConflict(RegistryError):
    """What is in its way is another MAP or workflow, or what is registered of this one already."""


class ImageDenied(MapNotFound):
    """A registry does not give an image to this site, or not without another login."""


class MapFailed(MapError):
    """The application ended with an exit code other than 0.

    :param exit_code: of the container or process.
    :param log_tail: its last log lines, filtered for the task log.
    """

    failure = FailureKind.EXIT_CODE

    def __init__(self, message: str, *, exit_code: int | None = None, log_tail: tuple[str, ...] = ()):
        super().__init__(message)
        self.exit_code = exit_code
        self.log_tail = log_tail


class MapOutOfMemory(MapFailed):
    """The application was killed because it used more memory than it may."""

    failure = FailureKind.OUT_OF_MEMORY


class MapTimedOut(MapFailed):
    """The application ran longer than it may and was stopped."""

    failure = FailureKind.TIMEOUT


class MapNotStarted(MapError):
    """The task's time was over before its application had begun. That says nothing about the application."""

    failure = FailureKind.NOT_STARTED


class MapNotStopped(MapTimedOut):
    """The application ran longer than it may, and could not be stopped: it may still run."""


class MapInterrupted(MapFailed):
    """The application was ended from outside, or asked to be run again: another try may succeed."""

    failure = FailureKind.INTERRUPTED


class TransferFailed(MapInterrupted):
    """A pod did not get its input from the bucket, or its output into it. That says nothing about the application."""


class MissingOutput(MapError):
    """The application ended well but did not produce a mandatory artifact."""

    failure = FailureKind.MISSING_OUTPUT


class OutputTooLarge(MapError):
    """The application wrote more than it may, and was stopped; what it had written is removed."""

    failure = FailureKind.POLICY


class RunnerUnavailable(MapError):
    """The engine that should run the MAP cannot be reached."""

    failure = FailureKind.CONNECTION


class RegistryUnavailable(RunnerUnavailable):
    """The registry that should have an image cannot be reached, or does not answer now."""


class Fenced(MonaiError):
    """A newer try of this task has taken over; this one must not touch anything any more."""


class ExportError(MonaiError):
    """An export did not end well."""

    failure = FailureKind.INTERNAL


class ExportRefused(ExportError):
    """The far side did not accept every instance.

    :param refused: SOP Instance UID -> reason.
    :param failure: the kind of failure, where it is not that of the class.
    """

    failure = FailureKind.REFUSED

    def __init__(self, message: str, *, refused: dict[str, str], failure: FailureKind | None = None):
        super().__init__(message)
        self.refused = refused
        self.failure = failure or type(self).failure


class ExportIncomplete(ExportRefused):
    """Not everything was accepted, and what is missing may be accepted later: another try sends only that."""

    failure = FailureKind.CONNECTION


class ExportOverdue(ExportRefused):
    """Not everything was accepted before the deadline; no other try follows, whatever the policy says."""

    failure = FailureKind.TIMEOUT


class ExportInterrupted(ExportError):
    """An export was ended from outside; what was not sent yet stays unsent."""

    failure = FailureKind.INTERRUPTED


class NothingToExport(ExportError):
    """A mandatory input of an export has no files."""

    failure = FailureKind.INVALID


class SinkUnavailable(ExportError):
    """A destination cannot be reached or stopped answering; a later try may succeed."""

    failure = FailureKind.CONNECTION


class DeadlinePassed(ExportError):
    """The time that a delivery may take is over; nothing more is sent, by no later try either."""

    failure = FailureKind.TIMEOUT


class DestinationError(ExportError):
    """A destination is not set up, or does not want us at all; trying again would not change that."""

    failure = FailureKind.INVALID


class BrokerError(MonaiError):
    """A message broker did not do what was asked."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached, or has not confirmed that it has a message."""

    failure = FailureKind.CONNECTION


class BrokerMisused(BrokerError):
    """The broker does not take what is sent, or not from us; trying again would not change that."""

    failure = FailureKind.INVALID


class InvalidEvent(BrokerError):
    """A message is not what its topic carries. The text tells which field is wrong, never what it holds."""

    failure = FailureKind.INVALID


class ConditionError(MonaiError):
    """A condition cannot be parsed or evaluated. The message never holds the values that were compared.

    :param column: where in the condition's text, counted from 1.
    """

    failure = FailureKind.INVALID

    def __init__(self, message: str, *, column: int = 1):
        super().__init__(f"{message} (column {column})")
        self.message = message
        self.column = column


class SpecError(MonaiError):
    """A workflow file cannot be used.

    :param problems: everything that is wrong with it (``airflow_monai.specs.problems.Problem``), sorted by line.
    """

    failure = FailureKind.INVALID

    def __init__(self, message: str, *, problems: tuple = ()):
        super().__init__(message)
        self.problems = problems


class WorkflowNotFound(MonaiError):
    """No workflow is registered under this id."""

    failure = FailureKind.NOT_FOUND


class WorkflowConflict(MonaiError):
    """A workflow cannot be registered, updated or deleted beside what there is. The message says what is in its way.

    :param field: of the definition, as ``name``; empty where it is about none.
    """

    failure = FailureKind.INVALID

    def __init__(self, message: str, *, field: str = ""):
        super().__init__(message)
        self.field = field


class InventoryError(MonaiError):
    """The inventory of GPUs cannot be used. The message names the file and the place in it."""

    failure = FailureKind.INVALID


class CapacityError(MonaiError):
    """A task asks for GPUs that this site never has, or has not said that it has."""

    failure = FailureKind.INVALID


class LeaseError(MonaiError):
    """The folder that says who has which card of this host cannot be used. Nothing is leased then."""


class CardsBusy(MonaiError):
    """No card was free within the time that a task may wait for one.

    :param back_in_seconds: when it should ask again; its place in the queue is kept until then.
    """

    failure = FailureKind.CONNECTION

    def __init__(self, message: str, *, back_in_seconds: float):
        super().__init__(message)
        self.back_in_seconds = back_in_seconds


class NoCard(MonaiError):
    """No card was free within all the time that a task may wait for one, however often it gave its slots back."""

    failure = FailureKind.NO_CARD


class ServiceError(MonaiError):
    """A service that a task calls over HTTP did not do what it was asked."""


class ServiceUnavailable(ServiceError):
    """A service cannot be reached, stopped answering, or says that it is not able to answer now."""

    failure = FailureKind.CONNECTION


class ServiceRefused(ServiceError):
    """A service answered, and not as the task expects.

    :param status: HTTP status of its answer, None where it is not about one.
    """

    failure = FailureKind.REFUSED

    def __init__(self, message: str, *, status: int | None = None):
        super().__init__(message)
        self.status = status


class JobFailed(ServiceError):
    """A job that a task started elsewhere ended badly."""

    failure = FailureKind.EXIT_CODE


class JobInterrupted(ServiceError):
    """A job was ended by something other than itself: another try may succeed."""

    failure = FailureKind.INTERRUPTED


class JobTimedOut(ServiceError):
    """A job or a person took longer than the task may."""

    failure = FailureKind.TIMEOUT


class OutcomeUnknown(ServiceError):
    """A call may or may not have had its effect, and may not be repeated."""

    failure = FailureKind.REFUSED


class ReviewError(MonaiError):
    """A review could not be held."""


class NothingToReview(ReviewError):
    """What a review should show is not there."""

    failure = FailureKind.INVALID


class NoBatchPlan(MonaiError):
    """A batch has no list of payloads."""

    failure = FailureKind.NOT_FOUND

    def __init__(self, batch: str):
        super().__init__(
            f"The batch {batch!r} has no list of payloads in the store. Clear its task 'select', which makes one."
        )


class InvalidArgument(MonaiError):
    """An argument of a task cannot be used, now that its templates are resolved. The message names it."""

    failure = FailureKind.INVALID


class ServerUnavailable(MonaiError):
    """An Airflow that a command asks cannot be reached, does not know who asks, or fails."""

    failure = FailureKind.CONNECTION


class CallerUnknown(ServerUnavailable):
    """It does not know who asks: to ask again is of no use."""

    failure = FailureKind.REFUSED


class ServerRefused(MonaiError):
    """An Airflow that a command asks answered that it does not do it.

    :param status: HTTP status of the answer.
    :param errors: field, message, hint of each part of the request that is wrong, and line and column where known.
    """

    failure = FailureKind.REFUSED

    def __init__(self, message: str, *, status: int, errors: tuple[Mapping[str, Any], ...] = ()):
        super().__init__(message)
        self.status = status
        self.errors = errors


class UnexpectedError(MonaiError):
    """Something failed that nobody foresaw. The message tells its class and where it came from; what the error itself
    says may quote data."""
