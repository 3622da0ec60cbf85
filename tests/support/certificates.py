"""Certificates for tests: an authority, and the certificates that it signs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAYS = (-0.01, 1.0)  # days from now between which certificates are valid


class Authority:
    """Signs certificates of 127.0.0.1, localhost and other names, and writes them as files in a directory."""

    def __init__(self, directory: Path, name: str = "authority", days: tuple[float, float] = DAYS) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = directory / f"{name}.pem"
        certificate = self._sign(self._name, self._key.public_key(), [], days, authority=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *hosts: str,
        days: tuple[float, float] = DAYS,
        local: bool = True,
        curve: ec.EllipticCurve | None = None,
    ) -> tuple[Path, Path]:
        """Returns the files of a certificate and its key.

        The certificate is valid for the hosts, for this machine if `local`, and between the given days
        from now.
        """
        key = ec.generate_private_key(curve or ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))] if local else []
        names += map(x509.DNSName, hosts)
        certificate = self._sign(subject, key.public_key(), names, days, authority=False)
        files = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        days: tuple[float, float],
        *,
        authority: bool,
    ) -> x509.Certificate:
        first, last = (datetime.now(UTC) + timedelta(days=count) for count in days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(first)
            .not_valid_after(last)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
