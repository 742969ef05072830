"""Publish a package: first a plan that can be printed, then its execution, which writes the manifest last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

from inf2kit.errors import PackageError
from inf2kit.package.contents import Contents
from inf2kit.package.manifest import Entry, Manifest
from inf2kit.package.stores.base import FileOrigin, Store, Task, describe_unexpected

Progress = Callable[[str], None]

_THREADS = 10
_PROGRESS_REPORTS = 10
#: Bytes. A smaller file is sent as quickly as it is copied.
_MIN_COPY_SIZE = 2**20


@dataclass(frozen=True)
class PublishPlan:
    """What publishing a package will do.

    Attributes:
        contents: The package.
        store: Where it goes.
        is_published: Whether the store holds the whole package already.
        present: Files that the store holds already.
        copied: Files to copy from other packages in the store.
        sent: Files to send; one that was sent in part counts as a whole.
    """

    contents: Contents
    store: Store
    is_published: bool
    present: tuple[str, ...]
    copied: Mapping[str, FileOrigin]
    sent: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The package's digest."""
        return self.contents.manifest.digest

    @property
    def uri(self) -> str:
        """The package's URI or path."""
        return self.store.uri(self.digest)

    @property
    def bytes_copied(self) -> int:
        """Bytes of the files to copy."""
        return sum(self.contents.manifest.files[name].size for name in self.copied)

    @property
    def bytes_sent(self) -> int:
        """Bytes of the files to send."""
        return sum(self.contents.manifest.files[name].size for name in self.sent)

    def lines(self) -> list[str]:
        """Return the plan for ``--dry-run``."""
        if self.is_published:
            return [f"{self.uri} is there already, and whole"]
        return [
            self.uri,
            f"  {len(self.present)} files are there already",
            f"  {len(self.copied)} files, {_format_size(self.bytes_copied)}, to copy from earlier packages",
            f"  {len(self.sent)} files, {_format_size(self.bytes_sent)}, to send",
        ]


def plan(contents: Contents, store: Store) -> PublishPlan:
    """Plan how the store comes to hold the package.

    Raises:
        PackageError: the store cannot be read or written.
    """
    store.check_writable()
    digest, files = contents.manifest.digest, contents.manifest.files
    is_same = store.read_manifest(digest) == contents.manifest.to_bytes()
    if is_same and not store.find_missing(digest, files):
        return PublishPlan(contents, store, True, tuple(files), {}, ())
    present = store.find_present(digest, files)
    large = {
        name: entry for name, entry in files.items() if name not in present and entry.size > _MIN_COPY_SIZE
    }
    copied = _find_origins(store, digest, large) if large else {}
    sent = tuple(name for name in files if name not in present and name not in copied)
    return PublishPlan(contents, store, False, tuple(sorted(present)), copied, sent)


def execute(plan: PublishPlan, progress: Progress = lambda _: None) -> None:
    """Publish the package. After an interruption, a new plan continues where this one stopped.

    Args:
        plan: The plan.
        progress: Called with the plan's lines, and with each tenth of the bytes.

    Raises:
        PackageError: a file cannot be read or written; the package is not whole then.
    """
    store, digest, manifest = plan.store, plan.digest, plan.contents.manifest
    for line in (*plan.lines(), *store.notes.values()):
        progress(line)
    if plan.is_published:
        _check_unexpected(store, digest, manifest.files)
        # Written again, so that the package counts as touched and is not pruned before it is deployed.
        store.commit(digest, manifest.to_bytes())
        return
    try:
        tasks = [
            store.copy_task(digest, name, manifest.files[name], origin)
            for name, origin in plan.copied.items()
        ]
        tasks += store.write_tasks(digest, {name: plan.contents.hashed_file(name) for name in plan.sent})
        _run(tasks, progress)
        missing = store.find_missing(digest, manifest.files)
        if missing:
            raise PackageError(
                f"{plan.uri}{min(missing)} is gone, though it was there: another process prunes meanwhile; "
                "run the same command again"
            )
        _check_unexpected(store, digest, manifest.files)
        store.commit(digest, manifest.to_bytes())
    except PackageError:
        store.abandon(digest)
        raise


def _check_unexpected(store: Store, digest: str, files: Mapping[str, Entry]) -> None:
    """Refuse other files under the digest: the engine would refuse them on a paid instance."""
    unexpected = store.find_unexpected(digest, files)
    if unexpected:
        raise PackageError(
            f"{store.uri(digest)}{describe_unexpected(min(unexpected))}; delete it, and find out whose it is"
        )


def _find_origins(store: Store, digest: str, files: Mapping[str, Entry]) -> dict[str, FileOrigin]:
    """Find the same files in other whole packages. Each file is looked up, not only its manifest's entry."""
    names: dict[str, list[str]] = {}
    for name, entry in files.items():
        names.setdefault(entry.sha256, []).append(name)
    origins: dict[str, FileOrigin] = {}
    for package in store.list_stored():
        if len(origins) == len(files):
            break
        content = store.read_manifest(package.digest) if package.whole and package.digest != digest else None
        if content is None:
            continue
        try:
            other = Manifest.parse(content, store.uri(package.digest))
        except PackageError:  # of another version, whose manifest this one cannot read
            continue
        same = {name: entry for name, entry in other.files.items() if entry.sha256 in names}
        for other_name in store.find_present(package.digest, same):
            for name in names[same[other_name].sha256]:
                origins.setdefault(name, FileOrigin(package.digest, other_name))
    return origins


def _run(tasks: list[Task], progress: Progress) -> None:
    """Run the tasks in threads; the first error ends all."""
    counter = _ByteCounter(sum(task.size for task in tasks), progress)
    # Taken from the end, so that the largest start first and the last ones to end are small.
    waiting = sorted(tasks, key=lambda task: task.size)
    running: set[Future[None]] = set()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        while waiting or running:
            while waiting and len(running) < _THREADS:
                running.add(pool.submit(waiting.pop().run, counter.add))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
    except BaseException as error:
        # Ctrl-C and SIGTERM do not wait for the parts that are being sent, which take minutes on a slow line.
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()


class _ByteCounter:
    """Counts written bytes, and reports each tenth of them."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._written = self._reported_tenths = 0
        self._lock = Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._written += count
            tenths = _PROGRESS_REPORTS * self._written // max(self._total, 1)
            if tenths > self._reported_tenths:
                self._reported_tenths = tenths
                self._progress(f"{_format_size(self._written)} of {_format_size(self._total)}")


def _format_size(count: int) -> str:
    if count >= 10**9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB"
