"""Webhooks to a real receiver."""

import hashlib
import hmac
import json
import shutil
import socket
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.control_plane.process import FakeRelay, Made, Server, until
from tests.integration.control_plane.receiver import Receiver
from tests.integration.waiting import PATIENCE_SECONDS


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def allowing(made: Made) -> Server:
    server = made(webhook_allow_private=True)
    server.start()
    return server


def make_ready(server: Server, url: str) -> dict[str, object]:
    relay = FakeRelay(server)
    relay.beat()
    session = server.create(webhook_url=url)
    assert session["webhook_url"] == url
    relay.sync()
    return server.get(session)


def logged(server: Server, event: str) -> bool:
    return f'"{event}"' in server.log.read_text()


def make_due(server: Server) -> None:
    """Retries wait for seconds; tests do not."""
    connection = sqlite3.connect(server.database)
    with connection:
        connection.execute("UPDATE outbox SET due_at = 0")
    connection.close()


def test_the_session_as_the_api_shows_it_signed(allowing: Server, receiver: Receiver) -> None:
    ready = make_ready(allowing, receiver.url)
    until("a call", lambda: receiver.calls)
    path, headers, body = receiver.calls[0]
    assert path == "/hook?game=1"
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"localhost:{receiver.http.server_address[1]}"
    assert json.loads(body) == ready
    secret = allowing.command("webhook-secret").stdout.strip()
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert headers["webhook-signature"] == f"v1={expected}"
    assert headers["webhook-id"].startswith("msg_")
    assert headers["webhook-timestamp"].isdigit()
    until("delivered", lambda: logged(allowing, "webhook delivered"))
    assert allowing.stop() == 0
    allowing.start()
    assert len(receiver.calls) == 1


def test_the_configured_secret_signs(tmp_path: Path, made: Made, receiver: Receiver) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    server = made(webhook_allow_private=True, webhook_secret_file="secret")
    server.start()
    make_ready(server, receiver.url)
    until("a call", lambda: receiver.calls)
    _, headers, body = receiver.calls[0]
    assert headers["webhook-signature"] == f"v1={hmac.new(b's3cret', body, hashlib.sha256).hexdigest()}"
    assert server.command("webhook-secret").stdout == "s3cret\n"


def test_a_failed_call_is_made_again_after_a_restart_with_the_same_id(allowing: Server, receiver: Receiver) -> None:
    receiver.statuses = [500, 302, 200]
    make_ready(allowing, receiver.url)
    until("a failed call", lambda: logged(allowing, "webhook failed"))
    allowing.kill()
    make_due(allowing)
    allowing.start()
    until("a redirect, not followed", lambda: allowing.log.read_text().count('"webhook failed"') == 2)
    assert allowing.stop() == 0
    make_due(allowing)
    allowing.start()
    until("delivered", lambda: logged(allowing, "webhook delivered"))
    assert [path for path, _, _ in receiver.calls] == ["/hook?game=1"] * 3
    assert len({headers["webhook-id"] for _, headers, _ in receiver.calls}) == 1
    assert len({body for _, _, body in receiver.calls}) == 1
    assert not any("cookie" in headers for _, headers, _ in receiver.calls)


def test_a_failed_call_is_made_again_on_its_own(allowing: Server, receiver: Receiver) -> None:
    receiver.statuses = [503, 204]
    make_ready(allowing, receiver.url)
    until("delivered", lambda: logged(allowing, "webhook delivered"))
    assert len(receiver.calls) == 2


def test_nobody_there_is_a_failure_like_any_other(allowing: Server, receiver: Receiver) -> None:
    receiver.close()
    make_ready(allowing, receiver.url)
    until("a failed call", lambda: logged(allowing, "webhook failed"))
    assert allowing.stop() == 0


def test_private_targets_are_refused(server: Server, receiver: Receiver) -> None:
    port = receiver.http.server_address[1]
    for literal in (f"http://127.0.0.1:{port}/", "http://169.254.169.254/", f"http://[::ffff:127.0.0.1]:{port}/"):
        answer = server.client.post("/v1/relays/sessions", json={"users": ["1.1.1.1"], "webhook_url": literal})
        assert answer.status_code == 400
        assert "public internet" in answer.json()["message"]
    make_ready(server, receiver.url)  # a name that resolves to loopback
    until("refused", lambda: logged(server, "webhook refused"))
    assert receiver.calls == []


def test_a_deleted_session_is_not_announced(allowing: Server, receiver: Receiver) -> None:
    receiver.statuses = [500]
    session = make_ready(allowing, receiver.url)
    until("a failed call", lambda: logged(allowing, "webhook failed"))
    allowing.delete(session)
    allowing.stop()
    allowing.start()
    assert len(receiver.calls) == 1


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="makes its certificate with openssl, which is not installed"
)
@pytest.mark.parametrize(("name", "event"), [("localhost", "webhook delivered"), ("other.example", "webhook failed")])
def test_the_certificate_must_be_for_the_name_in_the_url(tmp_path: Path, made: Made, name: str, event: str) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name}",
        ],
        check=True, capture_output=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver = Receiver(context)
    try:
        server = made(webhook_allow_private=True)
        server.start(SSL_CERT_FILE=str(certificate))
        make_ready(server, receiver.url)
        until(event, lambda: logged(server, event))
        assert bool(receiver.calls) is (event == "webhook delivered")
    finally:
        receiver.close()


def test_a_session_that_no_relay_can_take_is_announced(allowing: Server, receiver: Receiver) -> None:
    failed = allowing.create(webhook_url=receiver.url)
    assert failed["status"] == "Error"
    until("a call", lambda: receiver.calls)
    assert json.loads(receiver.calls[0][2]) == allowing.get(failed)
    until("delivered", lambda: logged(allowing, "webhook delivered"))


def test_a_receiver_that_hangs_holds_up_nobody_elses_calls(allowing: Server, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as hanging:
        # Connections are taken by the kernel, and nobody ever answers; the other receiver has another name.
        hung = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
        for _ in range(300):
            assert allowing.create(webhook_url=hung)["status"] == "Error"
        allowing.create(webhook_url=receiver.url)
        until("the other one's call", lambda: receiver.calls)
        assert not logged(allowing, "webhook failed"), "before any of the others was given up"
        shown = httpx.get(f"{allowing.url}/metrics", timeout=PATIENCE_SECONDS).text
        assert "relayd_control_plane_webhooks_waiting 30" in shown
