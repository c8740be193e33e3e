"""The kit's one MQTT adapter, over paho.

What it hides: MQTT 5 first and a new 3.1.1 client where a broker refuses that; a fresh paho client
for each connection (its queue lives in memory alone and resends without a bound); waiting with full
jitter between attempts. What it does not hide: nothing is queued here. `publish` says None while
there is no connection, and callbacks do nothing but put notices into a queue that one thread reads.
"""

import contextlib
import logging
import random
import socket
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.contracts import config
from edge_agent.contracts.address import Address
from edge_agent.contracts.errors import ConfigError

log = logging.getLogger(__name__)

_KEEPALIVE_S = 30
_CONNECT_TIMEOUT_S = 4.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_GOODBYE_S = 3.0
_DEFAULT_RECEIVE_MAXIMUM = 20
_LARGEST_BYTES = 8 * 1024 * 1024
_MOST_UNREAD = 2000
_NO_SUBSCRIBERS = 0x10
_FAILURE = 0x80
_UNSUPPORTED_VERSION = {0x84, 0x01}

Token = tuple[int, int]
"""Which publication a `Delivered` speaks of: connection and message id."""
Handle = tuple[int, int, int]
"""What `acknowledge` needs: connection, message id, QoS."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to send."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str | None = None
    expiry_s: int | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker let us in; it takes this many unacknowledged messages at a time."""

    receive_maximum: int
    version: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker granted every subscription; from now on nothing that it has for us is missed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker said no, to the connection or to a subscription."""

    reason: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, or did not come about; another attempt follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker answered a publication (PUBACK); `ok` means no more than that it has it in memory."""

    token: Token
    ok: bool
    no_subscribers: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message came in."""

    topic: str
    payload: bytes
    retain: bool
    handle: Handle


Notice = Connected | Subscribed | Refused | Disconnected | Delivered | Received


class Link:
    """A connection that is always being made again. Belongs to one thread; a context manager.

    Args:
        address: Of the broker.
        client_id: The same each time: the broker keeps the session under it.
        will: What the broker says for us when we are gone.
        subscriptions: Topic filters, each with QoS 1.
        session_expiry_s: How long the broker keeps the session (MQTT 5).
        manual_ack: Incoming messages stay with the broker until `acknowledge`.
        deliveries: Whether `Delivered` tells of each publication.
        receive_maximum: How many messages the broker may send that nobody has acknowledged (MQTT 5).
        rng: For the waits between attempts.
    """

    def __init__(  # noqa: PLR0913 - a keyword for each thing that a session may want
        self,
        address: Address,
        *,
        client_id: str,
        will: Publication | None = None,
        subscriptions: tuple[str, ...] = (),
        session_expiry_s: int = 0,
        manual_ack: bool = False,
        deliveries: bool = True,
        receive_maximum: int = _DEFAULT_RECEIVE_MAXIMUM,
        rng: random.Random | None = None,
    ) -> None:
        self.notices: SimpleQueue[Notice] = SimpleQueue()
        self._address, self._client_id, self._will = address, client_id, will
        self._subscriptions, self._session_expiry_s = subscriptions, session_expiry_s
        self._manual_ack, self._deliveries = manual_ack, deliveries
        self._receive_maximum = receive_maximum
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._version = paho.MQTTv5
        self._generation = 0
        self._client: paho.Client | None = None
        self._open = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def publish(self, publication: Publication) -> Token | None:
        """Hand a message to the broker with QoS 1; None while there is no connection."""
        client, generation = self._client, self._generation
        if client is None or not self._open:
            return None
        topic, payload, retain = publication.topic, publication.payload, publication.retain
        properties = self._publish_properties(publication)
        info = client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return (generation, info.mid) if info.rc == paho.MQTT_ERR_SUCCESS else None

    def acknowledge(self, handle: Handle) -> None:
        """Tell the broker that a message of this connection has been dealt with."""
        client = self._client
        if client is not None and handle[0] == self._generation:
            client.ack(handle[1], handle[2])

    def close(self, goodbye: Publication | None = None) -> None:
        """Say goodbye, wait until the broker has it, and leave."""
        if self._ended.is_set() or not self._thread.ident:
            return
        client = self._client
        if client is not None and self._open and goodbye is not None:
            info = client.publish(goodbye.topic, goodbye.payload, qos=1, retain=goodbye.retain)
            with contextlib.suppress(RuntimeError, ValueError):  # the connection went away meanwhile
                info.wait_for_publish(_GOODBYE_S)
        self._ended.set()
        if client is not None:
            client.disconnect()
        self._thread.join(timeout=2 * _CONNECT_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.check()
        self.start()
        return self

    def start(self) -> None:
        """Begin to connect, and go on until closed; harmless when called twice."""
        if not self._thread.ident:
            self._thread.start()

    def check(self) -> None:
        """See whether this can be a connection at all; once it runs, certificates may be in exchange.

        Raises:
            ConfigError: Certificates cannot be read.
        """
        self._made(_Meeting(0))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # Vanish as the dead do.
            self._ended.set()
            self.hang_up()
            return
        self.close()

    def go_over(self, address: Address) -> None:
        """Leave politely, without our will, and come again to an address, or with another certificate."""
        self._address = address
        client = self._client
        if client is not None:
            client.disconnect()

    def hang_up(self) -> None:
        """End a connection that nobody answers on; another is made. The broker says our will."""
        client = self._client
        channel = None if client is None else client.socket()
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined] # paho types it narrowly

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            welcome = self._connection()
            failures = 0 if welcome else failures + 1
            ceiling = min(_FIRST_WAIT_S * 2**failures, _LONGEST_WAIT_S)
            self._ended.wait(self._rng.uniform(0, ceiling))

    def _connection(self) -> bool:
        """Hold one connection from its beginning to its end; return whether the broker let us in."""
        self._generation += 1
        met = _Meeting(self._generation)
        try:
            client = self._made(met)
            client.connect(self._address.host, self._address.port, _KEEPALIVE_S, **self._connect_options())
        except (OSError, ValueError, ConfigError) as exc:
            met.reason = str(exc)
        else:
            met.reached = True
            self._client = client
            # In paho's own thread: only then does publishing from another one go through its queue.
            client.loop_start()
            if met.answer.wait(_CONNECT_TIMEOUT_S):
                while not met.end.wait(1.0):
                    # A packet that paho cannot read ends its thread without a word.
                    if not self._pumping():
                        met.reason = "the connection's thread ended"
                        break
            else:
                met.reason = "no answer to our greeting"
            self._open = False
            client.disconnect()
            client.loop_stop()
        self._client = None
        self.notices.put(Disconnected(met.reason or "the broker closed the connection"))
        # A broker that knows no version 5 says so, or just hangs up. Each new meeting begins with 5.
        silent = met.reached and (met.hung_up or not met.answer.is_set())
        older = not met.welcome and (met.unsupported or silent)
        self._version = paho.MQTTv311 if older and self._version == paho.MQTTv5 else paho.MQTTv5
        return met.welcome

    def _pumping(self) -> bool:
        name = f"paho-mqtt-client-{self._client_id}"
        return any(thread.name == name for thread in threading.enumerate())

    def _made(self, met: "_Meeting") -> paho.Client:
        options: dict[str, Any] = (
            {} if self._version == paho.MQTTv5 else {"clean_session": self._session_expiry_s == 0}
        )
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=self._manual_ack,
            userdata=met,
            **options,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        if self._address.username is not None:
            client.username_pw_set(self._address.username, self._address.password)
        if self._address.encrypted:
            _tls(client, self._address.tls)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=self._will.retain)
        client.on_socket_open = _at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish if self._deliveries else None
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    # Every callback puts a notice into the queue, and nothing more; paho hands the meeting back.

    def _on_connect(
        self, client: paho.Client, met: "_Meeting", _flags: object, code: ReasonCode, properties: object
    ) -> None:
        met.answer.set()
        if code.is_failure:
            met.reason = str(code)
            met.unsupported = code.value in _UNSUPPORTED_VERSION
            if not met.unsupported:
                self.notices.put(Refused(str(code)))
            client.disconnect()
            return
        met.welcome = True
        if self._subscriptions:
            client.subscribe([(name, 1) for name in self._subscriptions])
        self._open = True
        maximum = getattr(properties, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM)
        self.notices.put(Connected(int(maximum), "5" if self._version == paho.MQTTv5 else "3.1.1"))

    def _on_disconnect(
        self, _client: paho.Client, met: "_Meeting", _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        self._open = False
        met.reason = met.reason or str(code)
        # Also where it hung up instead of answering.
        met.hung_up = not met.answer.is_set()
        met.answer.set()
        met.end.set()

    def _on_publish(
        self, _client: paho.Client, met: "_Meeting", mid: int, code: ReasonCode, _properties: object
    ) -> None:
        token = (met.generation, mid)
        self.notices.put(Delivered(token, code.value < _FAILURE, code.value == _NO_SUBSCRIBERS, str(code)))

    def _on_message(self, _client: paho.Client, met: "_Meeting", message: paho.MQTTMessage) -> None:
        handle = (met.generation, message.mid, message.qos)
        # Where we acknowledge by hand the broker waits for us; else a flood must not fill the memory.
        if not self._manual_ack and self.notices.qsize() > _MOST_UNREAD:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.warning("a message with a topic that is no UTF-8 was left out")
            return
        self.notices.put(Received(topic, bytes(message.payload), message.retain, handle))

    def _on_subscribe(
        self, _client: paho.Client, _met: "_Meeting", _mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        answers = zip(self._subscriptions, codes, strict=False)
        refused = [Refused(f"subscription to {name}: {code}") for name, code in answers if code.is_failure]
        for notice in refused or (Subscribed(),):
            self.notices.put(notice)

    def _connect_options(self) -> dict[str, Any]:
        if self._version != paho.MQTTv5:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_expiry_s
        properties.MaximumPacketSize = _LARGEST_BYTES
        properties.ReceiveMaximum = self._receive_maximum
        return {"clean_start": self._session_expiry_s == 0, "properties": properties}

    def _publish_properties(self, publication: Publication) -> Properties | None:
        # paho takes longer to make these than to send a message.
        plain = publication.content_type is None and publication.expiry_s is None
        if plain or self._version != paho.MQTTv5:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if publication.content_type is not None:
            properties.ContentType = publication.content_type
        if publication.expiry_s is not None:
            properties.MessageExpiryInterval = publication.expiry_s
        return properties


@dataclass(slots=True)
class _Meeting:
    """What became of one attempt."""

    generation: int
    reached: bool = False
    hung_up: bool = False
    welcome: bool = False
    unsupported: bool = False
    reason: str = ""
    answer: threading.Event = field(default_factory=threading.Event)
    end: threading.Event = field(default_factory=threading.Event)


def _at_once(_client: paho.Client, _met: object, channel: Any) -> None:  # noqa: ANN401 - paho's own
    """Send small packets as they come: two in a row would wait for the other side's 40 ms (Nagle 1984)."""
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tls(client: paho.Client, tls: config.Tls | None) -> None:
    try:
        client.tls_set(*(() if tls is None else (str(tls.ca), str(tls.certificate), str(tls.key))))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"Expected: certificates for the broker. Received: {exc}.") from exc
