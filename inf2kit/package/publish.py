"""Publishing a package: first a plan that can be printed, then its execution, the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

from inf2kit.errors import PackageError
from inf2kit.package.contents import Contents
from inf2kit.package.manifest import Entry, Manifest
from inf2kit.package.stores.base import Store, Task, stranger

Progress = Callable[[str], None]

_THREADS = 10
_STEPS = 10
_WORTH_COPYING = 2**20


@dataclass(frozen=True)
class Plan:
    """What publishing would do.

    Attributes:
        where: The package's place.
        digest: Its name.
        whole: Whether it is there already, so that nothing is to be done.
        present: Files of it that are there already.
        copied: Files to copy from another package: that one's digest and the file's name there.
        sent: Files to send.
        bytes_copied: Bytes of the copied files.
        bytes_sent: Bytes of the sent files; a large file that was sent in part counts as a whole.
    """

    where: str
    digest: str
    whole: bool
    present: tuple[str, ...]
    copied: dict[str, tuple[str, str]]
    sent: tuple[str, ...]
    bytes_copied: int
    bytes_sent: int

    def lines(self) -> list[str]:
        """The plan for people."""
        if self.whole:
            return [f"{self.where} is there already, and whole"]
        return [
            f"{self.where}",
            f"  {len(self.present)} files are there already",
            f"  {len(self.copied)} files, {_size(self.bytes_copied)}, to copy from earlier packages",
            f"  {len(self.sent)} files, {_size(self.bytes_sent)}, to send",
        ]


def plan(contents: Contents, store: Store) -> Plan:
    """What is to be done so that ``store`` holds the package.

    Raises:
        PackageError: the store cannot be read, or is no place for a package.
    """
    store.check_writable()
    manifest = contents.manifest
    digest, files = manifest.digest, manifest.files
    if store.manifest(digest) == manifest.to_bytes() and not store.lacking(digest, files):
        return Plan(store.where(digest), digest, True, tuple(files), {}, (), 0, 0)
    present = store.present(digest, files)
    # A small file is sent as quickly as it is copied.
    wanted = {
        name: entry for name, entry in files.items() if name not in present and entry.size > _WORTH_COPYING
    }
    copied = _elsewhere(store, digest, wanted) if wanted else {}
    sent = tuple(name for name in files if name not in present and name not in copied)
    return Plan(
        store.where(digest),
        digest,
        False,
        tuple(sorted(present)),
        copied,
        sent,
        sum(files[name].size for name in copied),
        sum(files[name].size for name in sent),
    )


def publish(contents: Contents, store: Store, progress: Progress = lambda _: None) -> Plan:
    """Make ``store`` hold the package; a run that was killed is taken up where it stopped.

    Args:
        contents: What the package will hold.
        store: Where it goes.
        progress: Told what was planned, and every tenth of the bytes.

    Raises:
        PackageError: something could not be read or written; the package does not look whole then.
    """
    planned = plan(contents, store)
    for line in (*planned.lines(), *store.notes.values()):
        progress(line)
    if planned.whole:
        _refuse_strangers(store, planned.digest, contents.manifest.files)
        # Written again, so that it counts as touched, and is not pruned before it is deployed.
        store.commit(planned.digest, contents.manifest.to_bytes())
        return planned
    digest, files = planned.digest, contents.manifest.files
    try:
        tasks = [store.copy(digest, name, files[name], origin) for name, origin in planned.copied.items()]
        tasks += store.write(digest, {name: contents.hashed(name) for name in planned.sent})
        _run(tasks, progress)
        lacking = store.lacking(digest, files)
        if lacking:
            raise PackageError(
                f"{planned.where}{min(lacking)} is gone, though it was there: somebody prunes meanwhile; "
                "run the same command again"
            )
        _refuse_strangers(store, digest, files)
        store.commit(digest, contents.manifest.to_bytes())
    except PackageError:
        store.abandon(digest)
        raise
    return planned


def _refuse_strangers(store: Store, digest: str, files: Mapping[str, Entry]) -> None:
    """SageMaker would bring along what else is there, and the engine would refuse it on a paid instance."""
    strangers = store.unexpected(digest, files)
    if strangers:
        raise PackageError(
            f"{store.where(digest)}{stranger(min(strangers))}; delete it, and find out whose it is"
        )


def _elsewhere(store: Store, digest: str, wanted: Mapping[str, Entry]) -> dict[str, tuple[str, str]]:
    """Where the wanted files are in other whole packages, really and not by a manifest alone."""
    names: dict[str, list[str]] = {}
    for name, entry in wanted.items():
        names.setdefault(entry.sha256, []).append(name)
    origins: dict[str, tuple[str, str]] = {}
    for package in store.packages():
        if len(origins) == len(wanted):
            break
        content = store.manifest(package.digest) if package.whole and package.digest != digest else None
        if content is None:
            continue
        try:
            other = Manifest.parse(content, store.where(package.digest))
        except PackageError:  # of another version; its files cannot be told
            continue
        same = {name: entry for name, entry in other.files.items() if entry.sha256 in names}
        for origin in store.present(package.digest, same):
            for name in names[same[origin].sha256]:
                origins.setdefault(name, (package.digest, origin))
    return origins


def _run(tasks: list[Task], progress: Progress) -> None:
    """All tasks, some at a time; the first error ends it."""
    tally = _Tally(sum(task.size for task in tasks), progress)
    # The largest first, so that the last ones to end are small.
    waiting = sorted(tasks, key=lambda task: task.size)
    running: set[Future[None]] = set()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        while waiting or running:
            while waiting and len(running) < _THREADS:
                running.add(pool.submit(waiting.pop().run, tally.add))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
    except BaseException as error:
        # A user who stops it does not wait for the pieces on their way, which take minutes on a slow line.
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown()


class _Tally:
    """Counts bytes, and says so every tenth."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._done = self._said = 0
        self._lock = Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            tenth = _STEPS * self._done // max(self._total, 1)
            if tenth > self._said:
                self._said = tenth
                self._progress(f"{_size(self._done)} of {_size(self._total)}")


def _size(count: int) -> str:
    if count >= 10**9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB"
