"""Which servers are reached through the environment's proxy: a table of the rules of Go's httpproxy."""

from __future__ import annotations

import pytest

from bastion.pods.proxies import proxy_for

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("server", "environ", "proxy"),
    [
        ("https://kube:6443", {}, ""),
        ("https://kube:6443", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://kube:6443", {"https_proxy": PROXY}, PROXY),
        ("https://kube:6443", {"HTTPS_PROXY": "http://first:1", "https_proxy": PROXY}, "http://first:1"),
        ("https://kube:6443", {"HTTPS_PROXY": "proxy:3128"}, PROXY),
        ("https://kube:6443", {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}, ""),
        ("http://kube:8080", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://localhost:6443", {"HTTPS_PROXY": PROXY}, ""),
        ("https://127.0.0.2:6443", {"HTTPS_PROXY": PROXY}, ""),
        ("https://[::1]:6443", {"HTTPS_PROXY": PROXY}, ""),
    ],
)
def test_the_proxy_is_that_of_the_scheme_and_never_for_loopback(
    server: str, environ: dict[str, str], proxy: str
) -> None:
    assert proxy_for(server, environ) == proxy


@pytest.mark.parametrize(
    ("server", "excluded"),
    [
        ("https://kube.corp:6443", "*"),
        ("https://kube.corp:6443", "kube.corp"),
        ("https://kube.corp:6443", "corp"),
        ("https://kube.corp:6443", ".corp"),
        ("https://kube.corp:6443", "*.corp"),
        ("https://KUBE.corp:6443", "other, Kube.Corp "),
        ("https://kube.corp:6443", "kube.corp:6443"),
        ("https://kube.corp", "kube.corp:443"),
        ("https://10.96.0.1:443", "10.0.0.0/8"),
        ("https://10.96.0.1:443", "10.96.0.1"),
        ("https://[fd00::1]:443", "fd00::/16"),
        ("https://[fd00::1]:443", "[fd00::1]:443"),
    ],
)
def test_no_proxy_excludes_a_server(server: str, excluded: str) -> None:
    assert proxy_for(server, {"HTTPS_PROXY": PROXY, "NO_PROXY": excluded}) == ""
    assert proxy_for(server, {"HTTPS_PROXY": PROXY, "no_proxy": excluded}) == ""


@pytest.mark.parametrize(
    ("server", "excluded"),
    [
        ("https://kube.corp:6443", "ube.corp"),
        ("https://corp:6443", ".corp"),
        ("https://kube.corp:6443", "kube.corp:443"),
        ("https://kube.corp:6443", "10.0.0.0/8,bad/cidr,,:6443"),
        ("https://10.96.0.1:443", "11.0.0.0/8,0.1,fd00::/16"),
        ("https://10.96.0.1:443", "10.96.0.10"),
    ],
)
def test_no_proxy_is_about_nothing_else(server: str, excluded: str) -> None:
    assert proxy_for(server, {"HTTPS_PROXY": PROXY, "NO_PROXY": excluded}) == PROXY
