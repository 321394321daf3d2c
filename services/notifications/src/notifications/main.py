"""ASGI application of the notifications service: `uvicorn notifications.main:app`."""

from notifications.adapters.smtp import SmtpMailer
from notifications.api import router
from notifications.handlers import handlers, queue
from notifications.settings import settings
from tidings import Service
from tidings.fastapi import create_app

_queue = queue(SmtpMailer(settings()), settings().concurrency, settings().patience)
service = Service("notifications", [*handlers, *_queue])
app = create_app(service, [router], description=__doc__)
