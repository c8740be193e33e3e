"""What `alerts.yaml` says of a channel, and where its secrets are: in a file or in the environment."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from email.errors import HeaderParseError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dashboard.pages.language import catalogues
from edge_agent.contracts.address import address_from_url
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.yamlfile import Section

KEY_PREFIX = "whsec_"

_LEAST_KEY, _MOST_KEY = 24, 512
_MOST_SECRET = 16 * 1024


class Secret(Section):
    """Where a secret is; it never stands in the file itself."""

    file: Path | None = None
    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if (self.file is None) == (self.env is None):
            msg = "expected either file or env; received " + ("neither" if self.file is None else "both")
            raise ValueError(msg)
        return self

    def read(self, folder: Path, environment: Mapping[str, str]) -> str:
        """Return the secret.

        Args:
            folder: What a file is relative to.
            environment: Of this process.

        Raises:
            ValueError: It is not there, or empty; nothing of it is told.
        """
        if self.file is not None:
            try:
                with (folder / self.file).open(encoding="utf-8") as file:
                    found = file.read(_MOST_SECRET).strip()
            except (OSError, UnicodeDecodeError) as exc:
                told = exc.strerror if isinstance(exc, OSError) else "no text"
                msg = f"expected a file with the secret; received {self.file}: {told}"
                raise ValueError(msg) from exc
        else:
            found = environment.get(self.env or "", "").strip()
        if not found:
            msg = f"expected a secret in {self.file or self.env}; received nothing"
            raise ValueError(msg)
        return found


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    wrong = (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.username is not None
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    )
    if wrong or parts.port == 0:
        # Of the rest nothing is shown: such an address often carries a secret.
        msg = "expected an address like https://host/path, without a password; received another text"
        raise ValueError(msg)
    return text


def _mail_address(text: str) -> str:
    try:
        found = Address(addr_spec=text)
    except (HeaderParseError, ValueError, IndexError) as exc:
        msg = f"expected an address like mei@shop.example; received {text!r}"
        raise ValueError(msg) from exc
    if not found.domain or not text.isascii() or not text.isprintable():
        msg = f"expected an address like mei@shop.example; received {text!r}"
        raise ValueError(msg)
    return text


def _broker(text: str) -> str:
    try:
        address = address_from_url(text)
    except UsageError as exc:
        msg = "expected a broker like mqtts://host:8883; received another text"
        raise ValueError(msg) from exc
    if address.password is not None:
        msg = "expected the password in `password`; received one in the address"
        raise ValueError(msg)
    return text


def _language(code: str) -> str:
    if code not in catalogues():
        msg = f"expected one of {', '.join(catalogues())}; received {code!r}"
        raise ValueError(msg)
    return code


def _many(value: object) -> object:
    return [value] if isinstance(value, str) else value


MailAddress = Annotated[str, AfterValidator(_mail_address)]
_Seconds = Annotated[float, Field(gt=0, le=60)]


class Webhook(Section):
    """A program that is asked over HTTP.

    Args:
        url: Where.
        key: What requests are signed with: `whsec_` and base64, one on each line while keys are exchanged.
        ca: Whom to trust instead of the machine's authorities.
        timeout_s: How long an answer may take in all.
    """

    url: Annotated[str, AfterValidator(_web_address)]
    key: Secret
    ca: Path | None = None
    timeout_s: _Seconds = 10.0


class Mail(Section):
    """People who are written to.

    Args:
        host: The server that takes the mail.
        port: 587 for `starttls`, 465 for `implicit`, 25 for `none`, unless it says otherwise.
        tls: How the connection is protected.
        ca: Whom to trust instead of the machine's authorities.
        username: To log in with.
        password: The same.
        sender: Whom it comes from.
        to: Whom it goes to.
        language: In which it is written.
        timeout_s: How long the server may take for each step.
    """

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca: Path | None = None
    username: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    password: Secret | None = None
    sender: MailAddress
    to: Annotated[tuple[MailAddress, ...], BeforeValidator(_many), Field(min_length=1, max_length=50)]
    language: Annotated[str, AfterValidator(_language)] = "en"
    timeout_s: _Seconds = 20.0

    @model_validator(mode="after")
    def _whole(self) -> "Mail":
        if (self.username is None) != (self.password is None):
            msg = "expected username and password together; received one of them"
            raise ValueError(msg)
        if self.password is not None and self.tls == "none":
            msg = "expected tls as starttls or implicit where there is a password; received none"
            raise ValueError(msg)
        return self


class Mqtt(Section):
    """A broker.

    Args:
        broker: `mqtt://host:port`, or mqtts for TLS.
        username: To log in with.
        password: The same.
        ca: Of the broker's certificate; with certificate and key.
        certificate: Our own: another one than the recorder's, for a broker lets one of a name in at a time.
        key: Its key.
        client_id: How we are called there; left out: a name of its own each time.
        timeout_s: How long the broker may take.
    """

    broker: Annotated[str, AfterValidator(_broker)]
    username: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    password: Secret | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    timeout_s: _Seconds = 10.0

    @model_validator(mode="after")
    def _whole(self) -> "Mqtt":
        if (self.username is None) != (self.password is None):
            msg = "expected username and password together; received one of them"
            raise ValueError(msg)
        files = [name for name in ("ca", "certificate", "key") if getattr(self, name) is not None]
        if files and (len(files) < 3 or not self.broker.startswith("mqtts:")):  # noqa: PLR2004 - all of them
            msg = f"expected ca, certificate and key together, and mqtts://; received {', '.join(files)}"
            raise ValueError(msg)
        return self


def secrets_of(settings: Webhook | Mail | Mqtt) -> Iterator[tuple[str, Secret]]:
    """Yield the secrets that a channel has, with their names."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Secret):
            yield name, value


def signing_keys(secret: str) -> list[bytes]:
    """Return the keys that stand on the lines of a secret.

    Raises:
        ValueError: One of them is none; nothing of it is told.
    """
    keys = []
    for line in secret.split():
        try:
            key = base64.b64decode(line.removeprefix(KEY_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not line.startswith(KEY_PREFIX) or not _LEAST_KEY <= len(key) <= _MOST_KEY:
            msg = f"expected {KEY_PREFIX} and base64 of at least {_LEAST_KEY} bytes; received something else"
            raise ValueError(msg)
        keys.append(key)
    return keys
