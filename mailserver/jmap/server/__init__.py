"""The ASGI application: JMAP and the web face on one listener."""

from mailserver.jmap.server.application import Application, application

__all__ = ["Application", "application"]
