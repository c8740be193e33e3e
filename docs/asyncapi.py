"""The AsyncAPI 3 document of everything on MQTT, made from topics and models of the contract."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from dashboard.alerts import causes, wire
from edge_agent.contracts import events, messages
from edge_agent.contracts.topics import DeviceTopics

Json = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_AT = DeviceTopics("{store}", "{device}")
_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic: what goes over it, and who says it."""

    address: str
    model: type[BaseModel]
    about: str
    retain: bool = False
    by_device: bool = True
    content_type: str = _JSON


CHANNELS: dict[str, Channel] = {
    **{
        f"event-{kind.value}": Channel(
            _AT.event(kind.value), events.Event, f"A {kind.about} event, `{kind.type}`.",
            content_type=events.CONTENT_TYPE,
        )
        for kind in events.Kind
    },
    "state": Channel(_AT.state, messages.State, "The latest snapshot.", retain=True),
    "health": Channel(_AT.health, messages.Health, "Health, and the last will.", retain=True),
    "ack": Channel(_AT.ack, messages.Ack, "What the recorder has.", retain=True, by_device=False),
    "command-set-planogram": Channel(
        _AT.command("set-planogram"), messages.SetPlanogram, "Use another planogram.", by_device=False
    ),
    "command-set-log-level": Channel(
        _AT.command("set-log-level"), messages.SetLogLevel, "Log more, or less.", by_device=False
    ),
    "command-snapshot": Channel(
        _AT.command("snapshot"), messages.TakeSnapshot, "Send the present picture.", by_device=False
    ),
    "command": Channel(_AT.command("{name}"), messages.Command, "Any other command.", by_device=False),
    "reply": Channel(_AT.reply("{name}"), messages.Reply, "The answer to a command."),
    "desired": Channel(
        _AT.desired, messages.Desired, "What a rollout wants.", retain=True, by_device=False
    ),
    "reported": Channel(_AT.reported, messages.Reported, "How far a device is with that.", retain=True),
    **{
        f"alert-{kind.value}": Channel(
            _AT.alert(kind.value), wire.AlertMessage, f"A rule of the dashboard found `{kind.value}`.",
            by_device=False, content_type=events.CONTENT_TYPE,
        )
        for kind in causes.Kind
    },
    "certificate-request": Channel(
        _AT.certificate_request, messages.CertificateRequest, "Asks for a new certificate."
    ),
    "certificate-response": Channel(
        _AT.certificate_response, messages.CertificateResponse, "What the CA answers.", by_device=False
    ),
}  # fmt: skip


def document() -> Json:
    """Return the document: seen from a device, which sends its own and receives the others'."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "shelfkit on MQTT",
            "version": "1",
            "description": "Events, snapshots, health and commands of every device, and alerts about it. "
            "Within version 1 fields and kinds are added, "
            "never taken away: keep what you do not know. What is sent, a device sends.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": {name: _channel(name, channel) for name, channel in CHANNELS.items()},
        "operations": {name: _operation(name, channel) for name, channel in CHANNELS.items()},
        "components": {"messages": {name: _message(name, channel) for name, channel in CHANNELS.items()}},
    }


def payload(channel: Channel) -> Json:
    """Return the JSON Schema 2020-12 of what goes over a channel, whole in itself."""
    return {"$schema": DRAFT, **_placed(channel.model.model_json_schema())}


def _placed(schema: Json) -> Json:
    """Return a schema in which no reference needs to know where in the document it stands."""
    defined = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(value, list):
            return [inlined(item) for item in value]
        if not isinstance(value, dict):
            return value
        name = value.get("$ref", "").removeprefix("#/$defs/") if isinstance(value.get("$ref"), str) else ""
        rest = {key: inlined(item) for key, item in value.items() if not name or key != "$ref"}
        return {**inlined(defined[name]), **rest} if name else rest

    placed: Json = inlined(schema)
    return placed


def _channel(name: str, channel: Channel) -> Json:
    names = [name for name in ("store", "device", "name") if f"{{{name}}}" in channel.address]
    return {
        "address": channel.address,
        "description": channel.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": {each: {"description": f"A whole level of the topic: `{_NAME}`."} for each in names},
    }


def _operation(name: str, channel: Channel) -> Json:
    return {
        "action": "send" if channel.by_device else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "bindings": {"mqtt": {"qos": 1, "retain": channel.retain, "bindingVersion": "0.2.0"}},
    }


def _message(name: str, channel: Channel) -> Json:
    return {
        "name": name,
        "summary": channel.about,
        "contentType": channel.content_type,
        "payload": payload(channel),
    }
