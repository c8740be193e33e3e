"""Home Assistant's discovery: a valid message, and templates that read what the agent really retains."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent import discovery
from edge_agent.contracts import messages
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.events import CameraFault, Message, StockLevel
from edge_agent.contracts.messages import Availability, Health, ProductState, State
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.topics import DeviceTopics
from tests import strategies

GOLDEN = Path(__file__).parent.parent / "golden"
TOPICS = DeviceTopics("0417", "cam-12-01")
STATE = messages.decode(State, (GOLDEN / "state.v1.json").read_bytes())
HEALTH = messages.decode(Health, (GOLDEN / "health.v1.json").read_bytes())

TEMPLATE = {"type": "string", "pattern": r"^\{\{ .+ \}\}$"}
COMPONENT = {
    "type": "object",
    "required": ["platform", "unique_id", "name", "state_topic", "value_template"],
    "properties": {
        "platform": {"enum": ["sensor", "binary_sensor"]},
        "unique_id": {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"},
        "name": {"type": "string", "minLength": 1},
        "state_topic": {"enum": [TOPICS.state, TOPICS.health]},
        "value_template": TEMPLATE,
        "json_attributes_topic": {"const": TOPICS.state},
        "json_attributes_template": TEMPLATE,
        "device_class": {"enum": ["enum", "problem", "duration"]},
        "entity_category": {"const": "diagnostic"},
        "state_class": {"const": "measurement"},
        "unit_of_measurement": {"type": "string"},
        "options": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "payload_on": {"type": "string"},
        "payload_off": {"type": "string"},
    },
    "additionalProperties": False,
    # A list of options goes with the class "enum" alone, and never with a unit or a class of numbers.
    "if": {"required": ["options"]},
    "then": {
        "properties": {"device_class": {"const": "enum"}, "state_class": False, "unit_of_measurement": False}
    },
}
MESSAGE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["device", "origin", "components"],
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers", "name"],
            "properties": {"identifiers": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
        },
        "origin": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        "availability": {"type": "array", "minItems": 1, "items": {"required": ["topic", "value_template"]}},
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-zA-Z0-9_-]+$"},
            "additionalProperties": COMPONENT,
        },
    },
    "additionalProperties": False,
}
"""What Home Assistant's documentation asks of a device's discovery message, as far as the kit uses it."""


def config(device: str = "cam-12-01") -> DeviceConfig:
    return DeviceConfig.model_validate(
        {
            "device": device,
            "store": "0417",
            "state_dir": "state",
            "bundle": "bundle",
            "camera": {"source": "shelf:seed=7"},
            "planogram": "planogram.yaml",
            "broker": {"host": "localhost"},
            "home_assistant": True,
        }
    )


def shelf(*labels: str) -> Planogram:
    quad = [[0, 0], [10, 0], [10, 10], [0, 10]]
    products = [{"label": label, "name": f"Product {label}"} for label in labels]
    slots = [{"id": f"A{n}", "quad": quad, "product": label} for n, label in enumerate(labels)]
    return Planogram.model_validate(
        {"shelf": "12", "reference": "reference.jpg", "products": products, "slots": slots}
    )


def components(*labels: str) -> dict[str, Any]:
    value = discovery.document(config(), shelf(*labels), TOPICS, version="0.1.0")
    found = value["components"]
    assert isinstance(found, dict)
    return found


def rendered(template: str, message: Message) -> str:
    """Render a template as Home Assistant does: sandboxed, with the decoded payload as `value_json`."""
    payload = json.loads(messages.encode(message))
    return ImmutableSandboxedEnvironment().from_string(template).render(value_json=payload)


def with_product(label: str, level: StockLevel, filled: int) -> State:
    product = ProductState(label=label, name="P", facings=4, filled=filled, state=level)
    return STATE.model_copy(update={"products": [*STATE.products, product]})


def test_the_message_is_what_home_assistant_asks_for() -> None:
    message = discovery.message(config(), shelf("milk-1l", "tea"), TOPICS, version="0.1.0")
    jsonschema.Draft202012Validator.check_schema(MESSAGE)
    jsonschema.Draft202012Validator(MESSAGE).validate(json.loads(message))


def test_the_golden_message_keeps_its_bytes() -> None:
    message = discovery.message(config(), shelf("milk-1l", "tea"), TOPICS, version="0.1.0")
    assert message == (GOLDEN / "home-assistant-discovery.v1.json").read_bytes().strip()


def test_it_is_where_home_assistant_and_the_access_list_expect_it() -> None:
    assert discovery.topic("cam-12_01") == "homeassistant/device/cam-12_01/config"


@pytest.mark.parametrize("device", ["cam.12", "cäm", "cam 1", ""])
def test_a_name_that_home_assistant_ignores_is_told(device: str) -> None:
    assert not discovery.heard(device)
    assert discovery.heard("cam-12_01")


@given(st.lists(strategies.texts, min_size=1, max_size=5, unique=True), st.sampled_from(StockLevel))
def test_a_sensor_finds_its_product_whatever_its_label_is(labels: list[str], level: StockLevel) -> None:
    found = components(*labels)
    products = [value for key, value in found.items() if key.startswith("product-")]
    assert len(products) == len({value["unique_id"] for value in products}) == len(labels)
    for label, sensor in zip(labels, products, strict=True):
        state = with_product(label, level, 2)
        assert rendered(sensor["value_template"], state) == level.value
        attributes = json.loads(rendered(sensor["json_attributes_template"], state))
        assert attributes == {"label": label, "name": "P", "facings": 4, "filled": 2, "state": level.value}


@pytest.mark.parametrize(
    "label", ['it\'s "new"', "a\\b", "{{ 7 * 7 }}", "}}", "{% raw %}", "{# no #}", "😀", "\u2028", "None"]
)
def test_a_label_is_never_read_as_a_template(label: str) -> None:
    sensor = next(iter(components(label).values()))
    assert rendered(sensor["value_template"], with_product(label, StockLevel.LOW, 1)) == "low"
    assert rendered(sensor["value_template"], STATE) == "None"
    assert re.fullmatch("[a-zA-Z0-9_-]+", sensor["unique_id"])


def test_a_product_that_was_not_judged_yet_is_unknown() -> None:
    sensor = components("tea")["product-tea"]
    for state in (STATE, STATE.model_copy(update={"products": []})):
        assert rendered(sensor["value_template"], state) == "None"
        assert json.loads(rendered(sensor["json_attributes_template"], state)) == {}


def test_every_level_is_an_option() -> None:
    assert components("tea")["product-tea"]["options"] == [level.value for level in StockLevel]


def test_labels_that_read_alike_stay_apart() -> None:
    keys = list(components("tea 1", "tea-1", "tea+1", "tea_1"))[:4]
    assert len({*keys}) == 4
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", key) for key in keys)


@pytest.mark.parametrize(
    ("faults", "shown"), [((), "OFF"), ((CameraFault.DARK,), "ON"), ((*CameraFault,), "ON")]
)
def test_the_camera_has_a_problem_while_a_fault_holds(faults: tuple[CameraFault, ...], shown: str) -> None:
    sensor = components("tea")["camera-problem"]
    state = STATE.model_copy(update={"camera": messages.CameraState(faults=faults)})
    assert rendered(sensor["value_template"], state) == shown
    attributes = json.loads(rendered(sensor["json_attributes_template"], state))
    assert attributes == {"faults": [fault.value for fault in faults]}


def test_health_is_shown_and_the_last_will_shows_nothing() -> None:
    found, will = components("tea"), Health(status=Availability.OFFLINE)
    for key, value in (("outbox-depth", "3"), ("picture-age", "0.4")):
        assert rendered(found[key]["value_template"], HEALTH) == value
        assert rendered(found[key]["value_template"], will) == "None"
    nothing_waits = HEALTH.model_copy(update={"outbox_depth": 0})
    assert rendered(found["outbox-depth"]["value_template"], nothing_waits) == "0"


@pytest.mark.parametrize("status", Availability)
def test_only_online_is_available(status: Availability) -> None:
    value: Any = discovery.document(config(), shelf("tea"), TOPICS, version="0.1.0")
    (availability,) = value["availability"]
    shown = rendered(availability["value_template"], Health(status=status))
    expected = "payload_available" if status is Availability.ONLINE else "payload_not_available"
    assert (availability["topic"], shown) == (TOPICS.health, availability[expected])


def test_devices_share_no_ids() -> None:
    both: list[Any] = [
        discovery.document(config(name), shelf("tea"), DeviceTopics("0417", name), version="0.1.0")
        for name in ("cam-1", "cam-2")
    ]
    ids = [item["unique_id"] for value in both for item in value["components"].values()]
    assert len(ids) == len(set(ids)) == 8
    assert both[0]["device"]["identifiers"] != both[1]["device"]["identifiers"]
