"""The few calls that a delivery to a bucket makes, none of them repeated by itself, with errors that say what to do."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_monai.errors import DestinationError, ExportError, SinkUnavailable
from airflow_monai.sinks.base import Destination
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.files import became_shorter, unreadable
from airflow_monai.store.base import check_key
from airflow_monai.store.s3_errors import code, status

PART = 8 << 20
"""Bytes of a file that are read and sent at a time; a larger file goes in parts."""
MAX_PARTS = 10_000
_DIGEST = "sha256"  # name of our metadata
_BUSY = frozenset({408, 429, 503})
_PROBE = ".monai-connection-test"
Pace = Callable[[int], None]
"""Called before so many bytes are sent; what it raises ends the sending."""


class WriteLost(SinkUnavailable):
    """A request was sent, and whether it had its effect is not known."""


class BucketBusy(SinkUnavailable):
    """The service answered that it cannot do it now.

    :param status: as ``HTTP 503``.
    """

    def __init__(self, message: str, *, status: str):
        super().__init__(message)
        self.status = status


class WriteRefused(ExportError):
    """The service does not take this object.

    :param status: as ``HTTP 400``.
    """

    def __init__(self, message: str, *, status: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is there.

    :param digest: SHA-256 in hex, as it was written with; empty where it was not written by us.
    :param hidden: we may not look whether there is one at all.
    """

    size: int = 0
    digest: str = ""
    hidden: bool = False


