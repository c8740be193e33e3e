"""What other systems read of the contract: AsyncAPI, JSON Schemas, and the recipe for Node-RED."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dashboard.alerts import causes
from edge_agent.contracts.events import Kind
from edge_agent.contracts.topics import parse
from edge_agent.mqtt import Publication
from tests.brokers import Mosquitto, received, subscribed
from tests.conftest import missing

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
ASYNCAPI = ROOT / "docs" / "reference" / "asyncapi.json"
FLOW = ROOT / "docs" / "guides" / "node-red-flow.json"
PARSER, NODE_RED = "@asyncapi/parser@3.6.6", "node-red@4"
_READ = """
const { Parser } = require("@asyncapi/parser");
const text = require("fs").readFileSync(process.argv[1], "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => console.log(JSON.stringify({
    channels: document ? document.channels().all().map((item) => item.address()) : [],
    errors: diagnostics.filter((item) => item.severity === 0),
})));
"""


def document() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(ASYNCAPI.read_bytes())
    return value


def payloads() -> dict[str, dict[str, Any]]:
    return {name: item["payload"] for name, item in document()["components"]["messages"].items()}


def installed(package: str) -> Path:
    """Return a folder in which a package of npm is installed; it is kept between runs."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        missing("node with npm", "install it, for example: apt install npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "shelfkit-tests" / re.sub(r"\W", "-", package)
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(npm),
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
        ]
        done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            missing(package, f"npm says: {done.stderr[-300:]}")
        (folder / "installed").touch()
    return folder


@pytest.mark.slow
def test_asyncapis_own_parser_has_nothing_against_it() -> None:
    folder = installed(PARSER)
    done = subprocess.run(
        ["node", "-e", _READ, str(ASYNCAPI)], cwd=folder, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["errors"] == []
    assert sorted(said["channels"]) == sorted(item["address"] for item in document()["channels"].values())


def test_every_schema_is_one_and_every_topic_is_of_the_contract() -> None:
    for name, schema in payloads().items():
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "$ref" not in json.dumps(schema), name
    for channel in document()["channels"].values():
        assert parse(channel["address"]) is not None
    assert {f"event-{kind.value}" for kind in Kind} <= set(document()["channels"])
    assert {f"alert-{kind.value}" for kind in causes.Kind} <= set(document()["channels"])


@pytest.mark.parametrize(
    "name",
    [*(f"event-{kind.value}" for kind in Kind), "ack", "health", "state", "reply", "alert-out-of-stock"],
)
def test_golden_messages_are_what_the_schemas_say(name: str) -> None:
    validator = jsonschema.Draft202012Validator(payloads()[name])
    value = json.loads((GOLDEN / f"{name}.v1.json").read_bytes())
    validator.validate(value)
    required = payloads()[name]["required"]
    assert required
    for each in required:
        assert not validator.is_valid({key: item for key, item in value.items() if key != each})


def flow() -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in json.loads(FLOW.read_bytes())}


def test_the_node_red_flow_hangs_together() -> None:
    nodes = flow()
    for node in nodes.values():
        for wire in (wire for port in node.get("wires", []) for wire in port):
            assert wire in nodes
        for reference in ("z", "broker"):
            if reference in node and node["type"] != "mqtt-broker":
                assert node[reference] in nodes
    (choice,) = [node for node in nodes.values() if node["type"] == "switch"]
    assert {rule["v"] for rule in choice["rules"]} == {Kind.LOW_STOCK.type, Kind.OUT_OF_STOCK.type}
    (source,) = [node for node in nodes.values() if node["type"] == "mqtt in"]
    assert source["topic"] == "shelfkit/v1/+/+/event/+"


@pytest.mark.slow
def test_the_node_red_flow_in_node_red(mosquitto: Mosquitto, tmp_path: Path) -> None:
    folder = installed(NODE_RED)
    nodes = flow()
    (broker,) = [node for node in nodes.values() if node["type"] == "mqtt-broker"]
    broker["port"] = str(mosquitto.port)
    (tmp_path / "flow.json").write_text(json.dumps(list(nodes.values())))
    program = folder / "node_modules" / "node-red" / "red.js"
    settings = tmp_path / "settings.js"
    settings.write_text(
        'module.exports = { uiPort: 0, uiHost: "127.0.0.1", telemetry: { enabled: false } };\n'
    )
    command = ["node", str(program), "--userDir", str(tmp_path), "--settings", str(settings)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, str(tmp_path / "flow.json")], stdout=log, stderr=log)
    try:
        with subscribed(mosquitto.address, "refill/+") as link:
            end = time.monotonic() + 60
            while "Connected to broker" not in (tmp_path / "log").read_text():
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.2)
            time.sleep(1)  # it subscribes after it has said so
            for kind in (Kind.RESTOCKED, Kind.LOW_STOCK, Kind.LOW_STOCK, Kind.OUT_OF_STOCK):
                payload = (GOLDEN / f"event-{kind.value}.v1.json").read_bytes()
                link.publish(Publication(f"shelfkit/v1/0417/cam-12-01/event/{kind.value}", payload))
            said = [item.payload.decode() for item in received(link, 2)]
    finally:
        process.kill()
        process.wait()
    assert said == [f"shelf 12: Milk 1 l, {left} of 4 facings" for left in (1, 0)]
