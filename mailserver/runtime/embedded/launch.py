"""Become an embedded service: drop privileges, die with the parent, then exec.

Run by path as `python -I -S launch.py SPEC`, between fork and exec of a service. A program of its
own instead of a `preexec_fn`: code that runs after fork in a process with threads may meet a lock
that nobody will ever release, and a `preexec_fn` forbids vfork, which copies no page tables. The
price is about 20 ms a start. It imports the standard library only, and everything before the
privileges go: afterwards the interpreter's own files may be out of reach.
"""

import ctypes
import json
import os
import sys
from typing import TypedDict

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8
CAPABILITY_VERSION_3 = 0x20080522  # two 32-bit words a set, capset(2)

ACCESS = {"read": os.R_OK | os.X_OK, "write": os.R_OK | os.W_OK | os.X_OK}


class Spec(TypedDict):
    """What to become; travels as JSON in the one argument."""

    parent: int  # pid that must still be our parent
    death_signal: int  # what the kernel sends us when the parent dies
    user: tuple[int, int] | None  # uid and gid to drop to
    needs: list[tuple[str, str]]  # path, "read" or "write"
    argv: list[str]


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _prctl(option: int, argument: int, second: int = 0) -> None:
    words = [ctypes.c_ulong(word) for word in (argument, second, 0, 0)]
    _check(_libc.prctl(option, *words), f"prctl({option})")


def _permitted() -> int:
    header = _Header(CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    _check(_libc.capget(ctypes.byref(header), sets), "capget")
    return int(sets[0].permitted)


def _set_capabilities(mask: int, inheritable: int = 0) -> None:
    header = _Header(CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    sets[0] = _Sets(mask, mask, inheritable)
    _check(_libc.capset(ctypes.byref(header), sets), "capset")


def _unreachable(needs: list[tuple[str, str]]) -> list[str]:
    """Ask the kernel itself, so that modes, ACLs and mounts all count."""
    return [path for path, how in needs if not os.access(path, ACCESS[how])]


def _keep(capability: int) -> None:
    """Keep one capability across exec, and make access(2) heed it.

    access(2) forgets the capabilities of all but root, and PostgreSQL looks for its own programs
    with it; the secure bit stops that. Setting the bit takes CAP_SETPCAP, for that moment only.
    """
    mask = 1 << capability
    _set_capabilities(mask | 1 << CAP_SETPCAP, inheritable=mask)
    _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    _set_capabilities(mask, inheritable=mask)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def _drop(uid: int, gid: int, needs: list[tuple[str, str]]) -> None:
    """Become `uid`; keep one capability when a needed path lies behind a closed folder.

    The folder keeps its mode: a data directory below /root must not open /root.
    """
    _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)  # clears the effective set, the permitted one stays
    permitted = _permitted()
    # Read and search is enough; containers often have only the wider one.
    held = [c for c in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if permitted & 1 << c]
    if held and permitted & 1 << CAP_SETPCAP and _unreachable(needs):
        _keep(held[0])
    else:
        _set_capabilities(0)


def main(spec: Spec) -> None:
    """Drop to the user, tie our life to the parent's, and exec."""
    if spec["user"] is not None:
        _drop(*spec["user"], spec["needs"])
    missing = _unreachable(spec["needs"])
    if missing:
        raise PermissionError(f"uid {os.geteuid()} cannot use {', '.join(missing)}")
    # After the change of uid, which clears it. It survives exec as long as exec adds no privilege.
    _prctl(PR_SET_PDEATHSIG, spec["death_signal"])
    if os.getppid() != spec["parent"]:  # the parent died before the kernel knew to tell us
        raise ProcessLookupError("the parent process is gone")
    os.execv(spec["argv"][0], spec["argv"])  # noqa: S606 (no shell is the point)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except OSError as error:
        sys.stderr.write(f"cannot start the service: {error}\n")
        sys.exit(127)
