"""What the server uses of aiosmtpd's private surface is still there."""

import inspect
from importlib.metadata import version

from aiosmtpd import smtp


def test_the_pinned_version_has_what_the_server_uses() -> None:
    assert version("aiosmtpd") == "1.4.6"
    source = inspect.getsource(smtp.SMTP)
    for name in (
        "_reader",
        "_writer",
        "_timeout_handle",
        "_tls_protocol",
        "_original_transport",
        "_handler_coroutine",
        "_handle_hooks",
    ):
        assert f"self.{name}" in source, name
    made = inspect.getsource(smtp.SMTP.connection_made)
    assert "self._reader._buffer.clear()" in made  # nothing said before TLS is heard after it
    assert "self._reset_timeout()" in made
    assert "create_task" in made
    assert "set_protocol" in inspect.getsource(smtp.SMTP.smtp_STARTTLS)
