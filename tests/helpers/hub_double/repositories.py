"""What the double of the hub holds: accounts with their tokens, repositories with their commits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The suffixes of files that the hub keeps as LFS objects, by the ``.gitattributes`` of a new repository.
_LFS = (".safetensors", ".bin", ".pt", ".pth", ".model", ".gguf", ".neff")


@dataclass(frozen=True)
class Account:
    """An account of the hub, and its token's rights.

    Attributes:
        name: The account's name.
        role: ``read`` or ``write``, of its token.
        organizations: Organizations that it may write to.
        expired: Whether its token has expired.
    """

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()
    expired: bool = False


@dataclass
class Repository:
    """A repository with its commits.

    Attributes:
        name: ``OWNER/NAME``.
        kind: ``model`` or ``dataset``.
        private: Whether only its owner may see it.
        gated: Whether only accounts in ``readers`` may read its files.
        readers: Names of accounts.
        sizes: Bytes that the list of files says of a file, where it lies.
        commits: Files by their paths, by commit.
        refs: Commits by branch and tag.
    """

    name: str
    kind: str = "model"
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Add files in a new commit, and return its id."""
        parent = self.refs.get(branch, "")
        content = {**self.commits.get(parent, {}), **files}
        digest = hashlib.sha1(f"{self.name} {parent}".encode())  # noqa: S324 - git's own
        for path, data in sorted(content.items()):
            digest.update(path.encode() + hashlib.sha256(data).digest())
        self.commits[digest.hexdigest()] = content
        self.refs[branch] = digest.hexdigest()
        return digest.hexdigest()

    def resolve(self, revision: str) -> str | None:
        """Return the commit of a branch, a tag or a commit."""
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None

    def may_see(self, account: Account | None) -> bool:
        """Whether an account may know that the repository exists."""
        return not self.private or self.may_write(account)

    def may_read(self, account: Account | None) -> bool:
        """Whether an account may read the files."""
        return not self.gated or (account is not None and account.name in self.readers)

    def may_write(self, account: Account | None) -> bool:
        """Whether the account owns the repository, or is in the organization that does."""
        owner = self.name.partition("/")[0]
        return account is not None and owner in (account.name, *account.organizations)

    def describe(self, commit: str, *, with_sizes: bool) -> dict[str, Any]:
        """Return the hub's description of the repository at a commit."""
        siblings = [
            describe_file(path, data) if with_sizes else {"rfilename": path}
            for path, data in self.commits[commit].items()
        ]
        for entry in siblings:
            entry["size"] = self.sizes.get(entry["rfilename"], entry.get("size"))
        return {
            "_id": "0" * 24,
            "id": self.name,
            "modelId": self.name,
            "sha": commit,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "xetEnabled": False,
            "siblings": siblings,
        }


def is_lfs(path: str) -> bool:
    """Whether the hub keeps a file as an LFS object."""
    return path.endswith(_LFS)


def etag(path: str, data: bytes) -> str:
    """Return the hub's ETag of a file: the sha256 of an LFS object, the id of a blob of git."""
    if is_lfs(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - git's own


def describe_file(path: str, data: bytes) -> dict[str, Any]:
    """Return an entry of a model's list of files."""
    entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": etag("", data)}
    if is_lfs(path):
        entry["lfs"] = {"sha256": etag(path, data), "size": len(data), "pointerSize": 134}
    return entry


def describe_tree(path: str, data: bytes) -> dict[str, Any]:
    """Return an entry of a tree."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": etag("", data)}
    if is_lfs(path):
        entry["lfs"] = {"oid": etag(path, data), "size": len(data), "pointerSize": 134}
    return entry
