"""The double's answers, by the hub's addresses, headers and error codes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.helpers.hub_double.repositories import (
    Account,
    Repository,
    describe_tree,
    etag,
    is_lfs,
)

if TYPE_CHECKING:
    from tests.helpers.hub_double.server import HubDouble

_EXPIRED = 'User Access Token "laptop" is expired'
_UNKNOWN_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - the hub's own sentence


@dataclass(frozen=True)
class Request:
    """A call, read whole."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """Return the body, which is a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True)
class Answer:
    """What the double answers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class RefusedError(Exception):
    """An answer that is an error, with the hub's code for it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        super().__init__(message)
        self.answer = _to_json({"error": message}, status, headers)


def answer_call(hub: HubDouble, request: Request) -> Answer:
    """Answer a call."""
    for old, new in hub.renamed.items():
        if f"{old}/" in f"{request.path}/":
            return Answer(307, {"Location": request.path.replace(old, new, 1)})
    try:
        for method, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and request.method in method:
                groups = {name: text and unquote(text) for name, text in match.groupdict().items()}
                return function(hub, request, **groups)
        raise RefusedError(404, f"the double has no answer for {request.method} {request.path}")
    except RefusedError as refusal:
        return refusal.answer


def _account(hub: HubDouble, request: Request) -> Account | None:
    """Return the caller's account. A wrong token is refused for everything, as by the hub."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    account = hub.accounts.get(header.removeprefix("Bearer "))
    if account is None:
        raise RefusedError(401, _UNKNOWN_TOKEN)
    if account.expired:
        raise RefusedError(401, _EXPIRED)
    return account


def _repository(
    hub: HubDouble, request: Request, name: str, kind: str = "model"
) -> tuple[Repository, Account | None]:
    account = _account(hub, request)
    repository = hub.repositories.get(name)
    if repository is None or repository.kind != kind or not repository.may_see(account):
        if account is None:  # the hub does not tell strangers what there is not
            raise RefusedError(401, "Invalid username or password.")
        raise RefusedError(404, "Repository not found", "RepoNotFound")
    return repository, account


def _commit(repository: Repository, revision: str) -> str:
    commit = repository.resolve(revision)
    if commit is None:
        raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def _info(hub: HubDouble, request: Request, name: str, kind: str = "model", revision: str = "main") -> Answer:
    repository, _ = _repository(hub, request, name, kind)
    commit = _commit(repository, revision)
    return _to_json(repository.describe(commit, with_sizes="blobs" in request.query))


def _tree(hub: HubDouble, request: Request, name: str, revision: str, folder: str | None = None) -> Answer:
    repository, _ = _repository(hub, request, name)
    files = repository.commits[_commit(repository, revision)]
    below = {path: data for path, data in files.items() if not folder or path.startswith(f"{folder}/")}
    if folder and not below:
        raise RefusedError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    return _to_json([describe_tree(path, data) for path, data in below.items()])


def _resolve(hub: HubDouble, request: Request, name: str, revision: str, path: str) -> Answer:
    repository, account = _repository(hub, request, name)
    commit = _commit(repository, revision)
    if not repository.may_read(account):
        message = f"Access to model {name} is restricted"
        if account is None:
            raise RefusedError(401, f"{message}. You must be authenticated to access it.", "GatedRepo")
        raise RefusedError(403, f"{message} and you are not in the authorized list.", "GatedRepo")
    data = repository.commits[commit].get(path)
    headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if data is None:
        refusal = RefusedError(404, "Entry not found", "EntryNotFound").answer
        return Answer(refusal.status, {**refusal.headers, **headers}, refusal.body)
    tag = f'"{etag(path, data)}"'
    if not is_lfs(path):
        return _content(request, data, {**headers, "ETag": tag})
    # Another host, to which the client must not send its token.
    host = f"http://localhost:{hub.url.rpartition(':')[2]}"
    linked = {"X-Linked-ETag": tag, "X-Linked-Size": str(len(data))}
    hub.objects[etag(path, data)] = data
    return Answer(302, {**headers, **linked, "Location": f"{host}/cdn/{etag(path, data)}"})


def _cdn(hub: HubDouble, request: Request, oid: str) -> Answer:
    if "authorization" in request.headers:
        raise RefusedError(400, "the token was sent to another host")
    return _content(request, hub.objects[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})


def _content(request: Request, data: bytes, headers: dict[str, str]) -> Answer:
    """Return a file, or the rest of it from where the caller's range begins."""
    match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    if match is None:
        return Answer(200, headers, data)
    start = int(match[1])
    if start >= len(data):
        return Answer(416, {**headers, "Content-Range": f"bytes */{len(data)}"})
    headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    return Answer(206, headers, data[start:])


