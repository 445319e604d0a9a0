"""The store in a bucket of S3, or of any service that speaks its protocol and keeps the promises of
:mod:`airflow_monai.store.s3_check`.

An object is durable when its PUT is answered, so all that this adds is speed: many transfers at once, and large files
in parts. Objects that only grow (``.jsonl``) are one object a line, below the key.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from airflow_monai.errors import SettingsError, StoreError, disk_error
from airflow_monai.store.base import Entry, Store, check_key, plain_files
from airflow_monai.store.s3_access import S3Access, client_of
from airflow_monai.store.s3_errors import NoSuchObject, status
from airflow_monai.store.s3_transfer import Transfers

SCHEME = "s3://"
LINES = ".jsonl"
ID_KEY = "store-id.json"
CLOCK_SECONDS = 3.0
"""Clocks that differ by no more are taken for equal: an answer takes its time, and tells whole seconds."""
PAGE = 1000
"""Objects that one request lists or deletes, at most."""
MAX_COPY_BYTES = 5 * 2**30


def place_of(url: str) -> tuple[str, str]:
    """Bucket and prefix (without slashes around) of ``s3://bucket/prefix``; :class:`SettingsError` for another one."""
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    prefix = prefix.strip("/")
    try:
        if prefix:
            check_key(prefix)
        check_key(bucket)
    except StoreError:
        raise SettingsError(f"[monai] store = {url!r}: write s3://bucket/prefix, with plain names.") from None
    return bucket, prefix


