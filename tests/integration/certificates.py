"""Certificates for TLS, made by openssl(1) for the test alone."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class Pair(NamedTuple):
    """Certificate and key, and whatever signed the certificate."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"tls_certificate_file": str(self.certificate), "tls_key_file": str(self.key)}


def self_signed(folder: Path, name: str, address: str = "127.0.0.1") -> Pair:
    """For a server at that address."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{address}",
        "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    return Pair(certificate, key, certificate)


def signed(folder: Path, name: str, address: str = "127.0.0.1") -> Pair:
    """The same, signed by an authority of the test's own."""
    authority = self_signed(folder, f"{name}-authority")
    certificate, key, request = (folder / f"{name}.{ending}" for ending in ("crt", "key", "csr"))
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName=IP:{address}\n")
    _openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
        "-keyout", str(key), "-out", str(request),
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(authority.certificate), "-CAkey", str(authority.key),
        "-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", str(certificate),
    )  # fmt: skip
    return Pair(certificate, key, authority.certificate)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
