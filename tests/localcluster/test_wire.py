"""HTTP heads, WebSocket masks and the frames of subprotocols, for any bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.localcluster import subprotocols
from bastion.localcluster.http import BadRequestError, Request, parse_head
from bastion.localcluster.websocket import unmask
from bastion.wire.remotecommand import Channel
from support.rawclient import target


@given(st.binary(max_size=200) | st.from_regex(rb"[A-Z]{0,4} /?[a-z%?&=]{0,9} HTTP/1\.1(\r\n[a-z]*: ?[a-z]*){0,3}"))
def test_a_head_is_read_or_refused(head: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        request = parse_head(head + b"\r\n\r\n")
        assert request.target.startswith("/")
        assert all(name == name.lower() for name, _ in request.headers)


@given(st.lists(st.tuples(st.text(alphabet="abc-_.", min_size=1), st.binary(max_size=20)), max_size=5))
def test_a_query_keeps_its_bytes_and_order(pairs: list[tuple[str, bytes]]) -> None:
    assert list(Request(method="GET", target=target("/x", pairs)).query) == pairs


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.integers(0, 300))
def test_a_mask_is_taken_off_in_any_pieces(data: bytes, key: bytes, cut: int) -> None:
    masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(data))
    cut = min(cut, len(data))
    assert unmask(masked[:cut], key, 0) + unmask(masked[cut:], key, cut) == data


@given(st.sampled_from([one for one in subprotocols.NEW_SERVER if one.text]), st.sampled_from(Channel), st.binary())
def test_a_text_message_is_read_back(spoken: subprotocols.Subprotocol, channel: Channel, data: bytes) -> None:
    if channel is not Channel.CLOSE:  # text has one digit for it
        _, parts = spoken.message(channel, data)
        assert spoken.parse(b"".join(parts)) == bytes([channel]) + data


@given(st.binary(max_size=50))
def test_no_text_message_breaks_the_parser(message: bytes) -> None:
    assert isinstance(subprotocols.LEGACY[1].parse(message), bytes)


@pytest.mark.parametrize(
    ("offers", "known", "chosen"),
    [
        (["v4.channel.k8s.io", "v5.channel.k8s.io"], subprotocols.NEW_SERVER, "v5.channel.k8s.io"),
        (["base64.channel.k8s.io", "v4.channel.k8s.io"], subprotocols.NEW_SERVER, "base64.channel.k8s.io"),
        (["v5.channel.k8s.io", "v4.channel.k8s.io"], subprotocols.OLD_SERVER, "v4.channel.k8s.io"),
        ([], subprotocols.OLD_SERVER, ""),
        (["v3.channel.k8s.io"], subprotocols.NEW_SERVER, None),
    ],
)
def test_the_subprotocol_is_chosen(
    offers: list[str], known: tuple[subprotocols.Subprotocol, ...], chosen: str | None
) -> None:
    found = subprotocols.choose(offers, known)
    assert (found and found.name) == chosen
