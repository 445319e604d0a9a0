"""The cards of a Kubernetes cluster, from what NVIDIA's device plugin and feature discovery say of its nodes.

A node offers cards and slices as resources (``nvidia.com/gpu``, ``nvidia.com/mig-1g.5gb``), and labels tell what they
are. The cluster gives a card to one pod at a time, so these cards are never shared out by their memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_monai.errors import InventoryError
from airflow_monai.gpu.inventory import GIB, Cards, Host, class_name

SOURCE = "kubernetes"
GPU = "nvidia.com/gpu"
_SLICES = re.compile(r"nvidia\.com/mig-(\d+g\.(\d+)gb\S*)\Z")
_USABLE_PART = 0.95


def hosts_of(nodes: Iterable[Mapping[str, Any]]) -> tuple[Host, ...]:
    """The nodes that have cards, from their JSON.

    :raises InventoryError: when a node has cards and does not say what they are.
    """
    hosts = (Host(node["metadata"]["name"], tuple(_cards(node)), SOURCE) for node in nodes)
    return tuple(sorted((host for host in hosts if host.cards), key=lambda host: host.name))


def read_nodes(api_client: Any) -> list[dict[str, Any]]:
    """The nodes of a cluster.

    :param api_client: of the Kubernetes client.
    """
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        found = client.CoreV1Api(api_client).list_node(_request_timeout=30).items
    except (ApiException, HTTPError) as error:
        words = " ".join(str(getattr(error, "reason", "") or error).split())[:300]
        raise InventoryError(
            f"The nodes of the cluster cannot be read ({type(error).__name__}: {words}): the account needs the "
            "right to list nodes."
        ) from error
    nodes: list[dict[str, Any]] = api_client.sanitize_for_serialization(found)
    return nodes


def _cards(node: Mapping[str, Any]) -> Iterator[Cards]:
    labels = node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    # what can be had, where the node says it: a card that is broken is in its capacity only
    offered = status.get("allocatable") or status.get("capacity") or {}
    count = _number(offered.get(GPU))
    if count:
        yield _whole(node["metadata"]["name"], labels, count)
    for resource, amount in sorted(offered.items()):
        part = _SLICES.match(resource)
        if part and _number(amount):
            yield _slices(labels, part[1], int(part[2]), _number(amount))


def _whole(node: str, labels: Mapping[str, str], count: int) -> Cards:
    product, memory = labels.get("nvidia.com/gpu.product", ""), _number(labels.get("nvidia.com/gpu.memory"))
    if not product or not memory:
        raise InventoryError(
            f"Node {node} has {count} x {GPU}, but no labels nvidia.com/gpu.product and nvidia.com/gpu.memory: install "
            "GPU feature discovery in the cluster, label it, or write the inventory by hand."
        )
    # several pods may have a card in turns: each of them counts, with its part of the memory
    shares = max(1, _number(labels.get("nvidia.com/gpu.replicas"))) if product.endswith("-SHARED") else 1
    gib = max(1, memory // 1024 // shares)
    return Cards(class_name(product, ""), product, gib * GIB, count, exclusive=True)


def _slices(labels: Mapping[str, str], profile: str, size: int, count: int) -> Cards:
    product = labels.get("nvidia.com/gpu.product", "MIG")
    told = _number(labels.get(f"nvidia.com/mig-{profile}.memory"))
    memory = told // 1024 * GIB if told >= 1024 else max(1, int(size * _USABLE_PART)) * GIB
    return Cards(class_name(product, profile), product, memory, count, profile, exclusive=True)


def _number(text: object) -> int:
    return int(str(text)) if re.fullmatch(r"\d+", str(text)) else 0
