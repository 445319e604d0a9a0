"""Failures of S3 as errors of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_monai.errors import StoreError, StoreFull
from airflow_monai.types import FailureKind

_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})


class NoSuchObject(StoreError):
    """The bucket has no such object."""


class StoreUnreachable(StoreError):
    """The service gives no answer."""

    failure = FailureKind.CONNECTION


@contextmanager
def told(key: str, endpoint: str) -> Iterator[None]:
    """Turn what boto3 raises into a :class:`StoreError` that names the object, the endpoint and the cause."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError as error:
        if status(error) == 404 and code(error) in ("NoSuchKey", "404", "NotFound", ""):
            raise NoSuchObject(f"The store holds no object {key!r}.") from None
        made = StoreFull if status(error) == 507 or code(error) in _FULL else StoreError
        raise made(f"The store cannot handle {key!r}: {_reason(error)}, says {endpoint}.") from error
    except (BotoCoreError, HTTPClientError) as error:
        kind = type(error).__name__
        raise StoreUnreachable(f"The store cannot handle {key!r}: {endpoint} gave no answer ({kind}).") from error
    except OSError as error:
        raise StoreError(f"The store cannot handle {key!r}: {error.strerror or error}.") from error


def code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def status(error: Any) -> int:
    """The HTTP status of a :class:`botocore.exceptions.ClientError`."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def was_retried(error: Any) -> bool:
    """Whether an earlier try of the same request may have done what this one was refused."""
    return bool(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def _reason(error: Any) -> str:
    hints = {
        403: "the credentials may not do this (check the connection's key and the bucket's policy)",
        404: "the bucket is not there",
        412: "its condition does not hold",
        503: "it is overloaded",
    }
    hint = hints.get(status(error), "")
    return f"{code(error) or 'an error'} (HTTP {status(error)})" + (f": {hint}" if hint else "")
