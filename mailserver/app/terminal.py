"""The terminal that a person started the server at: when it is closed the server stops."""

import os
import signal


def is_there() -> bool:
    """Tell whether this process has a controlling terminal now."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def is_followed() -> bool:
    """Tell whether its end is ours; `nohup` makes us ignore the signal that tells of it."""
    return is_there() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
