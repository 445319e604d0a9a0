"""A CA, a gateway's certificate and a client's, made with openssl for a test."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _key(folder: Path, name: str) -> Path:
    key = folder / f"{name}.key"
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
    return key


def make_ca(folder: Path, name: str = "ca") -> Pair:
    """One that signs itself."""
    folder.mkdir(exist_ok=True)
    key, certificate = _key(folder, name), folder / f"{name}.pem"
    _openssl("req", "-x509", "-new", "-key", key, "-days", 2, "-subj", f"/CN={name}", "-out", certificate)
    return Pair(certificate, key)


def make_signed(folder: Path, name: str, ca: Pair) -> Pair:
    """One that the CA has signed."""
    key, request, certificate = _key(folder, name), folder / f"{name}.csr", folder / f"{name}.pem"
    _openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
    _openssl(
        "x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key, "-CAcreateserial", "-days", 2,
        "-out", certificate,
    )  # fmt: skip
    return Pair(certificate, key)
