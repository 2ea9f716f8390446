"""Certificates: which can be used, what is said of those that cannot, and how one is renewed."""

import asyncio
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.errors import ConfigurationError
from relayd.http.tls import Certificate, signed_by, trusting
from tests.integration.certificates import Pair, needs_openssl, self_signed, signed

pytestmark = needs_openssl


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """In memory; raises what a client would see."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def loaded(pair: Pair) -> Certificate:
    return Certificate(pair.certificate, pair.key, "api")


def test_none_is_none(tmp_path: Path) -> None:
    assert Certificate.configured(None, None, "api") is None


def test_one_that_is_signed_is_believed_by_those_who_trust_the_authority(tmp_path: Path) -> None:
    pair = signed(tmp_path, "server")
    certificate = Certificate.configured(pair.certificate, pair.key, "api")
    assert certificate is not None
    handshake(certificate.context, signed_by(pair.authority, "source.ca_file"), "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificate.context, signed_by(pair.authority, "source.ca_file"), "127.0.0.2")


def test_the_very_certificate_is_trusted_whatever_it_is_reached_by(tmp_path: Path) -> None:
    pair, other = signed(tmp_path, "server"), self_signed(tmp_path, "other")
    handshake(loaded(pair).context, trusting(pair.certificate, "admin.tls_certificate_file"), "somewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(loaded(other).context, trusting(pair.certificate, "admin.tls_certificate_file"), "127.0.0.1")


def test_old_versions_of_tls_are_not_spoken(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "server")
    assert loaded(pair).context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert trusting(pair.certificate, "x").minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_file_that_cannot_be_read_is_named_with_its_setting(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "server")
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ConfigurationError, match=rf"api\.tls_key_file: {nowhere}"):
        Certificate(pair.certificate, nowhere, "api")
    with pytest.raises(ConfigurationError, match=rf"source\.ca_file: {nowhere}"):
        signed_by(nowhere, "source.ca_file")


def test_a_key_that_is_not_the_certificates_is_said(tmp_path: Path) -> None:
    one, other = self_signed(tmp_path, "one"), self_signed(tmp_path, "other")
    with pytest.raises(ConfigurationError, match="is not its key"):
        Certificate(one.certificate, other.key, "api")


def test_what_is_no_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(ConfigurationError, match="holds no PEM certificate"):
        signed_by(tmp_path / "text", "source.ca_file")


def renew(pair: Pair, by: Pair) -> None:
    for old, new in ((pair.certificate, by.certificate), (pair.key, by.key)):
        old.write_bytes(new.read_bytes())


def test_a_renewed_one_is_used_for_connections_from_then_on(tmp_path: Path) -> None:
    pair, new = self_signed(tmp_path, "server"), self_signed(tmp_path, "new")
    certificate = loaded(pair)
    with capture_logs() as logs:
        asyncio.run(certificate.refresh())
        assert logs == [], "it is as it was"
        renew(pair, new)
        asyncio.run(certificate.refresh())
        asyncio.run(certificate.refresh())
    assert [line["event"] for line in logs] == ["certificate renewed"]
    handshake(certificate.context, trusting(new.certificate, "x"), "127.0.0.1")


def test_one_that_is_half_renewed_is_left_alone_until_it_is_whole(tmp_path: Path) -> None:
    pair, old, new = (self_signed(tmp_path, name) for name in ("server", "old", "new"))
    renew(pair, old)
    certificate = loaded(pair)
    pair.certificate.write_bytes(new.certificate.read_bytes())
    with capture_logs() as logs:
        asyncio.run(certificate.refresh())
        asyncio.run(certificate.refresh())
        assert [line["log_level"] for line in logs] == ["warning"]
        handshake(certificate.context, trusting(old.certificate, "x"), "127.0.0.1")
        pair.key.write_bytes(new.key.read_bytes())
        asyncio.run(certificate.refresh())
    handshake(certificate.context, trusting(new.certificate, "x"), "127.0.0.1")


def test_one_that_is_gone_goes_on(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "server")
    certificate = loaded(pair)
    pair.key.unlink()
    with capture_logs() as logs:
        asyncio.run(certificate.refresh())
        asyncio.run(certificate.refresh())
    assert len(logs) == 1
