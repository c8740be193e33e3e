"""Files of rules: what is wrong in them is told with its line, and secrets are not."""

from datetime import timedelta
from pathlib import Path

import pytest

from dashboard.alerts.causes import Kind
from dashboard.alerts.channels import signing_keys
from dashboard.alerts.rules import read
from dashboard.hours import ALWAYS
from tests.dashboard.alerts.files import KEY, rules_of, written

WHOLE = """
page: https://shop.example/shelf
hours:
  shop: {mon-fri: "07:00-21:00", sat: ["08:00-12:00", "13:00-20:00"]}
channels:
  till: {webhook: {url: "https://till.example/hook?t=1", key: {file: webhook.key}, timeout_s: 3}}
  crew:
    mail:
      host: mail.example
      username: kit
      password: {env: MAIL_PASSWORD}
      sender: kit@shop.example
      to: [mei@shop.example, ben@shop.example]
      language: zh
  bus: {mqtt: {broker: "mqtts://broker:8883", ca: ca.pem, certificate: a.pem, key: a.key}}
rules:
  - name: empty
    kind: out-of-stock
    stores: "0417"
    products: [milk-1l, "9506000134352"]
    after: 15 min
    hours: shop
    quiet: ["21:00-07:00"]
    repeat: 4h
    to: [till, crew, bus]
  - {name: cut, kind: device-offline, to: till}
give_up: 2d
"""


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "webhook.key").write_text(KEY)
    (tmp_path / "alerts.yaml").write_text(WHOLE)
    rules = read(tmp_path / "alerts.yaml", {"MAIL_PASSWORD": "x"}).require()
    empty, cut = rules.rules
    assert (empty.kind, empty.after, empty.repeat) == (
        Kind.OUT_OF_STOCK,
        timedelta(minutes=15),
        timedelta(hours=4),
    )
    assert empty.products == ("milk-1l", "09506000134352")
    assert rules.opening(empty).days[5] == ((480, 720), (780, 1200))
    assert rules.opening(cut) is ALWAYS
    assert rules.rule("cut") is cut
    assert rules.rule("none") is None
    assert {name: channel.kind for name, channel in rules.channels.items()} == {
        "till": "webhook",
        "crew": "mail",
        "bus": "mqtt",
    }
    assert (rules.give_up, rules.keep) == (timedelta(days=2), timedelta(days=30))


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "alerts.yaml"
    path.write_text(text)
    return [f"{problem.line} {problem.key} {problem.text}" for problem in read(path, {}).problems]


@pytest.mark.parametrize(
    ("before", "after", "line", "said"),
    [
        ("after: 15 min", "after: 15", 21, "expected a span like"),
        ("after: 15 min", "after: 31d", 21, "at most 30d"),
        ("after: 15 min", "aftr: 15 min", 21, "did you mean `after`?"),
        ("kind: out-of-stock", "kind: empty", 18, "'out-of-stock'"),
        ("hours: shop", "hours: night", 22, "expected one of shop"),
        ('"21:00-07:00"', '"21-7"', 23, "expected a time of day"),
        ("to: [till, crew, bus]", "to: [till, nobody]", 25, "received 'nobody'"),
        ("to: [till, crew, bus]", "to: []", 25, "at least 1 item"),
        ("name: cut", "name: empty", 26, "already rules[0]"),
        ("kind: device-offline", "kind: device-silent", 26, "at least 2min"),
        ("repeat: 4h", "repeat: 1s", 24, "at least 2min"),
        ("9506000134352", "9506000134353", 20, "check digit"),
        ('sat: ["08', 'say: ["08', 4, "expected days like"),
        ("https://till.example", "ftp://till.example", 6, "another text"),
        ("https://till.example", "https://a:hush@till.example", 6, "another text"),
        ("mei@shop.example", '"mei@shop.example\\r\\nBcc: all@x.example"', 13, "expected an address"),
        ("kit@shop.example", "kit", 12, "expected an address"),
        ("language: zh", "language: tlh", 14, "expected one of en, zh"),
        ("username: kit", "port: 587", 8, "username and password together"),
        ('broker: "mqtts://broker:8883"', 'broker: "mqtt://broker"', 15, "and mqtts://"),
        ('broker: "mqtts://broker:8883"', 'broker: "mqtt://a:hush@broker"', 15, "one in the address"),
        ("{file: webhook.key}", "{}", 6, "either file or env"),
        ("{file: webhook.key}", "{file: none.key}", 6, "No such file"),
        ("{file: webhook.key}", "{file: bad.key}", 6, "expected whsec_"),
        ("{env: MAIL_PASSWORD}", "{env: NONE}", 11, "expected a secret in NONE; received nothing"),
        ("webhook: {", "mail: {", 6, "unknown key"),
        ("give_up: 2d", "give_up: never", 27, "expected a span"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, before: str, after: str, line: int, said: str
) -> None:
    (tmp_path / "webhook.key").write_text(KEY)
    (tmp_path / "bad.key").write_text("hush-hush")
    assert before in WHOLE
    found = problems(tmp_path, WHOLE.replace(before, after))
    assert any(text.startswith(f"{line} ") and said in text for text in found), found
    assert not any("hush" in text for text in found), "what may be a secret is not told"


def test_several_channels_in_one_are_none(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="expected one of webhook, mail, mqtt; received none"):
        rules_of(tmp_path, "  - {name: a, kind: low-stock, to: till}\n", "{till: {}}")


def test_keys_are_exchanged_one_after_the_other() -> None:
    other = KEY.replace("AAEC", "AQEC")
    keys = signing_keys(f"{other}\n{KEY}\n")
    assert [len(key) for key in keys] == [32, 32]
    assert keys[1] == bytes(range(32))
    for wrong in ("AAECAwQF", "whsec_AAEC", "whsec_%%%"):
        with pytest.raises(ValueError, match="whsec_") as told:
            signing_keys(f"{KEY}\n{wrong}")
        assert "AAEC" not in str(told.value)


def test_a_secret_is_not_in_what_is_shown(tmp_path: Path) -> None:
    path = written(tmp_path, "  - {name: a, kind: low-stock, to: till}\n")
    assert "AAEC" not in repr(read(path).require())
