"""The same store as containers: what `compose.yaml` and the recipe of the one image say."""

import io

from ruamel.yaml import YAML

from deploy.store.plan import StorePlan

IMAGE = "Containerfile"
_BROKER_ID, _RECORDER_ID = "1883:1883", "1884:1884"
_MOSQUITTO = "/usr/sbin/mosquitto"
# Where container engines make networks: a proxy on this machine asks from the gateway of one.
_GATEWAYS = ("172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8")
_HEAD = """\
# Written by `shelfkit deploy store`. Keys belong to the users of the containers:
#   chown -R 1883:1883 broker && chown -R 1884:1884 recorder
# Recorder and live page are one process. The page is on this machine alone; put a reverse proxy in front.
"""


def compose(plan: StorePlan) -> str:
    """Return `compose.yaml`."""
    # The configuration names whole paths: they are the same inside.
    broker, recorder = str(plan.broker), str(plan.recorder)
    aliases = {"aliases": [plan.host]} if plan.named else {}
    value = {
        "name": f"shelfkit-{plan.store}".lower().replace(".", "-"),
        "services": {
            "broker": {
                **_service(_BROKER_ID, "256m"),
                "command": [_MOSQUITTO, "-c", f"{broker}/mosquitto.conf"],
                "ports": [f"{plan.port}:{plan.port}"],
                "volumes": [f"./broker:{broker}:ro", f"./broker/data:{broker}/data"],
                "networks": {"store": aliases},
            },
            "dashboard": {
                **_service(_RECORDER_ID, "1g"),
                "depends_on": ["broker"],
                "command": [
                    *plan.dashboard("shelfkit", "0.0.0.0"),  # noqa: S104 - of a container; published on loopback
                    *(word for network in _GATEWAYS for word in ("--trusted-proxy", network)),
                ],
                "ports": [f"127.0.0.1:{plan.page_port}:{plan.page_port}"],
                "volumes": [f"./recorder:{recorder}:ro", f"./recorder/data:{recorder}/data"],
                "networks": {"store": {}},
            },
        },
        "networks": {"store": {}},
    }
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 110
    yaml.dump(value, text)
    return _HEAD + text.getvalue()


def _service(user: str, memory: str) -> dict[str, object]:
    return {
        "build": {"context": ".", "dockerfile": IMAGE},
        "image": "shelfkit-store",
        "user": user,
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - of a container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": memory,
        "pids_limit": 256,
    }


def image() -> str:
    """Return the recipe of the image: Debian's mosquitto, and the kit from a wheel that lies beside it."""
    return (
        "FROM debian:12-slim\n"
        "RUN apt-get update \\\n"
        "    && apt-get install --yes --no-install-recommends mosquitto python3-venv libglib2.0-0 \\\n"
        "    && rm -rf /var/lib/apt/lists/*\n"
        "# The wheel of shelfkit: `python -m build --wheel`, or a released one.\n"
        "COPY shelfkit-*.whl /tmp/\n"
        "RUN python3 -m venv /opt/shelfkit \\\n"
        '    && /opt/shelfkit/bin/pip install --no-cache-dir "$(echo /tmp/shelfkit-*.whl)[dashboard]" \\\n'
        "    && rm /tmp/shelfkit-*.whl\n"
        "ENV PATH=/opt/shelfkit/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp\n"
    )
