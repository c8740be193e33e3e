"""`alerts.yaml`: which troubles are told to whom, when, and how."""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dashboard.alerts import channels
from dashboard.alerts.causes import MEASURED, Cause, Kind
from dashboard.hours import ALWAYS, Week, read_range, read_week
from edge_agent.contracts import yamlfile
from edge_agent.contracts.identifiers import DeviceId, Label, StoreId, gtin14
from edge_agent.contracts.yamlfile import Document, Key, Section

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(r"(\d{1,6})\s*(s|min|h|d)")
_SHORTEST_GTIN = 8
_LEAST = timedelta(minutes=2)
_LONGEST = timedelta(days=30)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def read_span(value: object) -> timedelta:
    """Read `15min`, `4h`, `2d`.

    Raises:
        ValueError: It is none, or longer than 30 days.
    """
    found = _AGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or timedelta(seconds=int(found[1]) * _UNITS[found[2]]) > _LONGEST:
        msg = f"expected a span like 90s, 15min, 4h or 2d, at most 30d; received {value!r}"
        raise ValueError(msg)
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _product(text: str) -> str:
    return gtin14(text) if text.isdigit() and len(text) >= _SHORTEST_GTIN else text


def _readable(value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    read_week(value)
    return value


def _ranges(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        read_range(text)
    return value


Span = Annotated[timedelta, BeforeValidator(read_span)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_many)]
Ranges = Annotated[Texts, AfterValidator(_ranges)]
Hours = Annotated[dict[str, Texts], Field(min_length=1), AfterValidator(_readable)]
Stores = Annotated[tuple[StoreId, ...], BeforeValidator(_many)]
Devices = Annotated[tuple[DeviceId, ...], BeforeValidator(_many)]
Products = Annotated[tuple[Annotated[Label, AfterValidator(_product)], ...], BeforeValidator(_many)]
Targets = Annotated[tuple[str, ...], BeforeValidator(_many), Field(min_length=1)]


class Rule(Section):
    """One rule: a kind of trouble, where it counts, when, and who is told.

    Everything that is left out is no limit: every store, every product, at once, always.
    """

    name: Name
    kind: Kind
    stores: Stores = ()
    devices: Devices = ()
    products: Products = ()
    after: Span = timedelta()
    hours: str | None = None
    quiet: Ranges = ()
    repeat: Span | None = None
    resolved: bool = True
    to: Targets

    def matches(self, cause: Cause) -> bool:
        """Whether this rule is about a cause."""
        return (
            cause.kind is self.kind
            and (not self.stores or cause.store in self.stores)
            and (not self.devices or cause.device in self.devices)
            and (not self.products or cause.label in self.products or cause.gtin in self.products)
        )

    @cached_property
    def silence(self) -> Week:
        """When nobody is told anything."""
        return read_week({"mon-sun": self.quiet})


class Channel(Section):
    """One way to tell somebody: exactly one of these."""

    webhook: channels.Webhook | None = None
    mail: channels.Mail | None = None
    mqtt: channels.Mqtt | None = None

    @model_validator(mode="after")
    def _one(self) -> "Channel":
        given = [name for name in Channel.model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            msg = f"expected one of webhook, mail, mqtt; received {', '.join(given) or 'none'}"
            raise ValueError(msg)
        return self

    @property
    def kind(self) -> str:
        """Which way: webhook, mail or mqtt."""
        return next(name for name in Channel.model_fields if getattr(self, name) is not None)

    @property
    def settings(self) -> channels.Webhook | channels.Mail | channels.Mqtt:
        """What is said of it."""
        found: channels.Webhook | channels.Mail | channels.Mqtt = getattr(self, self.kind)
        return found


class Rules(Section):
    """A whole `alerts.yaml`.

    Args:
        page: Address of the pages, for links in messages.
        hours: Opening hours by name, by the clock of each store.
        channels: Ways to tell somebody, by name.
        rules: In no order: each holds for itself.
        give_up: How long a message is tried that cannot be delivered.
        keep: How long what is over is kept.
        every: How often to look.
        settle: How long the broker has to be there before anything is decided.
    """

    page: Annotated[str, Field(pattern=r"^https?://[^\s\x00-\x1f]+$")] | None = None
    hours: dict[Name, Hours] = Field(default_factory=dict)
    channels: Annotated[dict[Name, Channel], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    give_up: Span = timedelta(days=3)
    keep: Span = timedelta(days=30)
    every: Annotated[Span, Field(ge=timedelta(seconds=1))] = timedelta(seconds=10)
    settle: Span = timedelta(seconds=30)

    @cached_property
    def _weeks(self) -> dict[str, Week]:
        return {name: read_week(ranges) for name, ranges in self.hours.items()}

    def opening(self, rule: Rule) -> Week:
        """Return the opening hours that a rule counts in."""
        return self._weeks[rule.hours] if rule.hours else ALWAYS

    def rule(self, name: str) -> Rule | None:
        """Return the rule of a name."""
        return next((rule for rule in self.rules if rule.name == name), None)


def read(path: Path, environment: Mapping[str, str] = os.environ) -> Document[Rules]:
    """Read an `alerts.yaml`; every problem is in the document that comes back, secrets that are missing too.

    Args:
        path: Of the file; files that it names are relative to its folder.
        environment: Where secrets may be.
    """
    document = yamlfile.read(path, Rules)
    if document.value is None:
        return document
    folder = path.resolve().parent
    found = [*_cross_checks(document.value), *_secret_checks(document.value, folder, environment)]
    problems = [document.problem(key, text) for key, text in found]
    return Document(path, document.tree, document.value, problems)


def _cross_checks(rules: Rules) -> Iterator[tuple[Key, str]]:
    names: dict[str, int] = {}
    for index, rule in enumerate(rules.rules):
        key: Key = ("rules", index)
        if rule.name in names:
            yield (*key, "name"), f"`{rule.name}` is already rules[{names[rule.name]}]"
        names.setdefault(rule.name, index)
        for channel in rule.to:
            if channel not in rules.channels:
                yield (*key, "to"), f"expected one of {', '.join(rules.channels)}; received {channel!r}"
        if rule.hours is not None and rule.hours not in rules.hours:
            known = ", ".join(rules.hours) or "none, for there are no `hours`"
            yield (*key, "hours"), f"expected one of {known}; received {rule.hours!r}"
        if rule.kind in MEASURED and rule.after < _LEAST:
            yield (*key, "after"), f"expected at least 2min for {rule.kind}; received {rule.after}"
        if rule.repeat is not None and rule.repeat < _LEAST:
            yield (*key, "repeat"), f"expected at least 2min; received {rule.repeat}"


def _secret_checks(rules: Rules, folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[Key, str]]:
    for name, channel in rules.channels.items():
        for field, secret in channels.secrets_of(channel.settings):
            try:
                value = secret.read(folder, environment)
                if channel.webhook is not None:
                    channels.signing_keys(value)
            except ValueError as exc:
                yield ("channels", name, channel.kind, field), str(exc)
