"""Composition of e-mails: headers, and plain text and HTML from templates."""

import re
from collections.abc import Mapping
from email.headerregistry import BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from notifications.domain import Email, Template, message_id
from tidings.terminal import is_unsafe

_SUBJECTS: Mapping[Template, str] = {
    "orderConfirmed": "Your order is confirmed",
    "orderCancelled": "Your order was cancelled",
    "orderCompleted": "Enjoy your pizza",
}
# Parameters of the templates. Those missing in a command are rendered as empty.
_PARAMETERS = ("name", "items", "total", "fulfilment", "address", "explanation")

MAX_PARAMETER = 4000
"""Characters of a parameter; an order of 100 kinds of pizza has fewer."""
_DOMAIN = re.compile(r"[.\u3002\uff0e\uff61](?=[^\W\d_])")
"""A dot before a letter: mail programs turn `evil.example` into a link, but not `evil. example`."""


class _HeaderClasses(HeaderRegistry):
    """The standard registry, which creates a new class for every header of every message, with one class per name."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[str, type[BaseHeader]] = {}

    def __getitem__(self, name: str) -> type[BaseHeader]:
        if name not in self._classes:
            self._classes[name] = super().__getitem__(name)
        return self._classes[name]


_POLICY = SMTP.clone(header_factory=_HeaderClasses())
_templates = Environment(
    loader=PackageLoader("notifications"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def plain(text: str) -> str:
    """Return a text without anything that a mail program could show as a link, a new line or hidden text.

    Customers type the names and addresses that end up in e-mails.
    """
    visible = "".join(" " if is_unsafe(character) else character for character in text[:MAX_PARAMETER])
    without_links = _DOMAIN.sub(". ", visible.replace("://", " ").replace("@", " at "))
    return " ".join(without_links.split())


def compose(email: Email, sender: str) -> EmailMessage:
    """Compose an e-mail. The result is the same each time, except for the MIME boundary."""
    parameters = {name: plain(value) for name, value in email.parameters.items()}
    values = {**dict.fromkeys(_PARAMETERS, ""), **parameters, "order_id": plain(email.order_id)}
    subject = _SUBJECTS[email.template]
    message = EmailMessage(_POLICY)
    message["From"] = sender
    message["To"] = email.to
    message["Subject"] = subject
    message["Date"] = format_datetime(email.asked_at)
    message["Message-ID"] = message_id(email.email_id, parseaddr(sender)[1].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: suppresses out-of-office replies
    message["X-Order-Id"] = plain(email.order_id)
    message.set_content(_templates.get_template(f"{email.template}.txt").render(values))
    html = _templates.get_template(f"{email.template}.html").render(values, subject=subject)
    message.add_alternative(html, subtype="html", cte="base64")  # quoted-printable takes more CPU time
    return message