class S3Store(Store):
    """Objects in a bucket, below a prefix.

    :param url: ``s3://bucket/prefix``.
    :param spool: local folder for unfinished files.
    """

    def __init__(self, url: str, access: S3Access, spool: Path):
        self.bucket, self.prefix = place_of(url)
        self.url = f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")
        self.endpoint = access.name
        self._spool = spool
        self._client = client_of(access)
        self.transfers = Transfers(self._client, self.bucket, self.endpoint)
        self.top = f"{self.prefix}/" if self.prefix else ""
        self._identity = ""

    @property
    def identity(self) -> str:
        """By an id that is kept in the bucket: two services may have buckets of one name, and one two names."""
        if not self._identity:
            if not self.exists(ID_KEY):
                self.create_json(ID_KEY, {"id": uuid.uuid4().hex})
            self._identity = f"{self.url} {self.read_json(ID_KEY)['id']}"
        return self._identity

    def _name(self, key: str) -> str:
        return self.top + check_key(key)

    def _told(self, key: str) -> Any:
        return self.transfers.told(key)

    def read(self, key: str) -> bytes:
        name = self._name(key)
        try:
            with self._told(key):
                return self.transfers.read(name)
        except NoSuchObject:
            if not key.endswith(LINES):
                raise
            lines = [entry.key for entry in self.entries(key)]
            if not lines:
                raise
            return b"".join(self.transfers.each(self.read, lines))

    def write(self, key: str, data: bytes, durable: bool = True) -> None:
        with self._told(key):
            self.transfers.put(self._name(key), data)

    def create(self, key: str, data: bytes) -> bool:
        with self._told(key):
            return self.transfers.put(self._name(key), data, new=True)

    def create_from(self, key: str, file: Path) -> bool:
        with self._told(key):
            return self.transfers.put_file(self._name(key), file, new=True)

    def create_all(self, pairs: Iterable[tuple[Path, str]], check: Callable[[], None] = lambda: None) -> None:
        def create(pair: tuple[Path, str]) -> None:
            self.create_from(pair[1], pair[0])

        for _ in self.transfers.each(create, _checked(pairs, check)):
            pass

    def share(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Copies, made within the service."""
        for _ in self.transfers.each(self._copy, pairs):
            pass

    def _copy(self, pair: tuple[str, str]) -> None:
        source, target = pair
        if self.exists(target):
            return
        origin, size = {"Bucket": self.bucket, "Key": self._name(source)}, self.size(source)
        with self._told(source):
            if size > MAX_COPY_BYTES:
                self._client.copy(origin, self.bucket, self._name(target))
            else:
                self._client.copy_object(CopySource=origin, Bucket=self.bucket, Key=self._name(target))

    def append(self, key: str, data: bytes) -> None:
        if not key.endswith(LINES):
            raise StoreError(f"Nothing can be appended to {key!r}: only to a key that ends with {LINES}.")
        self.write(f"{key}/{time.time_ns():020d}-{uuid.uuid4().hex[:12]}", data)

    def spool(self) -> Path:
        try:
            self._spool.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(f"[monai] spool_folder {self._spool} cannot be made", error) from error
        return self._spool

    def exists(self, key: str) -> bool:
        if self._head(key) is not None:
            return True
        return key.endswith(LINES) and next(self._pages(f"{key}/", MaxKeys=1)).get("KeyCount", 0) > 0

    def size(self, key: str) -> int:
        head = self._head(key)
        if head is None:
            raise NoSuchObject(f"The store holds no object {key!r}.")
        return int(head["ContentLength"])

    def _head(self, key: str) -> Mapping[str, Any] | None:
        from botocore.exceptions import ClientError

        name = self._name(key)
        with self._told(key):
            try:
                return dict(self._client.head_object(Bucket=self.bucket, Key=name))
            except ClientError as error:
                if status(error) == 404:
                    return None
                raise

    def list(self, prefix: str) -> Iterator[str]:
        for entry in self.entries(prefix):
            yield entry.key

    def entries(self, prefix: str) -> Iterator[Entry]:
        behind: float | None = None
        for page in self._pages(f"{prefix}/"):
            behind = _behind(page) if behind is None else behind
            for item in page.get("Contents", ()):
                key = item["Key"][len(self.top) :]
                if not key.endswith("/"):  # what a browser leaves as a folder
                    yield Entry(key, int(item["Size"]), _not_before(item["LastModified"].timestamp()) + behind)

    def children(self, prefix: str) -> Iterator[str]:
        top = len(self._name(prefix)) + 1
        names: set[str] = set()
        for page in self._pages(f"{prefix}/", Delimiter="/"):
            names.update(item["Prefix"][top:].rstrip("/") for item in page.get("CommonPrefixes", ()))
            names.update(item["Key"][top:] for item in page.get("Contents", ()))
        yield from sorted(name for name in names if name)

    def _pages(self, prefix: str, **more: Any) -> Iterator[Mapping[str, Any]]:
        check_key(prefix.rstrip("/"))
        asked: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.top + prefix, "MaxKeys": PAGE, **more}
        while True:
            with self._told(prefix):
                page = self._client.list_objects_v2(**asked)
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str) -> None:
        with self._told(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def delete_tree(self, prefix: str) -> None:
        for page in self._pages(f"{prefix}/"):
            names = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if names:
                with self._told(prefix):
                    answer = self._client.delete_objects(
                        Bucket=self.bucket, Delete={"Objects": names, "Quiet": True}, ChecksumAlgorithm="CRC32"
                    )
                for failed in answer.get("Errors", ()):
                    raise StoreError(
                        f"The store cannot remove {failed.get('Key')!r}: {failed.get('Code')}, says {self.endpoint}."
                    )

    def local_path(self, key: str) -> Path | None:
        return None

    def blocks(self, key: str) -> tuple[int, Iterator[bytes]]:
        with self._told(key):
            answer = self._client.get_object(Bucket=self.bucket, Key=self._name(key))

        def read() -> Iterator[bytes]:
            with self._told(key):
                yield from answer["Body"].iter_chunks(1 << 20)

        return int(answer["ContentLength"]), read()

    def starts(self, keys: Iterable[str], size: int) -> Iterator[bytes]:
        def start(key: str) -> bytes:
            with self._told(key):
                return self.transfers.start(self._name(key), size)

        yield from self.transfers.each(start, keys)

    def same(self, key: str, file: Path) -> bool:
        head = self._head(key)
        if head is None or int(head["ContentLength"]) != file.stat().st_size:
            return False
        if head["ETag"].strip('"') == _md5(file):
            return True
        try:  # the tag of what came in parts, or is encrypted, is no digest of it
            _, pieces = self.blocks(key)
            with open(file, "rb") as opened:
                return all(opened.read(len(piece)) == piece for piece in pieces) and not opened.read(1)
        except NoSuchObject:
            return False

    def fetch_all(self, pairs: Iterable[tuple[str, Path]]) -> None:
        def fetch(pair: tuple[str, Path]) -> None:
            with self._told(pair[0]):
                self.transfers.get_file(self._name(pair[0]), pair[1])

        for _ in self.transfers.each(fetch, pairs):
            pass

    def put_all(self, pairs: Iterable[tuple[Path, str]], check: Callable[[], None] = lambda: None) -> None:
        def put(pair: tuple[Path, str]) -> None:
            with self._told(pair[1]):
                self.transfers.put_file(self._name(pair[1]), pair[0])

        for _ in self.transfers.each(put, _checked(pairs, check)):
            pass

    def put_tree(self, folder: Path, prefix: str, check: Callable[[], None] = lambda: None) -> None:
        # the large ones first: the last to end should not be one that has just begun
        files = sorted(plain_files(folder), key=lambda file: -file.stat().st_size)
        self.put_all(((file, f"{prefix}/{file.relative_to(folder).as_posix()}") for file in files), check)


def _checked(pairs: Iterable[tuple[Path, str]], check: Callable[[], None]) -> Iterator[tuple[Path, str]]:
    asked = 0.0
    for pair in pairs:
        if time.monotonic() - asked >= 1.0:
            check()
            asked = time.monotonic()
        yield pair


def _behind(page: Mapping[str, Any]) -> float:
    """How far the service's clock is behind this host's, in seconds; 0 where they agree as far as an answer can tell.

    Quiet times of studies are counted from its times by this host's clock.
    """
    date = page["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        behind = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0.0
    return behind if abs(behind) > CLOCK_SECONDS else 0.0


def _not_before(seconds: float) -> float:
    """The end of a second that a time was cut to: an image must not seem to have come before it did."""
    return seconds if seconds % 1 else seconds + 1.0


def _md5(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
