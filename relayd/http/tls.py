"""TLS: the certificate of a server, renewed while it runs, and whom clients trust."""

import asyncio
import ssl
from pathlib import Path

import structlog

from relayd.errors import ConfigurationError
from relayd.files import Stamp, stamp

_log = structlog.get_logger()


class Certificate:
    """The certificate of an HTTP server, in `context`.

    Args:
        certificate_file: the chain, PEM.
        key_file: its key, PEM, not encrypted.
        section: of the configuration, to be named in errors.

    Raises:
        ConfigurationError: they cannot be read, or do not belong together.
    """

    def __init__(self, certificate_file: Path, key_file: Path, section: str) -> None:
        self._files = certificate_file, key_file
        self._section = section
        self._stamps = self._look()
        self.context = self._load()

    @classmethod
    def configured(cls, certificate_file: Path | None, key_file: Path | None, section: str) -> "Certificate | None":
        """The certificate that the settings name; None where they name none."""
        return None if certificate_file is None or key_file is None else cls(certificate_file, key_file, section)

    async def refresh(self) -> None:
        """Takes a renewed certificate up: for connections from now on. One that cannot be used is left alone."""
        stamps = await asyncio.to_thread(self._look)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            # Tried apart: a context that was given half of it would be of no use any more. And in a thread, for their
            # disk may hang; the context itself is not for two threads at a time.
            await asyncio.to_thread(self._load)
            self.context.load_cert_chain(*self._files, password=_no_password)
        except (ConfigurationError, OSError) as error:
            _log.warning("the renewed certificate is not used, the one before goes on", why=str(error))
        else:
            _log.info("certificate renewed", file=str(self._files[0]))

    def _look(self) -> list[Stamp | None]:
        return [stamp(file) for file in self._files]

    def _load(self) -> ssl.SSLContext:
        certificate_file, key_file = self._files
        for key, file in (("tls_certificate_file", certificate_file), ("tls_key_file", key_file)):
            _check_readable(file, f"{self._section}.{key}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
        except (ssl.SSLError, ValueError):
            raise ConfigurationError(
                f"{self._section}.tls_certificate_file: {certificate_file}: is no PEM certificate,"
                f" or {key_file} is not its key without a password"
            ) from None
        return context


def trusting(certificate_file: Path, setting: str) -> ssl.SSLContext:
    """For clients of a server on this host that has this very certificate, whatever name or address it is reached by.

    Raises:
        ConfigurationError: the file cannot be used; it is named with its setting.
    """
    context = signed_by(certificate_file, setting)
    context.check_hostname = False
    # openssl-verification-options(1): the certificate itself is the anchor, also where an authority signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def signed_by(ca_file: Path, setting: str) -> ssl.SSLContext:
    """For clients of servers whose certificates one of these authorities signed.

    Raises:
        ConfigurationError: the file cannot be used; it is named with its setting.
    """
    _check_readable(ca_file, setting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError:
        raise ConfigurationError(f"{setting}: {ca_file}: holds no PEM certificate") from None
    return context


def _check_readable(file: Path, setting: str) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(f"{setting}: {file}: cannot be read: {error.strerror}") from None


def _no_password() -> bytes:
    """Else it would be asked for on the terminal."""
    return b""
