"""KubeMQ's protocol (gRPC, service ``kubemq.kubemq``) as far as we speak it, its messages made here field by field.

Fields that we neither write nor read are left out; what KubeMQ says in them is passed over.

KubeMQ's own client for Python is not used: its releases want a protobuf older than that which Airflow's OpenTelemetry
brings, or install a package ``examples`` beside ours. The numbers are those of the protocol's published definition, and
never change in it. The messages live in a pool of their own, so that they meet no other definition of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SERVICE = "/kubemq.kubemq/"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
}
# A type's name, "repeated" before it for a list; "map": texts by text. A choice is an int32, the same when it is sent.
_MESSAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Empty": {},
    "PingResult": {2: ("string", "Version")},
    "Event": {
        1: ("string", "EventID"),
        2: ("string", "ClientID"),
        3: ("string", "Channel"),
        4: ("string", "Metadata"),
        5: ("bytes", "Body"),
        6: ("bool", "Store"),
        7: ("map", "Tags"),
    },
    "Result": {2: ("bool", "Sent"), 3: ("string", "Error")},
    "QueueMessage": {
        1: ("string", "MessageID"),
        2: ("string", "ClientID"),
        3: ("string", "Channel"),
        4: ("string", "Metadata"),
        5: ("bytes", "Body"),
        6: ("map", "Tags"),
        7: ("QueueMessageAttributes", "Attributes"),
    },
    "QueueMessageAttributes": {1: ("int64", "Timestamp"), 2: ("uint64", "Sequence")},
    "SendQueueMessageResult": {2: ("int64", "SentAt"), 5: ("bool", "IsError"), 6: ("string", "Error")},
    "QueuesDownstreamRequest": {
        1: ("string", "RequestID"),
        2: ("string", "ClientID"),
        3: ("int32", "RequestTypeData"),
        4: ("string", "Channel"),
        5: ("int32", "MaxItems"),
        6: ("int32", "WaitTimeout"),
        9: ("repeated int64", "SequenceRange"),
        10: ("string", "RefTransactionId"),
    },
    "QueuesDownstreamResponse": {
        1: ("string", "TransactionId"),
        2: ("string", "RefRequestId"),
        3: ("int32", "RequestTypeData"),
        4: ("repeated QueueMessage", "Messages"),
        6: ("bool", "IsError"),
        7: ("string", "Error"),
    },
}

GET, ACK_RANGE, ACTIVE_OFFSETS, CLOSE_BY_SERVER = 1, 3, 8, 11
"""Choices of ``RequestTypeData``."""


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="kubemq.proto", package="kubemq", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (kind, field) in fields.items():
            _add(message, number, kind, field)
    return file


def _add(message: descriptor_pb2.DescriptorProto, number: int, kind: str, name: str) -> None:
    repeated, _, kind = kind.rpartition(" ")
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind == "map":
        entry = message.nested_type.add(name=f"{name}Entry")
        entry.options.map_entry = True
        for part, part_name in ((1, "key"), (2, "value")):
            _add(entry, part, "string", part_name)
        repeated, kind = "repeated", f"{message.name}.{name}Entry"
    if repeated:
        field.label = _Field.LABEL_REPEATED
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".kubemq.{kind}"


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())


def message_class(name: str) -> Any:
    """The class of a message of the protocol."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"kubemq.{name}"))


Empty = message_class("Empty")
PingResult = message_class("PingResult")
Event = message_class("Event")
Result = message_class("Result")
QueueMessage = message_class("QueueMessage")
SendQueueMessageResult = message_class("SendQueueMessageResult")
QueuesDownstreamRequest = message_class("QueuesDownstreamRequest")
QueuesDownstreamResponse = message_class("QueuesDownstreamResponse")


class Calls:
    """What a KubeMQ can be asked by a channel."""

    def __init__(self, channel: grpc.Channel):
        self.channel = channel
        self.ping = _unary(channel, "Ping", Empty, PingResult)
        self.send_event = _unary(channel, "SendEvent", Event, Result)
        self.send_message = _unary(channel, "SendQueueMessage", QueueMessage, SendQueueMessageResult)
        self.downstream = channel.stream_stream(
            f"{_SERVICE}QueuesDownstream",
            request_serializer=QueuesDownstreamRequest.SerializeToString,
            response_deserializer=QueuesDownstreamResponse.FromString,
        )


def _unary(channel: grpc.Channel, name: str, request: Any, response: Any) -> Any:
    return channel.unary_unary(
        f"{_SERVICE}{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
