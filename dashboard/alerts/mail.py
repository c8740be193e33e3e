"""Letters: one for everything that there is to tell at a moment, as text and as HTML."""

import contextlib
import smtplib
from collections.abc import Iterator
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from dashboard.alerts import wording
from dashboard.alerts.channels import Mail
from dashboard.alerts.sending import AwayError, RefusedError, Send, within
from dashboard.alerts.telling import Message
from dashboard.alerts.webhook import trusting, why
from dashboard.pages.frame import TEMPLATES
from dashboard.pages.language import catalogues

_PORTS = {"starttls": 587, "implicit": 465, "none": 25}
_STEPS = 3
_PERMANENT = 500


def letter(settings: Mail, message: Message, page: str | None, now: datetime) -> EmailMessage:
    """Return the letter that a message is.

    Args:
        settings: Of the channel.
        message: What to tell.
        page: Address of the pages.
        now: The present moment.
    """
    spoken = catalogues()[settings.language]
    shown = [wording.line(spoken, item, page) for item in message.items[: wording.MOST_SHOWN]]
    more = len(message.items) - len(shown)
    told = EmailMessage(policy=SMTP)
    told["Subject"] = wording.subject(spoken, message.items)
    told["From"] = settings.sender
    told["To"] = ", ".join(settings.to)
    told["Date"] = format_datetime(now)
    # The same each time that it is tried: most servers keep one of several.
    told["Message-ID"] = f"<{message.key}@{Address(addr_spec=settings.sender).domain}>"
    told["Auto-Submitted"] = "auto-generated"
    told["Content-Language"] = spoken.code
    lines = [
        "\n".join(
            filter(
                None,
                (
                    f"{one.notice}: {one.title}",
                    f"  {one.place}",
                    f"  {one.when}",
                    one.link and f"  {one.link}",
                ),
            )
        )
        for one in shown
    ]
    rest = [spoken.say("alerts.more", n=more)] if more else []
    told.set_content("\n\n".join([*lines, *rest]) + "\n")
    template = TEMPLATES.get_template("alert_mail.html")
    html = template.render(t=spoken.say, language=spoken.code, lines=shown, more=more, title=told["Subject"])
    told.add_alternative(html, subtype="html")
    return told


class MailChannel:
    """Hands letters to one server.

    Args:
        settings: Of `alerts.yaml`.
        password: To log in with; None: without.
        folder: What files are relative to.
        page: Address of the pages.
    """

    def __init__(self, settings: Mail, password: str | None, folder: Path, page: str | None) -> None:
        self._settings, self._password, self._page = settings, password, page
        self._context = None if settings.tls == "none" else trusting(settings.ca, folder)

    @contextlib.contextmanager
    def session(self) -> Iterator[Send]:
        """Give what sends over one connection.

        Raises:
            AwayError: The server is not there, or does not let us in.
        """
        patience = self._settings.timeout_s
        try:
            server = self._server()
        except (OSError, ValueError, smtplib.SMTPException) as exc:
            raise self._away(exc) from exc
        try:
            with within(_STEPS * patience, lambda: server.sock):
                self._enter(server)
        except (OSError, smtplib.SMTPException) as exc:
            server.close()
            raise self._away(exc) from exc

        def send(message: Message, now: datetime) -> str:
            with within(_STEPS * patience, lambda: server.sock):
                return self._send(server, message, now)

        try:
            yield send
        finally:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                server.quit()
            server.close()

    def _server(self) -> smtplib.SMTP:
        settings = self._settings
        port, patience = settings.port or _PORTS[settings.tls], settings.timeout_s
        if settings.tls == "implicit":
            return smtplib.SMTP_SSL(settings.host, port, timeout=patience, context=self._context)
        return smtplib.SMTP(settings.host, port, timeout=patience)

    def _enter(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if self._settings.tls == "starttls":
            server.starttls(context=self._context)
            server.ehlo()
        if self._settings.username is not None and self._password is not None:
            server.login(self._settings.username, self._password)

    def _away(self, exc: Exception) -> AwayError:
        return AwayError(f"Expected: {self._settings.host} lets us in. Received: {_why(exc)}.")

    def _send(self, server: smtplib.SMTP, message: Message, now: datetime) -> str:
        told = letter(self._settings, message, self._page, now)
        try:
            refused = server.send_message(told, self._settings.sender, self._settings.to)
        except smtplib.SMTPRecipientsRefused as exc:
            raise _failed(max(code for code, _ in exc.recipients.values()), exc) from exc
        except smtplib.SMTPSenderRefused as exc:
            # About us, not about this letter.
            raise self._away(exc) from exc
        except smtplib.SMTPResponseException as exc:
            raise _failed(exc.smtp_code, exc) from exc
        except (OSError, smtplib.SMTPException) as exc:
            raise AwayError(f"Expected: the letter is taken. Received: {_why(exc)}.") from exc
        if refused:
            # Those who have it must not get it again.
            return f"taken, but not for {', '.join(sorted(refused))}"
        return f"taken for {len(self._settings.to)}"


def _failed(code: int, exc: smtplib.SMTPException) -> AwayError | RefusedError:
    told = f"Expected: the letter is taken. Received: {_why(exc)}."
    return RefusedError(told) if code >= _PERMANENT else AwayError(told)


def _why(exc: Exception) -> str:
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        return "; ".join(f"{code} {_text(said)} ({who})" for who, (code, said) in exc.recipients.items())[
            :200
        ]
    if isinstance(exc, smtplib.SMTPResponseException):
        return f"{exc.smtp_code} {_text(exc.smtp_error)}"[:200]
    return why(exc)


def _text(said: bytes | str) -> str:
    return wording.plain(said.decode("utf-8", "replace") if isinstance(said, bytes) else said)
