"""`shelfkit dashboard`: the recorder of record and the live page, in one process."""

import contextlib
import ipaddress
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from dashboard.accounts.command import app as user
from dashboard.accounts.gate import LOOPBACK, Access
from dashboard.accounts.records import Accounts
from dashboard.accounts.tables import beside
from dashboard.alerts import service
from dashboard.alerts.command import app as alerts_app
from dashboard.database_command import backup, forget, migrate, quarantine, restore, upkeep
from dashboard.labelling.command import app as labels
from dashboard.operator import Operator
from dashboard.places import files_beside
from dashboard.recorder import BATCH, Recorder
from dashboard.store import Store
from dashboard.upkeep import Policy, Upkeep, read_age
from dashboard.web import Hub, build_app
from edge_agent.contracts.address import Address, address_from_url
from edge_agent.contracts.command import DefaultCommandGroup, new_app, run_command
from edge_agent.contracts.config import Tls
from edge_agent.contracts.errors import ServiceError, UsageError
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.mqtt import Link

app = new_app(cls=DefaultCommandGroup)
app.add_typer(user, name="user")
app.add_typer(labels, name="labels")
app.add_typer(alerts_app, name="alerts")

_SESSION_S = 7 * 24 * 3600


@app.command("run")
def dashboard(  # noqa: PLR0913, PLR0917 - one parameter for each option
    broker: Annotated[str, typer.Option(help="mqtt://[user:password@]host[:port], mqtts:// for TLS.")],
    database: Annotated[
        str, typer.Option(help="sqlite:///FILE or postgresql://user:password@host/name.")
    ] = "sqlite:///shelfkit.sqlite",
    host: Annotated[str, typer.Option(help="Address of the page.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page.")] = 8080,
    ca: Annotated[Path | None, typer.Option(help="CA of the broker's certificate (mqtts).")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The recorder's own certificate (mqtts).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (mqtts).")] = None,
    stores: Annotated[
        str,
        typer.Option("--stores", "--store", help="Record these stores alone: 0417,0418; + is every store."),
    ] = "+",
    name: Annotated[
        str, typer.Option(help="MQTT client id: each recorder has its own, always the same.")
    ] = "svc-recorder",
    keep: Annotated[str, typer.Option(help="Age from which on events go: 400d, or forever.")] = "400d",
    keep_days: Annotated[str, typer.Option(help="The same for days that are rolled up.")] = "forever",
    no_login: Annotated[
        bool, typer.Option("--no-login", help="Ask for no log-in; on a loopback address alone.")
    ] = False,
    root_path: Annotated[str, typer.Option(help="Path under which a reverse proxy shows the page.")] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of reverse proxies that say truly who asks; more than one may be named.",
            show_default="127.0.0.1",
        ),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(
            help="Folder for drafts of planograms and pictures to label.", show_default="beside the database"
        ),
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option(
            help="The broker as one who may command devices: mqtt://[user:password@]host[:port], mqtts://.",
            show_default="pages send no commands",
        ),
    ] = None,
    operator_certificate: Annotated[
        Path | None, typer.Option(help="The operator's certificate (mqtts).")
    ] = None,
    operator_key: Annotated[Path | None, typer.Option(help="Its key (mqtts).")] = None,
    alerts: Annotated[
        Path | None, typer.Option(help="Whom to tell of what: an alerts.yaml.", show_default="nobody")
    ] = None,
) -> None:
    """Record every event, acknowledge it to its device, and show the store's live page.

    Devices forget an event when the recorder says that it has it. Several recorders may share a database,
    each with a name and stores of its own.
    Whoever opens the page has to log in: make an account with `shelfkit dashboard user add`.

    \b
    Examples:
      shelfkit dashboard --broker mqtt://127.0.0.1 --no-login
      shelfkit dashboard --broker mqtt://127.0.0.1 --no-login --operator mqtt://127.0.0.1
      shelfkit dashboard --broker mqtt://127.0.0.1 --no-login --alerts alerts.yaml
      shelfkit dashboard --broker mqtts://mqtt.store --ca ca.pem --certificate recorder.pem \\
          --key recorder.key --database postgresql://kit:secret@db/kit
    """  # noqa: D301 - click needs the character itself to keep the lines
    address = _with_certificates(address_from_url(broker), ca, certificate, key)
    own, policy = _own(stores), Policy(read_age(keep), read_age(keep_days))
    root, proxies = _root(root_path), [_network(text) for text in trusted_proxy or ["127.0.0.1"]]
    plan = service.read(alerts) if alerts else None
    if no_login:
        _must_be_loopback(host)
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(contextlib.closing(Store(database)))
        accounts = stack.enter_context(contextlib.closing(Accounts(beside(database))))
        stack.enter_context(Upkeep(kept, policy, accounts.settings))
        access = Access(accounts, login=not no_login, hosts=LOOPBACK if no_login else None)
        commands = _operator(operator, ca, operator_certificate, operator_key)
        if commands is not None:
            stack.enter_context(commands)
        hub = Hub()
        link = stack.enter_context(
            Link(
                address,
                client_id=name,
                subscriptions=_subscriptions(own),
                session_expiry_s=_SESSION_S,
                manual_ack=True,
                deliveries=False,
                receive_maximum=BATCH,
            )
        )
        recorder = Recorder(link, kept, hub.changed)
        if plan is not None:
            told = service.Alerts(kept.engine, plan, accounts.settings.all, lambda: recorder.connected, own)
            stack.enter_context(told)
        settings = uvicorn.Config(
            build_app(
                kept,
                hub,
                lambda: recorder.connected,
                access,
                root,
                files=files or files_beside(database),
                operator=commands,
                rules=plan.rules if plan else None,
            ),
            host=host,
            port=port,
            log_level="warning",
            forwarded_allow_ips=proxies,
            timeout_graceful_shutdown=1,
        )
        _serve(_Server(settings, hub), recorder)
    if recorder.error is not None:
        raise recorder.error


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as exc:
        raise UsageError(
            f"Expected: --trusted-proxy like 127.0.0.1 or 172.16.0.0/12. Received: {text!r}."
        ) from exc


def _must_be_loopback(host: str) -> None:
    if not _is_loopback(host):
        raise UsageError(
            f"Expected: --no-login with a loopback address. Received: {host}.",
            hint="make an account: shelfkit dashboard user add NAME --role admin",
        )


def _operator(
    url: str | None, ca: Path | None, certificate: Path | None, key: Path | None
) -> Operator | None:
    """Return who asks devices for things, where somebody may."""
    if url is None:
        if certificate or key:
            raise UsageError("Expected: --operator-certificate and --operator-key with --operator.")
        return None
    # The authority is the recorder's too, and may have been named for that one alone.
    own = (ca, certificate, key) if certificate or key else ()
    return Operator(_with_certificates(address_from_url(url), *own))


# Behind `run`: the first command is the one that runs when none is named.
for _command in (migrate, backup, restore, upkeep, quarantine, forget):
    app.command()(_command)


def _own(stores: str) -> list[str]:
    """Return the stores that this recorder records; none is every store."""
    names = [name.strip() for name in stores.split(",")]
    wrong = [name for name in names if not name or set(name) & set("#/") or ("+" in name and names != ["+"])]
    if wrong:
        raise UsageError(f"Expected: --stores like 0417,0418, or +. Received: {stores!r}.")
    return [] if names == ["+"] else list(dict.fromkeys(names))


def _subscriptions(stores: Sequence[str]) -> tuple[str, ...]:
    """Return what to subscribe to: everything that the devices of some stores say."""
    every = [DeviceTopics(name, "+") for name in stores or ("+",)]
    return tuple(topic for each in every for topic in (each.event("+"), each.state, each.health))


def _with_certificates(address: Address, *files: Path | None) -> Address:
    """Return the address with the certificates that it is to be reached with: all three or none."""
    if not any(files):
        return address
    if not all(files) or not address.encrypted:
        raise UsageError(
            "Expected: --ca, --certificate and --key together, and a broker of mqtts://. "
            f"Received: {', '.join(map(str, filter(None, files)))} and {address}.",
            hint="they belong to a broker that asks for certificates, see `shelfkit deploy broker`",
        )
    ca, certificate, key = (Path(str(file)) for file in files)
    return replace(address, tls=Tls(ca=ca, certificate=certificate, key=key))


class _Server(uvicorn.Server):
    """Says where the page is once it is there, and takes a busy port for an error of ours.

    Args:
        config: Of the server.
        hub: Open pages listen to it for ever; at the end it tells them to stop.
    """

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._hub.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        try:
            await super().startup(sockets)  # type: ignore[arg-type]
        except SystemExit as exc:
            raise ServiceError(
                f"Expected: a free port {self.config.port}. Received: one that is taken.",
                hint="name another one with --port; 0 takes any that is free",
            ) from exc
        for listening in self.servers:
            for channel in listening.sockets:
                host, port = channel.getsockname()[:2]
                typer.echo(f"http://{host}:{port}", err=False)
        sys.stdout.flush()


def _serve(server: _Server, recorder: Recorder) -> None:
    """Show the page and record, until somebody ends it or either cannot go on."""
    stopping = threading.Event()
    thread = threading.Thread(target=_record, args=(recorder, stopping, server), name="recorder")
    thread.start()
    try:
        server.run()
    finally:
        stopping.set()
        thread.join()


def _record(recorder: Recorder, stopping: threading.Event, server: uvicorn.Server) -> None:
    """Run the recorder; where it cannot go on there is nothing to show either."""
    try:
        recorder.run(stopping)
    except Exception as exc:  # noqa: BLE001 - told by the main thread, with its exit code
        recorder.error = exc
    finally:
        server.should_exit = True


def _root(path: str) -> str:
    """Return a path as it stands before others: empty, or `/something`."""
    path = path.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise UsageError(f"Expected: --root-path like /shelf. Received: {path!r}.")
    return path


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(run_command(app))
