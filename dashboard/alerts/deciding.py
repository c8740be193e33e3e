"""What is to be told to whom now: causes, rules and what was told before in, changes and notices out. Pure.

- A cause becomes an alert once it has lasted as long as its rule says, counted in opening hours alone.
- What nobody sees now (camera covered, device cut off) begins no alert, and ends none.
- Each alert is announced once. Quiet hours, a mute and whoever took it on hold that back; what is over
  before it was announced is never told.
- A cause that tells no beginning is remembered from when it was first seen: an alert that is not open yet.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dashboard.alerts.causes import MEASURED, Cause
from dashboard.alerts.rules import Rule, Rules
from dashboard.alerts.wire import Notice

_UTC = ZoneInfo("UTC")
_YEAR = timedelta(days=366)

Key = tuple[str, str, str, str, str]
"""Rule, kind, store, device, subject."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """A trouble that a rule is about.

    Args:
        id: A UUID.
        rule: By name.
        cause: What is wrong, as it was when this was last decided while it was not open.
        since: When it began.
        opened: When it had lasted long enough; None while it has not.
        announced: When somebody was first told.
        told: When somebody was last told.
        times: How often that was.
        closed: When it was over.
        taken: When somebody said that they care for it.
        taken_by: Who.
        done: It is over, and there is nothing left to tell.
    """

    id: str
    rule: str
    cause: Cause
    since: datetime
    opened: datetime | None = None
    announced: datetime | None = None
    told: datetime | None = None
    times: int = 0
    closed: datetime | None = None
    taken: datetime | None = None
    taken_by: str = ""
    done: bool = False

    @property
    def key(self) -> Key:
        """What makes it the same one the next time."""
        return (self.rule, *self.cause.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mute:
    """Of whom nothing is told for a while; what is empty is no limit."""

    store: str = ""
    device: str = ""
    rule: str = ""
    label: str = ""
    until: datetime | None = None

    def covers(self, alert: Alert, now: datetime) -> bool:
        """Whether nothing is to be told of an alert."""
        cause = alert.cause
        return (self.until is None or now < self.until) and all(
            wanted in {"", given}
            for wanted, given in (
                (self.store, cause.store),
                (self.device, cause.device),
                (self.rule, alert.rule),
                (self.label, cause.label),
            )
        )


@dataclass(frozen=True, slots=True)
class Told:
    """One thing to tell, through every channel of its rule."""

    notice: Notice
    alert: Alert

    @property
    def key(self) -> str:
        """What makes it the same one however often it is sent."""
        number = f"-{self.alert.times - 1}" if self.notice is Notice.REPEATED else ""
        return f"{self.alert.id}.{self.notice}{number}"


@dataclass(slots=True)
class Decision:
    """What changes.

    Args:
        alerts: New ones, and those that are different now.
        notices: What is to be told.
    """

    alerts: dict[str, Alert] = field(default_factory=dict)
    notices: list[Told] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.alerts)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision needs besides causes and alerts.

    Args:
        rules: The file.
        zones: Of stores; UTC where none is named.
        mutes: That somebody set.
        now: The moment.
    """

    rules: Rules
    zones: Mapping[str, ZoneInfo]
    mutes: Sequence[Mute]
    now: datetime

    def zone(self, cause: Cause) -> ZoneInfo:
        """Return the zone of the store that a cause is in."""
        return self.zones.get(cause.store, _UTC)

    def due(self, rule: Rule, cause: Cause, since: datetime) -> bool:
        """Whether a cause has lasted as long as a rule says, and the store is open."""
        return self.rules.opening(rule).holds(self.now, self.zone(cause)) and self._lasted(rule, cause, since)

    def lasting(self, rule: Rule, cause: Cause) -> bool:
        """Whether what every device has, has lasted so long that it is a trouble."""
        return self._lasted(rule, cause, cause.since or self.now)

    def _lasted(self, rule: Rule, cause: Cause, since: datetime) -> bool:
        # A device whose clock says 1970 must not have us count the days since then.
        since = max(since, self.now - _YEAR)
        return self.rules.opening(rule).covers(since, self.now, self.zone(cause), rule.after)

    def held_back(self, rule: Rule, alert: Alert) -> bool:
        """Whether nothing may be told now."""
        return rule.silence.holds(self.now, self.zone(alert.cause)) or self.muted(alert)

    def muted(self, alert: Alert) -> bool:
        """Whether somebody muted it."""
        return any(mute.covers(alert, self.now) for mute in self.mutes)


