"""A certificate for a superlink or supernode and the authority that signs it; a key with which a supernode signs in.

``python -m rbmed_fl.engines.certificates FOLDER [HOST ...]`` writes them for HOST (names or addresses) and for this
machine's loopback address. The authority's key is not stored, so no further certificate can be issued with it.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: The authority's certificate, which clients need; the server's, and its key.
CA, CERTIFICATE, KEY = "ca.pem", "server.pem", "server.key"
DAYS = 365


def certificates(folder: Path, hosts: Sequence[str] = ()) -> None:
    """Write `CA`, `CERTIFICATE` and `KEY`, valid for `DAYS` days; ``folder`` is created if need be."""
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority, server = _name("rbmed federation"), _name(hosts[0] if hosts else "localhost")
    names = [_host(host) for host in ("localhost", "127.0.0.1", *hosts)]
    issued = (
        _builder(authority, server, leaf, root, False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    pem = serialization.Encoding.PEM
    folder.mkdir(parents=True, exist_ok=True)
    own = _builder(authority, authority, root, root, True)
    (folder / CA).write_bytes(own.sign(root, hashes.SHA256()).public_bytes(pem))
    (folder / CERTIFICATE).write_bytes(issued.sign(root, hashes.SHA256()).public_bytes(pem))
    plain = serialization.NoEncryption()
    _write_private(folder / KEY, leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


def node_key(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a new key with which a supernode authenticates itself: the files of its private and of its public half."""
    key = ec.generate_private_key(ec.SECP384R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    folder.mkdir(parents=True, exist_ok=True)
    ssh = serialization.PublicFormat.OpenSSH
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.OpenSSH, ssh))
    plain = serialization.NoEncryption()
    _write_private(private, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, plain))
    return private, public


def _write_private(path: Path, data: bytes) -> None:
    """Write what only this user may read."""
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(data)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    root: ec.EllipticCurvePrivateKey,
    authority: bool,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m rbmed_fl.engines.certificates FOLDER [HOST ...]")
    certificates(Path(sys.argv[1]), sys.argv[2:])
