"""Logs: one record, one line, whatever is in it; no credentials; the same from every way to start."""

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import logs
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.times import moment
from tests.conftest import Kit


@pytest.fixture
def kept() -> Iterator[None]:
    """Leave the process's logging as it was."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    yield
    root.handlers[:], threading.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(False)


def record(message: object, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("shelf").makeRecord(
        "shelf", logging.WARNING, "file.py", 1, message, args, None, extra=extra
    )
    made.created = datetime(2026, 11, 23, 9, 14, 5, 120_000, UTC).timestamp()
    return made


def told(made: logging.LogRecord) -> dict[str, object]:
    line = logs.JsonFormatter().format(made)
    assert len(line.splitlines()) == 1
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def test_a_record_is_one_object() -> None:
    assert told(record("lost %d of %d", 3, 4, camera="cam-12-01", ages=[1, 2.5])) == {
        "time": "2026-11-23T09:14:05.120Z",
        "level": "warning",
        "logger": "shelf",
        "message": "lost 3 of 4",
        "camera": "cam-12-01",
        "ages": [1, 2.5],
    }


@given(st.text(), st.dictionaries(st.text(), st.text() | st.floats() | st.binary() | st.lists(st.none())))
def test_anything_is_one_line(message: str, more: dict[str, object]) -> None:
    made = record("%s", message, more=more)
    assert told(made)["logger"] == "shelf"


def test_what_cannot_be_told_is_told_as_text() -> None:
    turning: list[object] = []
    turning.append(turning)
    found = told(record("%d of", "three", place=Path("/x"), depth=float("nan"), turning=turning, time="now"))
    assert found["message"] == "%d of ('three',)"
    assert (found["place"], found["depth"], found["time_"]) == ("/x", "nan", "now")
    assert "[...]" in str(found["turning"])


def test_a_traceback_is_a_string() -> None:
    try:
        int("rtsp://admin:secret@cam")
    except ValueError:
        made = record("broken")
        made.exc_info = sys.exc_info()
    found = str(told(made)["exception"])
    assert found.startswith("Traceback")
    assert "ValueError" in found
    assert "secret" not in found


SECRETS = [
    "rtsp://admin:hunter2@cam/1",
    "cannot open 'http://admin:hu/nt@er2@10.0.0.4:80/still.jpg' now",
    "http://admin:it's\"hunter2@cam/1",
    "mqtts://hunter2@broker",
    "postgresql://kit:hunter2@db/kit",
    "password=hunter2, user=kit",
    "http://cam/still.jpg?user=a&password=hunter2&size=3",
    '{"token": "hunter2 and more"}',
    "Authorization: Bearer hunter2",
]


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.TextFormatter()])
def test_credentials_are_in_no_line(formatter: logging.Formatter, text: str) -> None:
    for made in (record("%s", text), record("see", source=text), record("see", sources=[{"url": text}])):
        line = formatter.format(made)
        assert "hunter2" not in line
        assert "er2@" not in line
    assert "hunter2" not in formatter.format(record("see", broker={"host": "b", "password": "hunter2"}))


@pytest.mark.parametrize(
    "text",
    [
        "broker 127.0.0.1:1883: connection refused",
        "Expected: user, password or certificate. Received: none.",
        "http://cam:8080/still.jpg gives 404",
        "mail to a@b.example",
        "frames/s: 4 @ 1920x1080",
    ],
)
def test_other_words_stay_as_they_are(text: str) -> None:
    assert logs.redacted(text) == text


@pytest.mark.usefixtures("kept")
def test_warnings_and_dead_threads_are_records(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELFKIT_LOG_FORMAT", "json")
    logs.set_up()
    logs.set_up()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old\nways", UserWarning, stacklevel=1)

    def die() -> None:
        raise ValueError("two\nlines")

    thread = threading.Thread(target=die, name="camera")
    thread.start()
    thread.join()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["logger"] for line in lines] == ["py.warnings", "shelfkit"]
    assert "camera" in lines[1]["message"]
    assert "two\nlines" in lines[1]["exception"]


@pytest.mark.usefixtures("kept")
def test_a_level_can_be_changed_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("edge_agent.live")
    logs.set_up(logs.Format.JSON)
    log.info("not yet")
    logs.set_level("INFO")
    log.info("now")
    with pytest.raises(UsageError, match="loud"):
        logs.set_level("loud")
    log.info("still")
    messages = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert messages == ["now", "still"]


COMMANDS = {
    "shelfkit agent": ["-m", "edge_agent.cli", "agent", "check", "--config", "nowhere.yaml"],
    "python -m edge_agent": ["-m", "edge_agent", "check", "--config", "nowhere.yaml"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("level", ["warning", "debug"])
def test_the_error_that_ends_a_command_is_a_record(command: list[str], level: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"SHELFKIT_LOG_FORMAT": "json", "SHELFKIT_LOG": level},
    )
    assert done.returncode == 3
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (error,) = [line for line in lines if line["level"] == "error"]
    assert "nowhere.yaml" in error["message"]
    assert moment(error["time"]) is not None
    assert any("exception" in line for line in lines) == (level == "debug")


@pytest.mark.parametrize(
    ("name", "said"), [("SHELFKIT_LOG", "debug, info"), ("SHELFKIT_LOG_FORMAT", "text, json")]
)
def test_a_wrong_setting_is_one_clear_message(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "loud")
    done = kit("agent", "check", "--config", "x", code=2)
    assert name in done.stderr
    assert said in done.stderr


def test_an_option_goes_before_the_environment(kit: Kit, tmp_path: Path) -> None:
    options = ("--config", tmp_path / "nowhere.yaml", "--log-format", "json")
    lines = kit("agent", "run", *options, code=3).stderr.splitlines()
    assert [json.loads(line)["level"] for line in lines] == ["error"]
