"""What a process can be put under before it begins: a host's name, few descriptors or processes, a full /dev/shm."""

import ctypes
import os
import pathlib
import resource
import socket
import subprocess

CLONE_NEWNS, CLONE_NEWUTS = 0x00020000, 0x04000000
_PR_CAPBSET_DROP, _SYS_CAPSET = 24, 126  # of x86-64
_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 21, 24


def allowed() -> str:
    """Why conditions cannot be made here; "" if they can."""
    if os.geteuid() or os.uname().machine != "x86_64" or os.uname().sysname != "Linux":
        return "the campaign takes root on Linux for x86-64: host names and mounts of its own"
    return ""


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def name_host(name: str) -> None:
    """This process and those it starts are on a host of that name."""
    _check(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUTS))
    socket.sethostname(name)


def empty_shared_memory(options: str = "mode=1777") -> None:
    """This process and those it starts see a /dev/shm of their own, so that what is in it afterwards is theirs."""
    _check(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS))
    for command in ("mount --make-rprivate /", f"mount -t tmpfs -o {options} tmpfs /dev/shm"):
        subprocess.run(command.split(), check=True)


def fill_shared_memory() -> None:
    """This process and those it starts see a /dev/shm without room."""
    empty_shared_memory("size=4k,nr_inodes=3")
    for number in range(2):
        pathlib.Path(f"/dev/shm/full-{number}").write_bytes(bytes(2048 if number == 0 else 0))


def limit_files(most: int) -> None:
    """ulimit -n."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def limit_processes(most: int, user: int) -> None:
    """ulimit -u. The system lets root have any number, so this process becomes another user's, without the rights that
    lift the limit; what it may read and write stays."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    for right in (_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE):
        _check(libc.prctl(_PR_CAPBSET_DROP, right, 0, 0, 0))
    os.setresuid(user, 0, 0)
    kept = ((1 << 41) - 1) & ~(1 << _CAP_SYS_ADMIN) & ~(1 << _CAP_SYS_RESOURCE)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(libc.syscall(_SYS_CAPSET, ctypes.byref(header), ctypes.byref(data)))
