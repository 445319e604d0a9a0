"""Copy results into a bucket of Amazon S3, or of a service that speaks its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_monai.errors import DeadlinePassed, DestinationError, SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, OnResult, Sink
from airflow_monai.sinks.crew import Crew, Stopped
from airflow_monai.sinks.deadline import StillAtIt, longest
from airflow_monai.sinks.files import digest_of
from airflow_monai.sinks.s3_bucket import Bucket, BucketBusy, WriteLost, WriteRefused
from airflow_monai.store.base import check_key, safe_name

_HIDDEN = "an object of this name is there, and the key may not read it; remove it, or set overwrite in the extra"
_OTHER = "and other content is there; remove it, or set overwrite in the extra"


class S3Sink(Sink):
    """Writes objects ``<prefix>/<payload id>/<workflow>/<task>/...``, what a cleared task made anew to ``.../g<N>``.

    The connection's host is the bucket, login and password are the access key's id and its secret (without them boto3
    looks for some: environment, files, the instance's role). Extras: ``prefix``, ``endpoint_url`` (of a service that is
    not Amazon's), ``region_name``, ``overwrite`` (replace an object of other content under the same name, which is
    refused otherwise), ``connections`` (4), ``connect_timeout`` (10 s), ``response_timeout`` (60 s), ``ca_file``,
    ``check_certificate``. An object is seen whole or not at all.
    """

    def __init__(self, destination: Destination):
        super().__init__(destination)
        self.bucket = Bucket(destination)
        self.overwrite = destination.flag("overwrite")
        self.connections = int(destination.number("connections", 4, 1, 32))

    def identity(self, instance: Instance) -> str:
        return safe_name(instance.name)

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        for instance in instances:
            check_key(instance.name)
        self.bucket.client(self.deadline)
        _Uploading(self, instances, on_result).run()

    def ask(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        """An object of this name and content is there; of those that we may not look at, nothing is said."""
        self.bucket.client(self.deadline)
        try:
            return self.deadline.within(lambda: self._asked(instances), longest(_sizes(instances), self.throttle))
        except TimeoutError as error:
            raise SinkUnavailable(f"{self.bucket} does not come to an end of its answer: {error}.") from None

    def _asked(self, instances: Sequence[Instance]) -> Mapping[str, bool] | None:
        answer = {}
        for instance in instances:
            self.deadline.check()
            found = self.bucket.find(check_key(instance.name))
            if found is None:
                answer[self.identity(instance)] = False
            elif not found.hidden:
                digest = instance.digest or digest_of(instance.path)
                answer[self.identity(instance)] = self.bucket.is_same(instance.name, found, instance.path, digest)
        return answer if answer or not instances else None

    def test(self) -> str:
        return self.bucket.test()


class _Uploading(Crew):
    """One call of :meth:`S3Sink.send`."""

    def __init__(self, sink: S3Sink, instances: Sequence[Instance], on_result: OnResult):
        super().__init__(sink, str(sink.bucket), instances, on_result, sink.connections)
        self._sink = sink

    def next_batch(self) -> list[Instance]:
        return [self.left.popleft()] if self.left else []

    def deliver(self, batch: Sequence[Instance]) -> None:
        (instance,) = batch
        identity = self._sink.identity(instance)
        self.repeat(lambda: self._once(identity, instance))

    def _once(self, identity: str, instance: Instance) -> Delivery:
        self.check()
        self.tell(Delivery(identity, DeliveryState.SENT))
        return self.tell(self._sent(identity, instance))

    def _sent(self, identity: str, instance: Instance) -> Delivery:
        most = longest(_sizes([instance]), self._sink.throttle, self._sink.connections)
        try:
            return self.deadline.within(lambda: self._judged(identity, instance), most)
        except TimeoutError as error:
            message = f"{self._sink.bucket} does not come to an end: {error}"
            return Delivery(identity, DeliveryState.UNKNOWN, message=message, retry=True)
        except WriteLost as error:
            return Delivery(identity, DeliveryState.UNKNOWN, message=str(error), retry=True)
        except BucketBusy as error:
            return Delivery(identity, DeliveryState.REFUSED, error.status, str(error), retry=True)
        except WriteRefused as error:
            return Delivery(identity, DeliveryState.REFUSED, error.status, str(error))
        except SinkUnavailable as error:
            return Delivery(identity, DeliveryState.PENDING, message=str(error).rstrip("."), retry=True)
        except DestinationError:
            self.tell(Delivery(identity, DeliveryState.PENDING, message="the bucket does not want us", retry=True))
            raise
        except (DeadlinePassed, Stopped) as error:  # before the write, or in an upload that is taken back
            state = DeliveryState.UNKNOWN if isinstance(error, StillAtIt) else DeliveryState.PENDING
            self.tell(Delivery(identity, state, message="the sending was ended", retry=True))
            raise

    def _judged(self, identity: str, instance: Instance) -> Delivery:
        bucket, name, overwrite = self._sink.bucket, instance.name, self._sink.overwrite
        digest = instance.digest or digest_of(instance.path)
        for _ in range(2):
            found = bucket.find(name)
            if found is not None and not found.hidden:
                if bucket.is_same(name, found, instance.path, digest):
                    return Delivery(identity, DeliveryState.ACCEPTED, message="was there already")
                if not overwrite:
                    return Delivery(identity, DeliveryState.REFUSED, message=f"an object of this name {_OTHER}")
            if bucket.put(name, instance.path, digest, self.piece, new=not overwrite):
                return Delivery(identity, DeliveryState.ACCEPTED, message="copied")
            if found is not None and found.hidden:
                return Delivery(identity, DeliveryState.REFUSED, message=_HIDDEN)
            # somebody has written it in between
        message = "another is writing the same object"
        return Delivery(identity, DeliveryState.REFUSED, message=message, retry=True)


def _sizes(instances: Sequence[Instance]) -> int:
    return sum(instance.path.stat().st_size for instance in instances if instance.path.is_file())
