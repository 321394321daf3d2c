"""Settings come from an environment in which others write, too."""

from __future__ import annotations

import socket

import pytest

from tidings_operator import server
from tidings_operator.settings import Settings, SettingsError, read

LINKS = {
    "TIDINGS_OPERATOR_SERVICE_HOST": "10.0.0.1",
    "TIDINGS_OPERATOR_SERVICE_PORT": "80",
    "TIDINGS_OPERATOR_SERVICE_PORT_HTTP": "80",
    "TIDINGS_OPERATOR_PORT": "tcp://10.0.0.1:80",
    "TIDINGS_OPERATOR_PORT_80_TCP": "tcp://10.0.0.1:80",
    "TIDINGS_OPERATOR_PORT_80_TCP_PROTO": "tcp",
    "TIDINGS_OPERATOR_PORT_80_TCP_PORT": "80",
    "TIDINGS_OPERATOR_PORT_80_TCP_ADDR": "10.0.0.1",
    "TIDINGS_OPERATOR_WEBHOOKS_SERVICE_HOST": "fd00::1",
    "TIDINGS_OPERATOR_WEBHOOKS_SERVICE_PORT_WEBHOOKS": "443",
    "TIDINGS_OPERATOR_WEBHOOKS_PORT": "tcp://[fd00::1]:443",
    "TIDINGS_OPERATOR_WEBHOOKS_PORT_443_TCP_ADDR": "fd00::1",
    "TIDINGS_OPERATOR_WEBHOOK_PORT": "udp://10.0.0.2:443",
}


def test_service_links_are_no_settings() -> None:
    assert read(LINKS) == Settings()


def test_settings_apply_despite_service_links() -> None:
    result = read({**LINKS, "TIDINGS_OPERATOR_PORT": "9090", "TIDINGS_OPERATOR_WEBHOOK_PORT": "8443"})
    assert (result.port, result.webhook_port) == (9090, 8443)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TIDINGS_OPERATOR_PROT", "1"), ("TIDINGS_OPERATOR_PORT", "http://x"), ("TIDINGS_OPERATOR_LOG", "xml")],
)
def test_what_is_unknown_or_wrong_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read({name: value})


URL, NAMESPACES = "TIDINGS_OPERATOR_ARCHIVE_URL", "TIDINGS_OPERATOR_NAMESPACES"


@pytest.mark.parametrize(
    ("url", "namespaces"),
    [
        ("http://archive.shop.svc", None),
        ("http://archive.shop.svc", ""),
        ("http://archive.shop.svc", "shop,pizza"),
        ("http://archive.{Namespace}.svc", "shop,pizza"),
        ("", None),
    ],
)
def test_one_archive_does_not_get_the_requests_and_tokens_of_all_namespaces(url: str, namespaces: str | None) -> None:
    environment = {URL: url, **({} if namespaces is None else {NAMESPACES: namespaces})}
    with pytest.raises(SettingsError) as refused:
        read(environment)
    for part in (f"{URL}={url}", "Write {namespace} in the URL", NAMESPACES):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("url", "namespaces"),
    [
        ("http://archive.{namespace}.svc", ""),
        ("http://gateway/{namespace}", "shop,pizza"),
        ("http://archive.shop.svc", "shop"),
        ("http://archive.shop.svc", "shop, shop"),
    ],
)
def test_an_archive_per_namespace_or_a_single_namespace_is_accepted(url: str, namespaces: str) -> None:
    assert read({URL: url, NAMESPACES: namespaces}).archive_url == url


def test_it_listens_at_every_address_of_both_families() -> None:
    with server.listener("", 0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 10):
            pass
        if listening.family == socket.AF_INET6:
            with socket.create_connection(("::1", port), 10):
                pass


def test_without_ipv6_it_listens_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = socket.create_server

    def create(address: tuple[str, int], *, family: int = socket.AF_INET, **how: bool) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError("cannot assign requested address")
        return genuine(address, family=family, **how)

    monkeypatch.setattr(socket, "create_server", create)
    with server.listener("", 0) as listening:
        assert listening.family == socket.AF_INET


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_listens_at_the_configured_address(host: str) -> None:
    try:
        with server.listener(host, 0) as listening:
            assert listening.getsockname()[0] == host
    except OSError:
        if host == "::1" and not socket.has_dualstack_ipv6():
            pytest.skip("NOT TESTED, no IPv6 here")
        raise
