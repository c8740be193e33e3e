"""Everything of a device that systemd reads: its units, the user, the folders, the machine's watchdog.

Used where devices are made: images and pushed machines get the same texts. The agent's unit is hardened with
the very lines of `shelfkit-agent@.service`.
"""

from dataclasses import dataclass
from importlib.resources import files

LAUNCHED = "shelfkit-agent-launched.service"
UPDATER = "shelfkit-updater.service"
PROVISION = "shelfkit-provision.service"
OFFERED = ("[dD][eE]*", "[pP][lL]*", "[rR][eE]*", "[rR][oO]*", "[cC][aA]*", ".tmp-*")
"""What `agent provision` has to look at on a boot partition; FAT has names in either case."""
_FROM, _TO = "# Frames never leave the device", "[Install]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """How a device is laid out.

    Attributes:
        user: Who runs the agent.
        releases: Where releases and everything else that changes are.
        program: Where launcher and updater are, which no release replaces.
        python: The system's.
        boot: Where the boot partition is, on which a device is told who it is.
        console: Also write what the agent says onto the console.
        watchdog_s: Of the machine's own watchdog; None: it has none, or is not ours to set.
        jitter_s: Where an update has no window, devices begin within this time.
    """

    user: str = "shelfkit"
    releases: str = "/data/shelf"
    program: str = "/opt/shelf"
    python: str = "/usr/bin/python3"
    boot: str = "/boot"
    console: bool = False
    watchdog_s: int | None = 14
    jitter_s: int = 60

    @property
    def config(self) -> str:
        """Where `device.yaml` is."""
        return f"{self.releases}/device/device.yaml"

    @property
    def update(self) -> str:
        """The words that start launcher and updater."""
        return f"{self.python} -P -m edge_agent.update"


def launched(device: Device) -> str:
    """Return the unit of the agent that the launcher starts.

    Started again after 3 s, for ever: two charged starts of a bad release pass quickly, and a store must
    never need a visit.
    """
    return f"""\
# The agent of the release that holds, or is on trial: the launcher chooses it, and becomes it.

[Unit]
Description=shelfkit agent, release by release
# Not network-online: the agent works without a network, and keeps its events.
After=local-fs.target network.target time-set.target {PROVISION}
RequiresMountsFor={device.releases}
ConditionPathExists={device.config}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
{_environment(device)}
ExecStart={device.update} launch run --config {device.config}
# How it ended decides about a release on trial.
ExecStopPost={device.update} ended
EnvironmentFile=-{device.releases}/device/environment
# A watchdog that strikes leaves the stack of every thread in the journal.
Environment=PYTHONFAULTHANDLER=1
{_output(device)}
# The agent pings after each frame, from the loop that judges frames.
WatchdogSec=60
# Until the agent has loaded its libraries: minutes on a slow card, or where a program imitates the processor.
# It asks for more time after each step from there on. Two starts that hang end before the updater's patience.
TimeoutStartSec=300
TimeoutStopSec=20
Restart=always
RestartSec=3

User={device.user}
Group={device.user}
SupplementaryGroups=video
UMask=0077
ReadWritePaths={device.releases}/state {device.releases}/exchange {device.releases}/launcher
# A planogram that is sent, and a certificate that is renewed, stay here.
ReadWritePaths={device.releases}/device

{_hardening()}
[Install]
WantedBy=multi-user.target
"""


def updater(device: Device) -> str:
    """Return the unit of the updater."""
    return f"""\
# Brings releases onto the device, tries them, and takes them back: the only one who writes there.

[Unit]
Description=shelfkit updater
After=local-fs.target network.target time-set.target {PROVISION}
RequiresMountsFor={device.releases}
StartLimitIntervalSec=0

[Service]
Type=exec
{_environment(device)}
ExecStart={device.update} update --jitter {device.jitter_s}
{_output(device)}
Restart=always
RestartSec=5
UMask=0022

LimitCORE=0
MemoryMax=384M
# A release is unpacked beside the agent, which must not lose a frame by it.
Nice=10
IOSchedulingClass=idle
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={device.releases}
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectClock=yes
PrivateDevices=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
# It reads what the agent's user has written, and removes it.
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_CHOWN

[Install]
WantedBy=multi-user.target
"""


def provision(device: Device) -> str:
    """Return the unit of the first boot: what the boot partition says is validated whole, and applied."""
    offered = "\n".join(f"ConditionPathExistsGlob=|{device.boot}/{name}" for name in OFFERED)
    return f"""\
# What a device is told at its first boot, or when somebody has put another file onto the boot partition.

[Unit]
Description=shelfkit provisioning
After=local-fs.target systemd-tmpfiles-setup.service
Before={LAUNCHED} {UPDATER}
RequiresMountsFor={device.releases}
# There is nothing to do at most boots, and no time to lose with finding that out.
ConditionPathExists=|!{device.config}
ConditionPathExistsGlob=|{device.releases}/.device-*
{offered}

[Service]
Type=oneshot
RemainAfterExit=yes
{_environment(device)}
ExecStart={device.update} agent provision --boot {device.boot} --data {device.releases} --user {device.user}
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=600
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def user(device: Device) -> str:
    """Return who the agent is, for systemd-sysusers."""
    return f'u {device.user} - "shelfkit agent" {device.releases}\nm {device.user} video\n'


def folders(device: Device) -> str:
    """Return the folders of a device, for systemd-tmpfiles.

    In `exchange` updater and agent write side by side, and neither can take the place of the other's files.
    """
    name, root = device.user, device.releases
    return f"""\
d {root} 0755 root root
d {root}/releases 0755 root root
d {root}/runtimes 0755 root root
d {root}/metadata 0755 root root
d {root}/exchange 1775 root {name}
d {root}/launcher 0755 {name} {name}
d {root}/state 0700 {name} {name}
d {root}/device 0700 {name} {name}
"""


def machine_watchdog(device: Device) -> str:
    """Return the drop-in that lets the machine's own watchdog end a kernel that hangs."""
    return f"[Manager]\nRuntimeWatchdogSec={device.watchdog_s}\n"


def texts(device: Device) -> dict[str, str]:
    """Return every file by its path below the root of the device's file system."""
    found = {
        f"etc/systemd/system/{LAUNCHED}": launched(device),
        f"etc/systemd/system/{UPDATER}": updater(device),
        f"etc/systemd/system/{PROVISION}": provision(device),
        "usr/lib/sysusers.d/shelfkit.conf": user(device),
        "usr/lib/tmpfiles.d/shelfkit.conf": folders(device),
    }
    if device.watchdog_s is not None:
        found["etc/systemd/system.conf.d/shelfkit.conf"] = machine_watchdog(device)
    return found


def _environment(device: Device) -> str:
    return f"Environment=PYTHONPATH={device.program} SHELFKIT_RELEASES={device.releases}"


def _output(device: Device) -> str:
    if not device.console:
        return ""
    return "StandardOutput=journal+console\nStandardError=journal+console\n"


def _hardening() -> str:
    text = files("edge_agent").joinpath("units", "shelfkit-agent@.service").read_text(encoding="utf-8")
    return text[text.index(_FROM) : text.index(_TO)]
