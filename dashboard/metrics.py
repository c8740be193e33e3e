"""What Prometheus may know of recorder and page: counted at each scrape, no ids in labels."""

from collections.abc import Callable, Iterator

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from dashboard.queries import Queries

CONTENT_TYPE = CONTENT_TYPE_LATEST
_STATUSES = ("online", "stopped", "offline", "unknown")


class Metrics(Collector):
    """The metrics of one process.

    Args:
        queries: To the recorder's database.
        connected: Whether the broker is there.
        streams: How many pages listen.
        alerts: How many alerts are open, and deliveries wait, failed so far, or were given up.
    """

    def __init__(
        self,
        queries: Queries,
        connected: Callable[[], bool],
        streams: Callable[[], int],
        alerts: Callable[[], dict[str, int]],
    ) -> None:
        self._queries, self._connected, self._streams = queries, connected, streams
        self._alerts = alerts
        self._registry = CollectorRegistry()
        self._errors = Counter(
            "shelfkit_database_errors", "Questions that the database did not answer.", registry=self._registry
        )
        self._registry.register(self)

    def database_error(self) -> None:
        """Count one."""
        self._errors.inc()

    def text(self) -> bytes:
        """Return the text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what is asked of the database and the process; nothing of a database that is away."""
        broker = "Whether the recorder has its broker."
        yield GaugeMetricFamily("shelfkit_broker_connected", broker, value=float(self._connected()))
        yield GaugeMetricFamily("shelfkit_page_streams", "Pages that listen now.", value=self._streams())
        try:
            totals, statuses, alerts = self._queries.totals(), self._queries.statuses(), self._alerts()
        except sa.exc.SQLAlchemyError:
            self.database_error()
            return
        recorded = totals["passed"] - totals["lost"] - totals["refused"]
        yield CounterMetricFamily(
            "shelfkit_events_recorded", "Events recorded without a hole.", value=recorded
        )
        # No counters: what came after all is missing no more, and old gaps are forgotten.
        lost, refused = "Events that devices lost before.", "Events that were none, and are in quarantine."
        yield GaugeMetricFamily("shelfkit_events_lost", lost, value=totals["lost"])
        yield GaugeMetricFamily("shelfkit_events_refused", refused, value=totals["refused"])
        behind = "Events that devices have written and the recorder has not acknowledged."
        yield GaugeMetricFamily("shelfkit_events_unacknowledged", behind, value=totals["behind"])
        devices = GaugeMetricFamily("shelfkit_devices", "Devices by status.", labels=["status"])
        for status in _STATUSES:
            devices.add_metric([status], statuses.get(status, 0))
        yield devices
        yield GaugeMetricFamily("shelfkit_alerts_open", "Alerts that are open now.", value=alerts["open"])
        messages = GaugeMetricFamily(
            "shelfkit_alert_deliveries", "Messages about alerts that nobody has yet.", labels=["state"]
        )
        for state in ("waiting", "failing", "given-up"):
            messages.add_metric([state], alerts[state])
        yield messages

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: a database must not be asked to register."""
        return iter(())
