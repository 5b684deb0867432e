"""What this process counts, in the format of Prometheus.

All metrics stand here, so that their names are chosen together and an operator finds them in one place. Whoever does
the work counts it. Labels have few values, all of them ours: a route is its pattern, never the path that was asked for,
and no user, room or server is a label.
"""

from __future__ import annotations

from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

HTTP_REQUESTS = Counter(
    "talkpai_http_requests",
    "Requests answered. `route` is the pattern of the path, `status` the code of the answer.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "talkpai_http_request_duration_seconds",
    "Time from the request's head to its answer, waiting of long polls included.",
    ("method", "route"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
HTTP_IN_FLIGHT = Gauge("talkpai_http_requests_in_flight", "Requests being answered now.", registry=REGISTRY)

EVENTS_PERSISTED = Counter(
    "talkpai_events_persisted",
    "Events stored. `origin` is local or remote; `outcome` is accepted, soft_failed or rejected.",
    ("origin", "outcome"),
    registry=REGISTRY,
)
APPEND_SECONDS = Histogram(
    "talkpai_append_duration_seconds",
    "Time to append a batch of events to a room, from taking its lock to the commit.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
SYNC_WAITERS = Gauge(
    "talkpai_sync_waiters", "Long polls of /sync that wait for something to happen.", registry=REGISTRY
)

FEDERATION_TRANSACTIONS = Counter(
    "talkpai_federation_transactions",
    "Transactions with other servers. `direction` is in or out; `outcome` is ok, refused or failed.",
    ("direction", "outcome"),
    registry=REGISTRY,
)
FEDERATION_PDUS = Counter("talkpai_federation_pdus", "PDUs in those transactions.", ("direction",), registry=REGISTRY)
FEDERATION_EDUS = Counter("talkpai_federation_edus", "EDUs in those transactions.", ("direction",), registry=REGISTRY)
OUTBOX_BACKLOG = Gauge("talkpai_outbox_backlog", "Events that wait to be sent to other servers.", registry=REGISTRY)
OUTBOX_DESTINATIONS = Gauge(
    "talkpai_outbox_destinations", "Servers that something waits for.", ("state",), registry=REGISTRY
)

DATABASE_CONNECTIONS = Gauge(
    "talkpai_database_connections",
    "Connections of the database pool. `state` is used, idle, or largest (how many there may be).",
    ("state",),
    registry=REGISTRY,
)


class Pool(Protocol):
    """What is counted of a pool of connections."""

    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    def get_max_size(self) -> int: ...


def watch_pool(pool: Pool) -> None:
    """Shows this pool, read anew at each scrape, in DATABASE_CONNECTIONS. A process has one."""
    DATABASE_CONNECTIONS.labels("used").set_function(lambda: pool.get_size() - pool.get_idle_size())
    DATABASE_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
    DATABASE_CONNECTIONS.labels("largest").set_function(pool.get_max_size)


def render() -> bytes:
    """All metrics in the text format of Prometheus, to be served as CONTENT_TYPE."""
    return generate_latest(REGISTRY)
