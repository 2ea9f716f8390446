"""HTTP over TLS: the admin server, the API, a relay that follows a control plane, and the commands that ask them."""

import asyncio
import shutil
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import pytest

from relayd.errors import ConfigurationError
from relayd.http.tls import Certificate, signed_by, trusting
from tests.integration.certificates import Pair, needs_openssl, self_signed, signed
from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.config import new_session, to_toml
from tests.integration.control_plane.process import KEY, Server
from tests.integration.peers import VALID
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import PATIENCE_SECONDS, eventually

pytestmark = needs_openssl


class TlsRelay(RelayProcess):
    """A relay whose admin server is asked over TLS."""

    trust: ssl.SSLContext

    def request(self, method: str, path: str) -> tuple[int, str]:
        asked = urllib.request.Request(f"https://{self.settings['admin']['bind']}{path}", method=method)
        with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS, context=self.trust) as answer:
            return answer.status, answer.read().decode()


class TlsServer(Server):
    """A control plane over TLS."""

    trust: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def with_key(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"token {key}"}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, verify=self.trust
        )


@pytest.mark.parametrize("make", [self_signed, signed])
def test_the_admin_server_and_the_commands_that_ask_it(tmp_path: Path, make: Any) -> None:
    pair: Pair = make(tmp_path, "admin")
    keys = new_session("played")
    (tmp_path / "token").write_text("a-token-for-tests\n")
    relay = TlsRelay(tmp_path, [keys], {"admin": {**pair.settings, "token_file": "token"}})
    relay.trust = signed_by(pair.authority, "test")
    with relay, relay.host(keys) as host:
        assert host.ping() == VALID
        # As where its socket cannot be reached.
        without = {**relay.settings, "admin": {**relay.settings["admin"], "socket": "none"}}
        relay.config_path.write_text(to_toml(without), encoding="utf-8")
        config = ("--config", str(relay.config_path))
        assert "played" in relayd("sessions", *config).stdout
        assert relayd("drain", *config).returncode == 0
        assert "held by the relay that runs here" in relayd("check", *config).stdout
        # Whoever has another certificate is not the relay.
        other = self_signed(tmp_path, "other")
        shutil.copy(other.certificate, pair.certificate)
        done = relayd("sessions", *config)
        assert (done.returncode, "no relay answers" in done.stderr) == (69, True)


def test_a_relay_follows_a_control_plane_whose_authority_it_is_told(tmp_path: Path) -> None:
    pair = signed(tmp_path, "api")
    TlsServer.trust = signed_by(pair.authority, "test")
    server = TlsServer(tmp_path, **pair.settings)
    try:
        server.start()
        folder = tmp_path / "relay"
        folder.mkdir()
        (folder / "key").write_text(KEY)
        source = {"kind": "control_plane", "url": server.url, "token_file": "key", "ca_file": str(pair.authority)}
        with RelayProcess(folder, None, {"source": source}) as relay:
            session = server.create("127.0.0.1")
            eventually(lambda: server.get(session)["status"] == "Ready", "the relay takes the session")
            checked = relayd("check", "--config", str(relay.config_path))
            assert f"control plane {server.url} answers" in checked.stdout
        stranger = self_signed(tmp_path, "stranger")
        distrusting = write_config(folder, {"source": {**source, "ca_file": str(stranger.certificate)}})
        assert "CERTIFICATE_VERIFY_FAILED" in relayd("check", "--config", str(distrusting)).stderr
    finally:
        server.close()


def test_dev_with_tls(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "dev")
    config = write_config(tmp_path, {"admin": pair.settings, "api": pair.settings, "relay": {"bind": ["127.0.0.1"]}})
    done = relayd("dev", "--players", "1", "--for", "1", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert "API         https://127.0.0.1:" in done.stdout


def test_a_renewed_certificate_is_taken_up_and_half_of_one_is_not(tmp_path: Path) -> None:
    first, second = self_signed(tmp_path, "first"), self_signed(tmp_path, "second")
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    shutil.copy(first.certificate, certificate)
    shutil.copy(first.key, key)
    served = Certificate(certificate, key, "admin")
    assert _accepts(served, first)
    _replace(second.certificate, certificate)
    asyncio.run(served.refresh())
    assert _accepts(served, first)
    _replace(second.key, key)
    asyncio.run(served.refresh())
    assert _accepts(served, second)
    assert not _accepts(served, first)
    certificate.unlink()
    asyncio.run(served.refresh())
    assert _accepts(served, second)


def _replace(file: Path, by: Path) -> None:
    beside = by.with_suffix(".new")
    shutil.copy(file, beside)
    beside.replace(by)


def _accepts(served: Certificate, trusted: Pair) -> bool:
    """A handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = served.context.wrap_bio(to_server, to_client, server_side=True)
    client = trusting(trusted.certificate, "test").wrap_bio(to_client, to_server)
    for _ in range(3):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return client.getpeercert(binary_form=True) is not None


@pytest.mark.parametrize("section", ["admin", "api"])
def test_certificates_that_cannot_be_used(tmp_path: Path, section: str) -> None:
    first, second = self_signed(tmp_path, "first"), self_signed(tmp_path, "second")
    junk = tmp_path / "junk"
    junk.write_text("no certificate")
    command = ("run",) if section == "admin" else ("control-plane",)

    def says(settings: dict[str, str]) -> Any:
        config = write_config(tmp_path, {section: settings})
        return relayd(*command, "--config", str(config))

    absent = {**first.settings, "tls_certificate_file": "absent.crt"}
    assert_one_clear_line(says(absent), 78, f"{section}.tls_certificate_file", "absent.crt", "cannot be read")
    absent = {**first.settings, "tls_key_file": "absent.key"}
    assert_one_clear_line(says(absent), 78, f"{section}.tls_key_file", "absent.key", "cannot be read")
    for wrong in ({"tls_certificate_file": str(junk)}, {"tls_key_file": str(second.key)}):
        assert_one_clear_line(says({**first.settings, **wrong}), 78, f"{section}.tls_certificate_file")
    only = {"tls_key_file": str(first.key)}
    assert_one_clear_line(says(only), 78, section, "name both, or neither")


def test_an_authority_that_cannot_be_used(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("no certificate")
    source = {"kind": "control_plane", "url": "https://127.0.0.1:1", "ca_file": "junk"}
    done = relayd("run", "--config", str(write_config(tmp_path, {"source": source})))
    assert_one_clear_line(done, 78, "source.ca_file", "holds no PEM certificate")
    done = relayd("run", "--config", str(write_config(tmp_path, {"source": {**source, "ca_file": "absent"}})))
    assert_one_clear_line(done, 78, "source.ca_file", "cannot be read")
    done = relayd("run", "--config", str(write_config(tmp_path, {"source": {**source, "url": "http://127.0.0.1:1"}})))
    assert_one_clear_line(done, 78, "ca_file is of no use")


def test_a_key_with_a_password_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "plain")
    locked = tmp_path / "locked.key"
    locking = ["openssl", "ec", "-in", str(pair.key), "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(locking, check=True, capture_output=True)
    with pytest.raises(ConfigurationError, match="without a password"):
        Certificate(pair.certificate, locked, "api")
