"""A real Prometheus under test conditions: on a free port of the loopback interface, and its clock in a hurry."""

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import pytest

from bench.ports import free_ports
from tests.deploy.scaled import write_scaled
from tests.integration.config import replace_text
from tests.integration.waiting import PATIENCE_SECONDS, eventually

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs prometheus and promtool (Debian: prometheus)",
)


class Prometheus:
    """Scrapes these addresses, and judges by the scaled rules."""

    def __init__(self, folder: Path, instances: list[str]) -> None:
        self._folder = folder
        self._instances = instances
        (self._port,) = free_ports(1, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        configuration = write_scaled(self._folder, self._instances)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def without_targets(self) -> Iterator[None]:
        """As if whatever finds the relays found none any more."""
        targets = self._folder / "relays" / "test.yml"
        before = targets.read_text(encoding="utf-8")
        replace_text(targets, "[]")
        yield
        replace_text(targets, before)

    def until_scraping(self) -> None:
        """Waits until it has begun: 5 to 10 s after its start, whatever is configured."""
        eventually(self._scrapes, "Prometheus scrapes")

    def _scrapes(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text(encoding="utf-8")
        try:
            return bool(self.query("up"))
        except OSError:
            return False

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", f"/api/v1/query?{urlencode({'query': expression})}")
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise ConnectionError("Prometheus is not there yet")
        answer: dict[str, Any] = json.loads(body)
        assert answer["status"] == "success", f"{expression}: {answer}"
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def until_found(self, expression: str) -> None:
        """Waits until it has series."""
        eventually(lambda: self.query(expression), f"Prometheus finds {expression}")

    def firing(self, selector: str = "", within: str = "1s") -> set[str]:
        """Names of the alerts that fired within that time, of all with these labels."""
        found = self.query(f'last_over_time(ALERTS{{alertstate="firing",{selector}}}[{within}])')
        return {labels["alertname"] for labels, _ in found}

    def until_firing(self, alerts: tuple[str, ...], selector: str) -> None:
        """Waits until each of them has fired."""
        fired: set[str] = set()

        def all_fired() -> bool:
            fired.update(self.firing(selector))
            return fired.issuperset(alerts)

        eventually(all_fired, f"{alerts} fire for {selector}")
