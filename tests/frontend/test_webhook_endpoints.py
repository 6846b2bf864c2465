"""What can be configured as a webhook's endpoint, and that its secret stays inside."""

import base64

import msgspec
import pytest

from frontend.webhook_endpoints import WEBHOOK_EVENTS, WebhookEndpoint, webhook_endpoint

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef" * 2).decode()
OTHER = "whsec_" + base64.b64encode(b"fedcba9876543210" * 2).decode()


def test_an_endpoint_comes_from_settings() -> None:
    assert webhook_endpoint("", "", "") is None
    assert webhook_endpoint("https://example.com/hook", SECRET, "") == WebhookEndpoint(
        "https://example.com/hook", SECRET, WEBHOOK_EVENTS
    )
    chosen = webhook_endpoint("https://example.com/hook", SECRET, "response.failed, response.completed")
    assert chosen is not None
    assert chosen.events == ("response.failed", "response.completed")


def test_an_endpoint_comes_from_json() -> None:
    written = msgspec.json.encode({"url": "http://example.com", "secret": SECRET, "events": ["response.failed"]})
    assert msgspec.json.decode(written, type=WebhookEndpoint).events == ("response.failed",)
    with pytest.raises(msgspec.ValidationError, match="must begin with https"):
        msgspec.json.decode(written.replace(b"http://", b"ftp://"), type=WebhookEndpoint)


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com", "https://", "https:///path", "http://x:0"])
def test_its_url_must_be_http(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with https:// or http:// and name a host"):
        webhook_endpoint(url, SECRET, "")


@pytest.mark.parametrize(
    "secret",
    [
        *("", " ", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64", "whsec_" + base64.b64encode(bytes(65)).decode()),
        *(SECRET.removeprefix("whsec_"), SECRET + "x", f"{SECRET} x"),
    ],
)
def test_its_secret_must_be_one_that_receivers_take(secret: str) -> None:
    with pytest.raises(ValueError, match="must be 'whsec_' and the base64 of 24 to 64 random bytes") as refused:
        webhook_endpoint("https://example.com", secret, "")
    assert SECRET.removeprefix("whsec_") not in str(refused.value)


def test_its_events_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"are some of: response\.completed, response\.failed"):
        webhook_endpoint("https://example.com", SECRET, "response.completed, response.created")


def test_it_may_have_two_secrets_while_one_replaces_the_other() -> None:
    endpoint = webhook_endpoint("https://example.com", f"{SECRET} {OTHER}", "")
    assert endpoint is not None
    assert endpoint.secrets == [SECRET, OTHER]


def test_it_shows_neither_its_secret_nor_its_path() -> None:
    shown = repr(webhook_endpoint("https://user:pass@example.com/token/abc?key=1", SECRET, ""))
    assert shown == "<WebhookEndpoint at example.com>"
