"""What an e-mail looks like: plain text and HTML from templates, and its headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from notifications.domain import Email, Template, message_id
from tidings.terminal import is_unsafe

_SUBJECTS: Mapping[Template, str] = {
    "orderConfirmed": "Your order is confirmed",
    "orderCancelled": "Your order was cancelled",
    "orderCompleted": "Enjoy your pizza",
}
# What templates may ask for. Whatever a command leaves out is empty, and the template does without.
_PARAMETERS = ("name", "items", "total", "fulfilment", "address", "explanation")

LONGEST = 4000
"""Characters of a parameter; 100 kinds of pizza have fewer."""
_DOMAIN = re.compile(r"[.\u3002\uff0e\uff61](?=[^\W\d_])")
"""A dot before a letter: mail programs make a link of `evil.example`, and none of `evil. example`."""

_templates = Environment(
    loader=PackageLoader("notifications"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def plain(text: str) -> str:
    """Take from a text what could become a link, another line or hidden in a mail program: customers type names."""
    shown = "".join(" " if is_unsafe(each) else each for each in text[:LONGEST])
    apart = _DOMAIN.sub(". ", shown.replace("://", " ").replace("@", " at "))
    return " ".join(apart.split())


def compose(email: Email, sender: str) -> EmailMessage:
    """Write an e-mail; the same one each time, but for the boundary between its parts."""
    given = {name: plain(value) for name, value in email.parameters.items()}
    values = {**dict.fromkeys(_PARAMETERS, ""), **given, "order_id": plain(email.order_id)}
    subject = _SUBJECTS[email.template]
    message = EmailMessage()
    message["From"] = sender
    message["To"] = email.to
    message["Subject"] = subject
    message["Date"] = format_datetime(email.asked_at)
    message["Message-ID"] = message_id(email.email_id, parseaddr(sender)[1].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office note, please
    message["X-Order-Id"] = plain(email.order_id)
    message.set_content(_templates.get_template(f"{email.template}.txt").render(values))
    html = _templates.get_template(f"{email.template}.html").render(values, subject=subject)
    message.add_alternative(html, subtype="html")
    return message
