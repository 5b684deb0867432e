"""A certificate authority for servers that run as processes of their own.

Both sides of a federation test trust its `ca_file` and nothing else of it: the certificates are checked just as those
of strangers are.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """Two PEM files: what a TLS listener needs."""

    certificate: Path
    private_key: Path


class Authority:
    """A certificate authority that keeps its files in `directory`; `ca_file` is what a client has to trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(_pem(self._sign(self._name, self._key.public_key(), ())))

    def issue(self, names: Sequence[str]) -> Certificate:
        """A certificate for a server that is known by these DNS names or IP addresses, the first of which names it."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        stem = self._directory / f"server-{x509.random_serial_number():x}"
        issued = Certificate(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        issued.certificate.write_bytes(_pem(self._sign(subject, key.public_key(), names)))
        issued.private_key.touch(0o600)
        issued.private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: Sequence[str]) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