def _whoami(hub: HubDouble, request: Request) -> Answer:
    account = _account(hub, request)
    if account is None:
        raise RefusedError(401, "Invalid username or password.")
    organizations = [{"name": name, "roleInOrg": "write"} for name in account.organizations]
    token = {"displayName": "laptop", "role": account.role}
    auth = {"type": "access_token", "accessToken": token}
    return _to_json({"type": "user", "name": account.name, "orgs": organizations, "auth": auth})


def _create(hub: HubDouble, request: Request) -> Answer:
    values, account = request.json(), _account(hub, request)
    owner = values.get("organization") or (account.name if account else "")
    repository = Repository(f"{owner}/{values['name']}", private=bool(values.get("private")))
    _check_write(repository, account)
    url = {"url": f"{hub.url}/{repository.name}", "name": repository.name}
    if repository.name in hub.repositories:
        return _to_json({"error": "You already created this model repo", **url}, 409)
    repository.commit({".gitattributes": b"*.pt filter=lfs\n"})
    hub.repositories[repository.name] = repository
    return _to_json(url)


def _check_write(repository: Repository, account: Account | None) -> None:
    if account is None:
        raise RefusedError(401, "Invalid username or password.")
    if account.role == "read" or not repository.may_write(account):
        raise RefusedError(403, "You don't have the rights to create a model under this namespace")


def _preupload(hub: HubDouble, request: Request, name: str, revision: str) -> Answer:
    repository, account = _repository(hub, request, name)
    _check_write(repository, account)
    files = request.json()["files"]
    assert isinstance(files, list)
    modes = {file["path"]: "lfs" if is_lfs(file["path"]) else "regular" for file in files}
    return _to_json(
        {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
    )


def _batch(hub: HubDouble, request: Request, name: str) -> Answer:
    repository, account = _repository(hub, request, name)
    _check_write(repository, account)
    objects = request.json()["objects"]
    assert isinstance(objects, list)
    for entry in objects:
        if entry["oid"] not in hub.objects:
            entry["actions"] = {"upload": {"href": f"{hub.url}/lfs/{entry['oid']}", "header": {}}}
    # Xet is among the transfers that the client offers. This one is the hub's of old.
    return _to_json({"transfer": "basic", "objects": objects})


def _upload(hub: HubDouble, request: Request, oid: str) -> Answer:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise RefusedError(400, "another sha256")
    hub.objects[oid] = request.body
    return Answer()


def _commit_files(hub: HubDouble, request: Request, name: str, revision: str) -> Answer:
    repository, account = _repository(hub, request, name)
    _check_write(repository, account)
    files = {}
    for line in request.body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            files[value["path"]] = hub.objects[value["oid"]]
    commit = repository.commit(files, revision)
    return _to_json({"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit})


def _to_json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())


_NAME = r"(?P<name>[^/]+(?:/[^/]+)?)"
_ROUTES = (
    ("GET", "/api/whoami-v2", _whoami),
    ("POST", "/api/repos/create", _create),
    ("POST", f"/api/models/{_NAME}/preupload/(?P<revision>[^/]+)", _preupload),
    ("POST", f"/api/models/{_NAME}/commit/(?P<revision>[^/]+)", _commit_files),
    ("GET", f"/api/models/{_NAME}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", _tree),
    ("GET", f"/api/models/{_NAME}/revision/(?P<revision>[^/]+)", _info),
    ("GET", f"/api/models/{_NAME}", _info),
    ("GET", f"/api/(?P<kind>dataset)s/{_NAME}", _info),
    ("POST", f"/{_NAME}.git/info/lfs/objects/batch", _batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", _upload),
    ("GET HEAD", "/cdn/(?P<oid>[0-9a-f]{64})", _cdn),
    ("GET HEAD", f"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _resolve),
)
