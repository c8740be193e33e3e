"""Home Assistant's MQTT discovery: one retained message that describes the whole device. Pure.

What Home Assistant shows is read from the retained `state` and `health` with the templates below:
nothing is published for it besides this message.

- A sensor for each product: ok, low or out; `filled`, `facings`, `since` and the rest as attributes.
- A binary sensor: the camera has a problem; which, as an attribute.
- Two diagnostic sensors: events that wait for the recorder, and the age of the last picture.

A template that finds nothing says `None`, which Home Assistant shows as "unknown": a product is not
in `state` before it has been judged, and the last will carries the status alone.
"""

import hashlib
import json
import re

from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.events import StockLevel
from edge_agent.contracts.messages import Availability
from edge_agent.contracts.planogram import Planogram, Product
from edge_agent.contracts.topics import DeviceTopics

JsonObject = dict[str, object]

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_DIGEST_LENGTH = 8
_ONLINE, _OFFLINE = Availability.ONLINE.value, Availability.OFFLINE.value


def heard(device: str) -> bool:
    """Return whether Home Assistant listens on a topic with this name in it."""
    return _ID.fullmatch(device) is not None


def topic(device: str) -> str:
    """Return where the message of a device that is `heard` belongs; to be retained there."""
    return f"homeassistant/device/{device}/config"


def message(device: DeviceConfig, shelf: Planogram, topics: DeviceTopics, *, version: str) -> bytes:
    """Return the message as it goes over the wire."""
    value = document(device, shelf, topics, version=version)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def document(device: DeviceConfig, shelf: Planogram, topics: DeviceTopics, *, version: str) -> JsonObject:
    """Return the message as an object.

    Args:
        device: Its id becomes part of every id.
        shelf: Its products become sensors.
        topics: Where the device retains state and health.
        version: Of this software.
    """
    components = {
        **{f"product-{_id(product.label)}": _product(product, topics) for product in shelf.products},
        "camera-problem": _camera(topics),
        "outbox-depth": _outbox(topics),
        "picture-age": _age(topics),
    }
    owner = f"shelfkit-{_id(device.device)}"
    return {
        "device": {
            "identifiers": [owner],
            "name": f"Shelf {shelf.shelf}",
            "manufacturer": "shelfkit",
            "model": "Shelf camera",
            "serial_number": device.device,
            "sw_version": version,
        },
        "origin": {"name": "shelfkit", "sw_version": version},
        "availability": [_availability(topics)],
        "qos": 1,
        "components": {key: {**value, "unique_id": f"{owner}-{key}"} for key, value in components.items()},
    }


def _availability(topics: DeviceTopics) -> JsonObject:
    # "stopped" must be turned into "offline": a word that it does not know, Home Assistant ignores.
    test = f"value_json.status == '{_ONLINE}'"
    return {
        "topic": topics.health,
        "value_template": f"{{{{ '{_ONLINE}' if {test} else '{_OFFLINE}' }}}}",
        "payload_available": _ONLINE,
        "payload_not_available": _OFFLINE,
    }


def _product(product: Product, topics: DeviceTopics) -> JsonObject:
    # JSON's way to write a text is also Jinja's, unless it escapes what is not ASCII.
    label = json.dumps(product.label, ensure_ascii=False)
    found = f"(value_json.products | selectattr('label', 'eq', {label}) | first | default({{}}))"
    return {
        "platform": "sensor",
        "name": product.name,
        "device_class": "enum",
        "options": [level.value for level in StockLevel],
        "state_topic": topics.state,
        "value_template": f"{{{{ {found}.state | default('None') }}}}",
        "json_attributes_topic": topics.state,
        "json_attributes_template": f"{{{{ {found} | tojson }}}}",
    }


def _camera(topics: DeviceTopics) -> JsonObject:
    return {
        "platform": "binary_sensor",
        "name": "Camera",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "state_topic": topics.state,
        "value_template": "{{ 'ON' if value_json.camera.faults else 'OFF' }}",
        "payload_on": "ON",
        "payload_off": "OFF",
        "json_attributes_topic": topics.state,
        "json_attributes_template": "{{ value_json.camera | tojson }}",
    }


def _outbox(topics: DeviceTopics) -> JsonObject:
    return {
        "platform": "sensor",
        "name": "Events waiting",
        "entity_category": "diagnostic",
        "state_class": "measurement",
        "unit_of_measurement": "events",
        "state_topic": topics.health,
        "value_template": "{{ value_json.outbox_depth | default('None') }}",
    }


def _age(topics: DeviceTopics) -> JsonObject:
    return {
        "platform": "sensor",
        "name": "Age of the last picture",
        "device_class": "duration",
        "entity_category": "diagnostic",
        "state_class": "measurement",
        "unit_of_measurement": "s",
        "state_topic": topics.health,
        "value_template": "{{ value_json.camera_age_s | default('None') }}",
    }


def _id(text: str) -> str:
    """Return a text as an id of Home Assistant; a digest keeps apart what reads the same after that."""
    if _ID.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{re.sub(r'[^a-zA-Z0-9_-]+', '_', text)}-{digest}"