def decide(
    here: Situation, causes: Iterable[Cause], alerts: Iterable[Alert], new_id: Callable[[], str]
) -> Decision:
    """Decide what changes.

    Args:
        here: Rules, clocks, mutes, the moment.
        causes: Everything that is wrong now.
        alerts: Every alert that is not done.
        new_id: Makes the id of a new alert.
    """
    decision = Decision()
    found = _found(here, causes)
    known = list(alerts)
    open_ = {alert.key for alert in known if alert.closed is None}
    for key, (about, cause) in found.items():
        began = None if key in open_ else _begun(here, about, cause, new_id)
        if began is not None:
            decision.alerts[began.id] = began
            _tell(here, about, began, decision)
    for alert in known:
        rule = here.rules.rule(alert.rule)
        changed = _followed(here, rule, alert, found.get(alert.key))
        if rule is not None:
            changed = _tell(here, rule, changed, decision)
        if changed != alert:
            decision.alerts[alert.id] = changed
    return decision


def _found(here: Situation, causes: Iterable[Cause]) -> dict[Key, tuple[Rule, Cause]]:
    """Return what rules are about, by what an alert of it would be called."""
    by_kind: dict[str, list[Rule]] = {}
    for rule in here.rules.rules:
        by_kind.setdefault(rule.kind, []).append(rule)
    return {
        (rule.name, *cause.key): (rule, cause)
        for cause in causes
        for rule in by_kind.get(cause.kind, ())
        if rule.matches(cause) and (cause.kind not in MEASURED or here.lasting(rule, cause))
    }


def _begun(here: Situation, rule: Rule, cause: Cause, new_id: Callable[[], str]) -> Alert | None:
    """Return the alert that a cause is now; None where it is none yet."""
    since = min(cause.since or here.now, here.now)
    due = here.due(rule, cause, since)
    if cause.doubtful or not (due or cause.since is None):
        return None
    return Alert(id=new_id(), rule=rule.name, cause=cause, since=since, opened=here.now if due else None)


def _followed(here: Situation, rule: Rule | None, alert: Alert, found: tuple[Rule, Cause] | None) -> Alert:
    """Return an alert as its cause has it now."""
    if alert.closed is not None:
        return alert if rule is not None else replace(alert, done=True)
    if found is None or rule is None:
        untold = rule is None or alert.announced is None or not rule.resolved
        return replace(alert, closed=here.now, done=untold)
    cause = found[1]
    if alert.opened is not None or cause.doubtful:
        return alert
    alert = replace(alert, cause=cause)
    return replace(alert, opened=here.now) if here.due(rule, cause, alert.since) else alert


def _tell(here: Situation, rule: Rule, alert: Alert, decision: Decision) -> Alert:
    """Note what is to be told of an alert; return it as it is afterwards."""
    if alert.opened is None or alert.done:
        return alert
    if alert.closed is not None:
        return _tell_end(here, rule, alert, decision)
    if alert.taken is not None or here.held_back(rule, alert):
        return alert
    if alert.announced is None:
        notice = Notice.OPENED
    elif _again(here, rule, alert):
        notice = Notice.REPEATED
    else:
        return alert
    told = replace(alert, announced=alert.announced or here.now, told=here.now, times=alert.times + 1)
    decision.alerts[told.id] = told
    decision.notices.append(Told(notice, told))
    return told


def _again(here: Situation, rule: Rule, alert: Alert) -> bool:
    if rule.repeat is None or alert.told is None or here.now - alert.told < rule.repeat:
        return False
    return here.rules.opening(rule).holds(here.now, here.zone(alert.cause))


def _tell_end(here: Situation, rule: Rule, alert: Alert, decision: Decision) -> Alert:
    if here.muted(alert):
        return replace(alert, done=True)
    if here.held_back(rule, alert):
        return alert
    done = replace(alert, done=True)
    decision.notices.append(Told(Notice.RESOLVED, done))
    return done
