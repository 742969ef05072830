"""Create the root folder of a faithful container, then become its process 1.

The keeper runs this as ``python -m inf2kit.rehearsal.container.rootfs PLAN`` in new namespaces of mounts,
processes and host name. The container sees the programs of this machine, read-only, and nothing else of it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import sys
from pathlib import Path

from inf2kit.rehearsal.container import entrypoint
from inf2kit.rehearsal.container.namespaces import Plan

#: From linux/mount.h.
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
#: Docker's default.
_SHM = "size=64m,mode=1777"
#: The soft and hard limit of open files. SageMaker's are not documented; few container hosts have less.
_OPEN_FILES = (1024, 4096)
_HOST_NAME = "container-0"
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nmodel-server:x:1000:1000::/home/model-server:/bin/sh\n",
    "group": "root:x:0:\nmodel-server:x:1000:\n",
    # Without the name of the host, as in a container without a network.
    "hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    "hostname": f"{_HOST_NAME}\n",
    "resolv.conf": "",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MONITOR = (
    "#!/bin/sh\n# In place of the image's monitor, which does nothing unless it is configured.\nexit 0\n"
)
_libc = ctypes.CDLL(None, use_errno=True)


def create_root(plan: Plan) -> Path:
    """Create the root folder of a plan, and return it."""
    root = Path(plan.root)
    _mount("none", Path("/"), None, _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", 0, "mode=755")
    _mount_programs(root, plan)
    _create_etc(root / "etc")
    _create_devices(root / "dev")
    for name in ("proc", "sys", "run", "root", "var/tmp", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    _mount("proc", root / "proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    _bind(Path("/sys"), root / "sys")
    (root / "tmp").chmod(0o1777)
    (root / "neuron-monitor.sh").write_text(_MONITOR, encoding="utf-8")
    (root / "neuron-monitor.sh").chmod(0o755)
    shutil.copyfile(entrypoint.__file__, root / "dockerd-entrypoint.py")
    _bind(Path(plan.model_dir), root / "opt/ml/model")
    _bind(Path(plan.scratch), root / "home/model-server/tmp", read_only=False)
    bytecode = root / plan.variables.get("PYTHONPYCACHEPREFIX", "/var/bytecode").lstrip("/")
    _bind(Path(plan.bytecode), bytecode, read_only=False)
    # All packages are at /opt/ml, so the compiled modules of one must not be used for another.
    (bytecode / "opt" / "ml").mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", bytecode / "opt" / "ml", "tmpfs", 0)
    return root


def _mount_programs(root: Path, plan: Plan) -> None:
    _bind(Path("/usr"), root / "usr")
    for path in map(Path, ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")):
        if path.is_symlink():
            (root / path.name).symlink_to(path.readlink())
        elif path.is_dir():
            _bind(path, root / path.name)
    _bind(Path(plan.python.prefix), root / "opt/conda")
    # Scripts and links refer to these by their own paths. Sorted, so that outer folders come first.
    folders = [plan.python.prefix, plan.python.base_prefix, *plan.python.packages, plan.java_home]
    for folder in sorted({*folders, *map(os.path.realpath, folders)}):
        if not (root / folder.lstrip("/")).exists():
            _bind(Path(folder), root / folder.lstrip("/"))
    for name in ("lib", "bin"):
        (root / "opt/aws/neuron" / name).mkdir(parents=True)
    # The image's library path starts here and continues with the system's, which may have another libpython.
    for library in Path(plan.python.base_prefix, "lib").glob("libpython*.so*"):
        (root / "opt/aws/neuron/lib" / library.name).symlink_to(library)
    # On the image's PATH, because the image has no JAVA_HOME.
    (root / "opt/aws/neuron/bin/java").symlink_to(f"{plan.java_home}/bin/java")


def _create_etc(etc: Path) -> None:
    etc.mkdir()
    for name, text in _ETC.items():
        (etc / name).write_text(text, encoding="utf-8")
    for path in (Path("/etc/ld.so.cache"), Path("/etc/ssl"), Path("/etc/alternatives")):
        if path.is_dir():
            _bind(path, etc / path.name)
        elif path.exists():
            shutil.copyfile(path, etc / path.name)


def _create_devices(dev: Path) -> None:
    dev.mkdir()
    for name in _DEVICES:
        (dev / name).touch()
        _mount(f"/dev/{name}", dev / name, None, _BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (dev / name).symlink_to(f"/proc/self/fd{target}")
    (dev / "shm").mkdir()
    _mount("shm", dev / "shm", "tmpfs", _NOSUID | _NODEV | _NOEXEC, _SHM)


def _bind(source: Path, target: Path, *, read_only: bool = True) -> None:
    target.mkdir(parents=True, exist_ok=True)
    _mount(str(source), target, None, _BIND | _REC)
    if read_only:
        # The kernel refuses to drop a restriction that the source's mount has.
        inherited = os.statvfs(target).f_flag & (_NOSUID | _NODEV | _NOEXEC | os.ST_NOATIME | os.ST_RELATIME)
        atime = {os.ST_NOATIME: 1024, os.ST_RELATIME: 1 << 21}
        flags = inherited & (_NOSUID | _NODEV | _NOEXEC)
        flags |= sum(value for name, value in atime.items() if inherited & name)
        _mount("none", target, None, _REMOUNT | _BIND | _RDONLY | flags)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, str(target), kind)]
    if _libc.mount(*encoded, ctypes.c_ulong(flags), None if options is None else options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (mounting {source})", str(target))


def main(plan_json: str) -> None:
    """Create the container of a plan, which is a ``namespaces.Plan`` as JSON, and become its process 1."""
    plan = Plan.from_json(plan_json)
    os.chroot(create_root(plan))
    os.chdir("/")
    socket.sethostname(_HOST_NAME)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = [limit if hard == resource.RLIM_INFINITY else min(limit, hard) for limit in _OPEN_FILES]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0], limits[1]))
    os.umask(0o022)
    os.execve("/opt/conda/bin/python", ["python", "/dockerd-entrypoint.py", "serve"], plan.variables)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1])