class Bucket:
    """What a connection of type ``monai_s3`` says, see :class:`airflow_monai.sinks.s3.S3Sink`; safe for threads."""

    def __init__(self, destination: Destination):
        self._destination = destination
        self.name = destination.host.removeprefix("s3://").strip("/")
        self.prefix = destination.text("prefix").strip("/")
        self._endpoint = destination.text("endpoint_url").rstrip("/")
        self._region = destination.text("region_name")
        self._connect = destination.seconds("connect_timeout", 10.0)
        self._response = destination.seconds("response_timeout", 60.0)
        self._verify = _verify(destination)
        self._lock = threading.Lock()
        self._client: Any = None
        if not self.name or "/" in self.name:
            raise destination.error("host is no name of a bucket")  # it may hold a secret, in the wrong place
        if self.prefix:
            _checked_prefix(destination, self.prefix)
        if self._endpoint and urlsplit(self._endpoint).scheme not in ("http", "https"):
            raise destination.error("endpoint_url does not begin with http:// or https://")
        if "@" in urlsplit(self._endpoint).netloc:
            raise destination.error("endpoint_url holds a login, which would be in every log: give login and password")
        if bool(destination.login) != bool(destination.password):
            raise destination.error("login (the access key's id) and password (its secret) go together")

    def __str__(self) -> str:
        return f"{self._destination.name} (bucket {self.name} at {self._endpoint or 'Amazon S3'})"

    def client(self, deadline: Deadline | None = None) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._opened((deadline or Deadline()).left(self._response))
            return self._client

    def find(self, name: str) -> Found | None:
        """The object of this name, None when there is none.

        :raises SinkUnavailable: the service does not answer now.
        """
        from botocore.exceptions import ClientError

        try:
            with self._told(writes=False):
                head = self.client().head_object(**self._at(name))
        except _Refused as refused:
            error: ClientError = refused.error
            if status(error) == 404:
                return None
            if status(error) == 403:  # without the right to list, Amazon says so of what is not there
                return Found(hidden=True)
            raise self._refused(error) from None
        if "ContentLength" not in head:
            raise SinkUnavailable(f"{self} answers without an object's size: is it a bucket, or a proxy before one?")
        metadata = {key.lower(): value for key, value in (head.get("Metadata") or {}).items()}
        return Found(int(head["ContentLength"]), str(metadata.get(_DIGEST, "")))

    def is_same(self, name: str, found: Found, path: Path, digest: str) -> bool:
        """Whether the object has the file's content; it is read where it does not say its digest.

        :param digest: of the file, SHA-256 in hex.
        """
        if found.size != path.stat().st_size:
            return False
        return (found.digest or self._read_digest(name)) == digest

    def _read_digest(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._judged(writes=False):
            body = self.client().get_object(**self._at(name))["Body"]
            try:
                while block := body.read(1 << 20):
                    digest.update(block)
            finally:
                body.close()
        return digest.hexdigest()

    def put(self, name: str, path: Path, digest: str, pace: Pace, *, new: bool) -> bool:
        """Write a file; False when ``new`` forbids it, because there is an object or somebody else is writing it.

        :raises WriteLost: nobody knows whether it was written.
        :raises BucketBusy: it was not, and may be later.
        :raises WriteRefused: it was not, and will not be.
        """
        size = path.stat().st_size
        given = {**self._at(name), "Metadata": {_DIGEST: digest}}
        if size <= PART:
            data = _part(path, 0, size)
            pace(len(data))
            checksum = base64.b64encode(bytes.fromhex(digest)).decode()
            return self._conditionally(
                lambda **more: self.client().put_object(**given, Body=data, ChecksumSHA256=checksum, **more), new
            )
        return self._put_in_parts(given, path, size, pace, new)

    def test(self) -> str:
        """Write an object and remove it."""
        name = _PROBE
        with self._judged(writes=False):
            self.client().put_object(**self._at(name), Body=b"test")
        try:
            with self._judged(writes=False):
                self.client().delete_object(**self._at(name))
        except DestinationError:
            return f"{self} can be written to; the object {name} of this test may not be removed."
        return f"{self} can be written to."

    def _put_in_parts(self, given: dict[str, Any], path: Path, size: int, pace: Pace, new: bool) -> bool:
        place = {"Bucket": given["Bucket"], "Key": given["Key"]}
        step = max(PART, -(-size // MAX_PARTS))
        with self._judged(writes=False):
            begun = self.client().create_multipart_upload(**given, ChecksumAlgorithm="SHA256")
        upload = {**place, "UploadId": begun["UploadId"]}
        done = False
        try:
            parts = []
            for number, start in enumerate(range(0, size, step), 1):
                data = _part(path, start, min(step, size - start))
                pace(len(data))
                checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
                with self._judged(writes=False):
                    sent = self.client().upload_part(**upload, PartNumber=number, Body=data, ChecksumSHA256=checksum)
                parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum})
            done = self._conditionally(
                lambda **more: self.client().complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": parts}, **more
                ),
                new,
            )
            return done
        finally:
            if not done:
                self._abort(upload)

    def _conditionally(self, write: Callable[..., Any], new: bool) -> bool:
        try:
            with self._told(writes=True):
                self._check_written(write(**({"IfNoneMatch": "*"} if new else {})))
            return True
        except _Refused as refused:
            error = refused.error
            if new and (status(error) == 412 or code(error) == "ConditionalRequestConflict"):
                return False
            if not new or code(error) != "NotImplemented":
                raise self._refused(error) from None
        with self._judged(writes=True):  # the service knows no conditions; that there is none was looked up before
            self._check_written(write())
        return True

    def _check_written(self, answer: dict[str, Any]) -> None:
        """A bucket names what it has written by its ETag; the page of a proxy, with HTTP 200 too, does not.

        :raises WriteLost: when the answer is none of a bucket.
        """
        if not answer.get("ETag"):
            raise WriteLost(f"{self} answered a write as no bucket does (without ETag); is a proxy between?")

    def _abort(self, upload: dict[str, Any]) -> None:
        """The bucket's lifecycle rule removes what this cannot."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client().abort_multipart_upload(**upload)
        except (BotoCoreError, ClientError):
            return

    @contextmanager
    def _judged(self, *, writes: bool) -> Iterator[None]:
        """A block whose refusals are the errors of this module."""
        try:
            with self._told(writes=writes):
                yield
        except _Refused as refused:
            raise self._refused(refused.error) from None

    @contextmanager
    def _told(self, *, writes: bool) -> Iterator[None]:
        """A block of requests; what is no answer becomes an error that says so.

        :raises _Refused: the service answered with an error.
        """
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectTimeoutError,
            EndpointConnectionError,
            HTTPClientError,
            NoCredentialsError,
            ProxyConnectionError,
            SSLError,
        )

        try:
            yield
        except ClientError as error:
            raise _Refused(error) from None
        except SSLError:
            raise self._destination.error(
                f"the certificate of {self._endpoint or 'Amazon S3'} is not trusted; ca_file names the right authority"
            ) from None
        except NoCredentialsError:
            raise self._destination.error(
                "there are no credentials: give login and password, or a role to the worker"
            ) from None
        except (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError) as error:
            raise SinkUnavailable(f"{self} cannot be reached ({type(error).__name__}): is it running?") from None
        except HTTPClientError as error:
            lost = f"{self} did not answer ({type(error).__name__})"
            raise (WriteLost(lost) if writes else SinkUnavailable(f"{lost}.")) from None
        except BotoCoreError as error:
            raise self._destination.error(f"boto3 does not take it ({type(error).__name__})") from None

    def _refused(self, error: Any) -> ExportError:
        number, name = status(error), code(error) or "error"
        said = f"{self} answered HTTP {number} {name}"
        if number in _BUSY or name in ("SlowDown", "BadDigest", "RequestTimeout", "ConditionalRequestConflict"):
            return BucketBusy(said, status=f"HTTP {number}")
        if number >= 500:
            return WriteLost(said)
        if number in (301, 307, 401, 403) or name in ("NoSuchBucket", "404"):
            hint = {301: "; check region_name", 404: ": there is no such bucket"}.get(
                number, ": the key may not do this"
            )
            return self._destination.error(said + hint)
        return WriteRefused(said, status=f"HTTP {number}")

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": f"{self.prefix}/{name}" if self.prefix else name}

    def _opened(self, response_seconds: float) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise self._destination.error("a bucket needs boto3: pip install 'airflow-monai[s3]'") from None
        own = bool(self._endpoint) and not (urlsplit(self._endpoint).hostname or "").endswith("amazonaws.com")
        config = Config(
            connect_timeout=self._connect,
            read_timeout=response_seconds,
            retries={"total_max_attempts": 1},  # trying again is the sink's business, which keeps the deadline
            max_pool_connections=40,
            tcp_keepalive=True,
            s3={"addressing_style": "path" if own else "auto"},
        )
        session = boto3.session.Session(
            aws_access_key_id=self._destination.login or None,
            aws_secret_access_key=self._destination.password or None,
            region_name=self._region or ("us-east-1" if self._endpoint else None),
        )
        return session.client("s3", endpoint_url=self._endpoint or None, verify=self._verify, config=config)


class _Refused(Exception):
    """The service answered with an error.

    :param error: boto3's.
    """

    def __init__(self, error: Any):
        super().__init__(str(error))
        self.error = error


def _verify(destination: Destination) -> bool | str:
    ca_file = destination.text("ca_file")
    if ca_file and not Path(ca_file).is_file():
        raise destination.error(f"ca_file = {ca_file!r} is no file on this host")
    return (ca_file or True) if destination.flag("check_certificate", True) else False


def _checked_prefix(destination: Destination, prefix: str) -> None:
    from airflow_monai.errors import StoreError

    try:
        check_key(prefix)
    except StoreError:
        raise destination.error(f"prefix = {prefix!r} is no plain path") from None


def _part(path: Path, start: int, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise unreadable(error) from error
    if len(data) < size:
        raise became_shorter()
    return data
