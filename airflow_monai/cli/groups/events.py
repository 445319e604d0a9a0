"""The commands for what is told to others."""

from __future__ import annotations

from airflow_monai.cli.table import JSON, Topic, positional

_EVENTS = Topic("events", "airflow_monai.cli.here.events")
_CHANNEL = positional("channel", "CHANNEL", "'broker', or a handler's id, as the list shows it.")

EVENTS = _EVENTS.group(
    "Who is told what happens to workflow instances, and what waits to be told.",
    "list",
    _EVENTS.command(
        "list",
        "List who is told: notification handlers and the broker, how they are, and why they fail.",
        "",
        JSON,
        function="list_all",
    ),
    _EVENTS.command(
        "show", "Show what was given up, what waits and why, and what is to be told next.", "broker", _CHANNEL, JSON
    ),
    _EVENTS.command(
        "retry",
        "Have events that were given up told all the same.",
        "broker",
        _CHANNEL,
        positional("events", "EVENT", "These. Default: all.", nargs="*"),
        description="Have events that were given up told all the same, by the gateway that tells. Exit code 1: "
        "there are none.",
    ),
)
