"""systemd units of a store, each with a user of its own that can write one folder and nothing else."""

from deploy.store.plan import BROKER_USER, RECORDER_USER, StorePlan

BROKER_UNIT, RECORDER_UNIT = "shelfkit-broker.service", "shelfkit-dashboard.service"
USERS = "shelfkit-store.conf"

_HARD = """\
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectClock=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
"""


def units(plan: StorePlan) -> dict[str, str]:
    """Return the files of systemd by name: two units, and the users that they run as."""
    return {
        BROKER_UNIT: _unit(
            f"shelfkit: MQTT broker of store {plan.store}",
            f"{plan.mosquitto} -c {plan.broker}/mosquitto.conf",
            BROKER_USER,
            str(plan.broker / "data"),
            memory="256M",
            more="# A broker that is told of revoked certificates is started again.\n",
        ),
        RECORDER_UNIT: _unit(
            f"shelfkit: recorder and live page of store {plan.store}",
            " ".join(plan.dashboard(plan.program, "127.0.0.1")),
            RECORDER_USER,
            str(plan.recorder / "data"),
            memory="1G",
            after=BROKER_UNIT,
        ),
        USERS: (
            "# /etc/sysusers.d: users of the store's services, who cannot log in.\n"
            f'u {BROKER_USER} - "shelfkit broker" {plan.broker}\n'
            f'u {RECORDER_USER} - "shelfkit recorder" {plan.recorder}\n'
        ),
    }


def _unit(
    about: str, start: str, user: str, writes: str, *, memory: str, after: str = "", more: str = ""
) -> str:
    wants = f"Wants={after}\n" if after else ""
    return (
        "# Written by `shelfkit deploy store`; change it with `systemctl edit`.\n"
        f"{more}\n"
        "[Unit]\n"
        f"Description={about}\n"
        f"{wants}"
        f"After=network.target time-set.target{' ' + after if after else ''}\n"
        "# Tried again for ever: a store must never need a visit.\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        f"ExecStart={start}\n"
        f"User={user}\n"
        f"Group={user}\n"
        "Restart=always\n"
        "RestartSec=3\n"
        f"ReadWritePaths={writes}\n"
        f"MemoryMax={memory}\n"
        "TasksMax=256\n"
        f"{_HARD}"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )
