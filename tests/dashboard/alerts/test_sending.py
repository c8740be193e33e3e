"""Each channel against a real server: HTTP, SMTP, mosquitto."""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from dashboard.accounts.records import StoreSetting
from dashboard.alerts import service
from dashboard.alerts.deciding import Alert, Told
from dashboard.alerts.sending import AwayError, Channel, RefusedError, back_off
from dashboard.alerts.telling import Message, item_of, messages
from dashboard.alerts.wire import Notice
from dashboard.alerts.wording import MOST_SHOWN
from dashboard.pages.language import catalogues
from edge_agent.contracts import events
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.topics import DeviceTopics, parse
from tests.brokers import Mosquitto, free_port, received, subscribed
from tests.dashboard.alerts.ears import Hook, Letterbox, letterbox, server_context
from tests.dashboard.alerts.files import KEY, NOW, out, rules_of, written
from tests.deploy.test_broker import Authority

RULE = "  - {name: empty, kind: out-of-stock, to: it}\n"
SECRET = base64.b64decode(KEY.removeprefix("whsec_"))


def message(*, notice: Notice = Notice.OPENED, number: int = 1, **more: Any) -> Message:  # noqa: ANN401 - of a cause
    cause = out(since=NOW - timedelta(minutes=20), **more)
    alert = Alert(id=f"a-{number}", rule="empty", cause=cause, since=NOW - timedelta(minutes=20), opened=NOW)
    told = Told(notice, alert)
    return Message("it", told.key, (item_of(told, StoreSetting("", "Europe/Zurich"), NOW),))


def channel(folder: Path, settings: str, **secrets: str) -> Channel:
    path = written(folder, RULE, f"{{it: {settings}}}")
    path.write_text("page: https://shop.example/shelf/\n" + path.read_text())
    return service.read(path, secrets).channels["it"]


def said(where: Channel, told: Message) -> str:
    with where.session() as send:
        return send(told, NOW)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as made:
        yield made


def webhook(folder: Path, url: str, more: str = "") -> Channel:
    return channel(folder, f"{{webhook: {{url: '{url}', key: {{file: webhook.key}}{more}}}}}")


def test_a_webhook_is_signed_and_says_what_is_wrong(hook: Hook, tmp_path: Path) -> None:
    assert said(webhook(tmp_path, hook.url), message()) == "HTTP 204"
    (asked,) = hook.asked
    assert asked.path == "/hook?shop=1"
    headers, body = asked.headers, json.loads(asked.body)
    assert headers["webhook-id"] == "a-1.opened"
    signed = f"a-1.opened.{int(NOW.timestamp())}.".encode() + asked.body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert headers["content-type"] == events.CONTENT_TYPE
    assert (body["type"], body["source"], body["subject"]) == (
        "shelfkit.alert.opened.v1",
        events.source("0417", "cam-12-01"),
        "shelf/12/product/milk-1l",
    )
    assert body["data"]["since"] == "2026-11-26T11:40:00.000Z"
    assert (body["data"]["name"], body["data"]["detail"]) == ("Milk 1 l", "0/4")


def test_keys_that_are_exchanged_sign_both(hook: Hook, tmp_path: Path) -> None:
    where = webhook(tmp_path, hook.url)
    other = KEY.replace("AAEC", "AQEC")
    (tmp_path / "webhook.key").write_text(f"{other}\n{KEY}\n")
    said(service.read(tmp_path / "alerts.yaml").channels["it"], message())
    said(where, message())
    both, one = (asked.headers["webhook-signature"].split() for asked in hook.asked)
    assert len(both) == 2
    assert both[1:] == one


def test_the_same_is_said_each_time(hook: Hook, tmp_path: Path) -> None:
    hook.answers = [500, 204]
    where = webhook(tmp_path, hook.url)
    with pytest.raises(AwayError, match="500"):
        said(where, message())
    said(where, message())
    first, second = hook.asked
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, AwayError), (503, AwayError), (404, RefusedError), (400, RefusedError), (304, RefusedError)],
)
def test_what_is_no_yes_is_a_no(hook: Hook, tmp_path: Path, status: int, error: type[Exception]) -> None:
    hook.answers = [status]
    with pytest.raises(error, match=str(status)):
        said(webhook(tmp_path, hook.url), message())


def test_nobody_is_followed_elsewhere(hook: Hook, tmp_path: Path) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", hook.url)
        handler.end_headers()

    hook.answers = [elsewhere]
    with pytest.raises(RefusedError, match="307"):
        said(webhook(tmp_path, hook.url), message())
    assert len(hook.asked) == 1


def test_whoever_dawdles_is_left(hook: Hook, tmp_path: Path) -> None:
    """A byte now and then is never late for a socket."""

    def dawdle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
        for _ in range(100):
            handler.wfile.write(b"a")
            handler.wfile.flush()
            time.sleep(0.1)

    hook.answers = [dawdle]
    with pytest.raises(AwayError, match=r"no answer in 0\.5 s"):
        said(webhook(tmp_path, hook.url, ", timeout_s: 0.5"), message())


def test_whoever_talks_without_end_is_not_listened_to(hook: Hook, tmp_path: Path) -> None:
    spoken = []

    def talk(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(10_000):
                handler.wfile.write(bytes(100_000))
                spoken.append(1)
        except OSError:
            return

    hook.answers = [talk]
    assert said(webhook(tmp_path, hook.url), message()) == "HTTP 200"
    assert len(spoken) < 10_000


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/9", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200]
)
def test_what_is_no_answer_is_none(hook: Hook, tmp_path: Path, answer: bytes) -> None:
    def say(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)

    hook.answers = [say]
    with pytest.raises(AwayError, match=r"an answer of 127\.0\.0\.1"):
        said(webhook(tmp_path, hook.url), message())


def test_nobody_there(tmp_path: Path) -> None:
    where = webhook(tmp_path, f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(AwayError, match="refused"):
        said(where, message())


def test_a_webhook_over_tls_trusts_whom_it_is_told_to(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Hook(server_context(authority.issue("hook"))) as hook:
        said(webhook(tmp_path, hook.url, ", ca: ca.pem"), message())
        with pytest.raises(AwayError, match="certificate verify failed"):
            said(webhook(tmp_path, hook.url), message())
        with pytest.raises(AwayError, match=r"certificate verify failed|not valid for"):
            said(webhook(tmp_path, hook.url.replace("localhost", "127.0.0.1"), ", ca: ca.pem"), message())
        assert len(hook.asked) == 1
    with pytest.raises(ConfigError, match=r"none\.pem"):
        webhook(tmp_path, "https://localhost/", ", ca: none.pem")


def mail(folder: Path, box: Letterbox, more: str = "") -> Channel:
    settings = f"host: localhost, port: {box.port}, sender: kit@shop.example"
    settings += ", to: [mei@shop.example, ben@shop.example]"
    return channel(folder, f"{{mail: {{{settings}, timeout_s: 5{more}}}}}", WORD="open-sesame")


def texts(letter: EmailMessage) -> tuple[str, str]:
    plain, html = letter.get_body(("plain",)), letter.get_body(("html",))
    assert plain is not None
    assert html is not None
    return plain.get_content(), html.get_content()


def test_a_letter_says_what_where_and_since_when(tmp_path: Path) -> None:
    with letterbox() as box:
        assert said(mail(tmp_path, box, ", tls: none"), message()) == "taken for 2"
    ((to, letter),) = box.letters
    assert to == ["mei@shop.example", "ben@shop.example"]
    assert letter["subject"] == "Alert: Out of stock: Milk 1 l (0/4) · Store 0417, Shelf 12, cam-12-01"
    assert letter["message-id"] == "<a-1.opened@shop.example>"
    assert letter["auto-submitted"] == "auto-generated"
    plain, html = texts(letter)
    for text in (
        "Out of stock: Milk 1 l",
        "since 2026-11-26 12:40",
        "https://shop.example/shelf/stores/0417",
    ):
        assert text in plain
        assert text in html


def test_one_letter_tells_everything_that_there_is_to_tell_in_its_language(tmp_path: Path) -> None:
    items = tuple(item for number in range(120) for item in message(number=number).items)
    with letterbox() as box:
        said(mail(tmp_path, box, ", tls: none, language: zh"), Message("it", "many", items))
    ((_, letter),) = box.letters
    words = catalogues()["zh"]
    assert letter["subject"] == words.say("alerts.many", n=120, stores=1)
    plain, html = texts(letter)
    assert (
        plain.count(f"{words.say('alerts.kind.out-of-stock')}: Milk 1 l")
        == html.count("<strong>")
        == MOST_SHOWN
    )
    assert words.say("alerts.more", n=20) in plain
    assert 'lang="zh"' in html


def test_what_devices_say_stays_a_text(tmp_path: Path) -> None:
    name = 'Milk\r\nBcc: all@x.example\r\n\r\n<img src="//evil">\u2028\x1b[31m'
    with letterbox() as box:
        said(mail(tmp_path, box, ", tls: none"), message(name=name))
    ((to, letter),) = box.letters
    assert "all@x.example" not in to
    assert letter["bcc"] is None
    plain, html = texts(letter)
    assert "<img" not in html
    assert "\x1b" not in plain + html + str(letter["subject"])
    assert "\nBcc" not in plain


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_password_goes_over_tls_alone(tmp_path: Path, tls: str) -> None:
    context = server_context(Authority(tmp_path).issue("mail"))
    name = ", username: kit, password: {env: WORD}"
    with letterbox(context, implicit=tls == "implicit", user="open-sesame") as box:
        said(mail(tmp_path, box, f", tls: {tls}, ca: ca.pem{name}"), message())
        with pytest.raises(AwayError, match="certificate verify failed"):
            said(mail(tmp_path, box, f", tls: {tls}{name}"), message())
        assert box.names == [(b"kit", b"open-sesame")]
        with pytest.raises(AwayError, match="530") as told:
            said(mail(tmp_path, box, f", tls: {tls}, ca: ca.pem"), message())
    assert "sesame" not in str(told.value)


def test_a_wrong_password_is_told_without_it(tmp_path: Path) -> None:
    context = server_context(Authority(tmp_path).issue("mail"))
    with letterbox(context, user="another") as box, pytest.raises(AwayError, match="535") as told:
        said(mail(tmp_path, box, ", ca: ca.pem, username: kit, password: {env: WORD}"), message())
    assert "sesame" not in str(told.value)


def test_a_server_that_lost_its_tls_gets_no_letter(tmp_path: Path) -> None:
    with letterbox() as box, pytest.raises(AwayError, match="STARTTLS"):
        said(mail(tmp_path, box), message())
    assert box.letters == []


def test_what_a_server_does_not_take(tmp_path: Path) -> None:
    with letterbox() as box:
        where = mail(tmp_path, box, ", tls: none")
        with where.session() as send:
            box.says = ["451 later", "554 never", "250 OK"]
            with pytest.raises(AwayError, match="451"):
                send(message(), NOW)
            with pytest.raises(RefusedError, match="554 never"):
                send(message(), NOW)
            send(message(), NOW)
            box.nobody = {"ben@shop.example"}
            assert send(message(), NOW) == "taken, but not for ben@shop.example"
            box.nobody |= {"mei@shop.example"}
            with pytest.raises(RefusedError, match="nobody of that name"):
                send(message(), NOW)
    assert len(box.letters) == 2


def test_no_mail_server_there(tmp_path: Path) -> None:
    with pytest.raises(AwayError, match="refused"):
        said(mail(tmp_path, Letterbox(free_port()), ", tls: none"), message())


@pytest.mark.broker
def test_a_broker_gets_it_below_the_device(mosquitto: Mosquitto, tmp_path: Path) -> None:
    where = channel(tmp_path, f"{{mqtt: {{broker: '{mosquitto.url}'}}}}")
    topic = DeviceTopics("0417", "cam-12-01").alert("out-of-stock")
    assert said(where, message()) == "nobody listens now"
    with subscribed(mosquitto.address, DeviceTopics("+", "+").alert("+")) as link:
        assert said(where, message(notice=Notice.RESOLVED)) == "taken"
        (heard,) = received(link, 1)
    assert heard.topic == topic
    assert not heard.retain
    assert parse(topic) == (DeviceTopics("0417", "cam-12-01"), "alert/out-of-stock")
    body = json.loads(heard.payload)
    assert (body["id"], body["type"]) == ("a-1.resolved", "shelfkit.alert.resolved.v1")


@pytest.mark.broker
def test_a_broker_that_does_not_let_us(mosquitto: Mosquitto, tmp_path: Path) -> None:
    access = tmp_path / "acl"
    access.write_text("topic read #\n")
    access.chmod(0o600)
    lines = ("listener PORT 127.0.0.1", "allow_anonymous true", f"acl_file {access}")
    with (
        Mosquitto(mosquitto._program, tmp_path / "shut", lines=lines) as shut,
        pytest.raises(RefusedError, match="lets us publish"),
    ):
        said(channel(tmp_path, f"{{mqtt: {{broker: '{shut.url}'}}}}"), message())
    with pytest.raises(AwayError, match="refused"):
        said(channel(tmp_path, f"{{mqtt: {{broker: '{shut.url}'}}}}"), message())


def test_people_get_one_letter_and_programs_one_message_for_each(tmp_path: Path) -> None:
    channels = "{a: {webhook: {url: http://x/, key: {file: webhook.key}}},"
    channels += " b: {mail: {host: x, sender: a@b.c, to: a@b.c}}}"
    rules = rules_of(tmp_path, "  - {name: empty, kind: out-of-stock, to: [a, b]}\n", channels)
    alerts = [Alert(id=f"{n}", rule="empty", cause=out(str(n)), since=NOW, opened=NOW) for n in range(3)]
    told = [Told(Notice.OPENED, alert) for alert in alerts]

    def made(*notices: Told) -> list[tuple[str, str, int]]:
        found = messages(rules, notices, lambda _store: StoreSetting("", "UTC"), NOW)
        return [(each.channel, each.key, len(each.items)) for each in found]

    *each, letter = made(*told)
    assert each == [("a", f"{n}.opened", 1) for n in range(3)]
    assert (letter[0], letter[2]) == ("b", 3)
    assert made(*told[::-1])[-1][1] == letter[1], "whatever the order"
    assert made(told[0])[-1] == ("b", "0.opened", 1)


def test_waits_grow_and_end() -> None:
    rng = random.Random(1)
    waits = [back_off(number, rng).total_seconds() for number in range(200)]
    assert all(2.5 * 2**number <= waits[number] <= 5 * 2**number for number in range(9))
    assert all(1800 <= wait <= 3600 for wait in waits[10:])
    assert len(set(waits)) == len(waits)
