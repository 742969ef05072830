"""A proxy that ends every tunnel at one server of this machine, which has a certificate of AWS's hosts."""

from __future__ import annotations

import datetime as dt
import ipaddress
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.helpers.servers import PATIENCE_S

HOSTS = (
    "*.sagemaker.eu-west-1.amazonaws.com",
    "*.sagemaker.us-east-1.amazonaws.com",
    "*.sagemaker.us-gov-west-1.amazonaws.com",
    "*.sagemaker.cn-north-1.amazonaws.com.cn",
    "*.sagemaker.eu-west-1.api.aws",
    "*.sagemaker.us-east-1.api.aws",
    "*.vpce.example",
)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate that vouches for itself, and that with its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test of inf2kit")])
    now = dt.datetime.now(dt.timezone.utc)
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in HOSTS]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    bundle, chain = folder / "bundle.pem", folder / "chain.pem"
    bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(private + bundle.read_bytes())
    return bundle, chain


def server_context(chain: Path) -> ssl.SSLContext:
    """What a server needs to answer by TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


class TunnelProxy(socketserver.ThreadingTCPServer):
    """A proxy for HTTPS.

    Attributes:
        asked: The host and port of each tunnel that it was asked for, and the caller's proxy-authorization.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.port = int(self.server_address[1])
        self.ends_at = port
        self.asked: list[tuple[str, str | None]] = []


class _Tunnel(socketserver.BaseRequestHandler):
    server: TunnelProxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (received := self.request.recv(65_536)):
                return
            head += received
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.server.asked.append((first.split()[1], headers.get("proxy-authorization")))
        with socket.create_connection(("127.0.0.1", self.server.ends_at), timeout=PATIENCE_S) as end:
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            _pass_on(self.request, end)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes on, both ways, until one side closes."""
    while True:
        ready, _, _ = select.select([one, other], [], [], PATIENCE_S)
        for source in ready:
            try:
                received = source.recv(65_536)
            except OSError:
                return
            if not received:
                return
            (other if source is one else one).sendall(received)


@contextmanager
def tunnel_proxy(port: int) -> Iterator[TunnelProxy]:
    """Serve on a free port until the context ends; every tunnel ends at a port of this machine."""
    with TunnelProxy(port) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
