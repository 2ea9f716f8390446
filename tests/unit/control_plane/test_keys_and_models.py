"""Keys, and what requests may look like."""

import json
import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from relayd.control_plane import keys
from relayd.control_plane.api.application import ROUTERS, document
from relayd.control_plane.api.docs_page import docs_page
from relayd.control_plane.keys import Scope
from relayd.control_plane.models import CreateRequest, Pagination, SessionPage
from relayd.control_plane.node_models import Heartbeat
from relayd.control_plane.usage_models import UsageReport


def test_a_key_proves_itself_and_is_not_in_what_is_stored() -> None:
    key, stored = keys.new_key("test", frozenset({Scope.SESSIONS_READ}), 0.0)
    assert keys.key_id(key) == stored.key_id
    assert keys.same(key, stored.digest)
    assert not keys.same(key + "x", stored.digest)
    # The secret may have underscores of its own.
    secret = key.partition(stored.key_id)[2].removeprefix("_")
    assert len(secret) > 20
    assert secret not in repr(stored)


@pytest.mark.parametrize("name", ["", " \t", "x" * 65, "a\nb", "a\x1b[31m", "a\x7f", "a\u202eb", "\udcff"])
def test_names_of_keys_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is empty|characters|control"):
        keys.checked_name(name)


def test_names_of_keys_that_are_taken() -> None:
    assert keys.checked_name("  the backend, Zürich ") == "the backend, Zürich"
    assert len(keys.checked_name(" " + "x" * 64)) == 64


def test_keys_differ() -> None:
    assert len({keys.new_key("k", frozenset(), 0.0)[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("token abc", "abc"), ("Bearer abc", "abc"), ("TOKEN  abc ", "abc"), ("Basic abc", None), ("abc", None),
        ("token", None), ("token ", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_the_authorization_header(header: str | None, key: str | None) -> None:
    assert keys.bearer(header) == key


def test_all_forms_of_a_user() -> None:
    users = ["1.1.1.1", {"ip": "::ffff:2.2.2.2"}, {"ip_address": "2001:DB8::1", "latitude": 1, "longitude": 2.5}]
    parsed = CreateRequest.model_validate({"users": users}).users
    assert [user.ip for user in parsed] == ["1.1.1.1", "2.2.2.2", "2001:db8::1"]
    assert (parsed[2].latitude, parsed[2].longitude) == (1.0, 2.5)


@pytest.mark.parametrize(
    "body",
    [
        "", "null", "[]", "{}", '{"users": null}', '{"users": []}', '{"users": [null]}', '{"users": [1]}',
        '{"users": ["300.1.1.1"]}', '{"users": ["1.1.1.1 "]}', '{"users": [{"ip": 16843009}]}', '{"users": [{}]}',
        '{"users": [{"ip": "1.1.1.1", "latitude": NaN}]}', '{"users": [{"ip": "1.1.1.1", "latitude": 91}]}',
        '{"users": [{"ip": "1.1.1.1", "latitude": true}]}', '{"users": ["1.1.1.1"], "filters": 0}',
        '{"users": ["1.1.1.1"], "filters": [{"field": "city", "values": [], "filter_type": "any"}]}',
        '{"users": ["1.1.1.1"], "filters": [{"field": "city", "values": ["x"], "filter_type": "some"}]}',
        '{"users": ["1.1.1.1"], "filters": [{"field": "city", "values": [1], "filter_type": "any"}]}',
        '{"users": ["1.1.1.1"], "webhook_url": "ftp://x/"}', '{"users": ["1.1.1.1"], "webhook_url": "http://u:p@x/"}',
        '{"users": ["1.1.1.1"], "webhook_url": "http://x:70000/"}', '{"users": ["1.1.1.1"], "webhook_url": "http://[1]/"}',
        '{"users": ["1.1.1.1"], "webhook_url": "http://x/\\n"}', '{"users": ["1.1.1.1"], "webhook_url": "http://0177.1/"}',
        "[" * 100_000, '{"users": ' + "9" * 100_000 + "}", '{"users": ["\\ud800"]}',
    ],
)  # fmt: skip
def test_bodies_that_are_refused(body: str) -> None:
    with pytest.raises(ValidationError):
        CreateRequest.model_validate_json(body)


@pytest.mark.parametrize(
    "url", ["http://a.example", "https://a.example:8443/x?y=1", "http://93.184.216.34/", "https://[2606:4700::1]:1/", "http://localhost:65535/"]
)  # fmt: skip
def test_webhook_urls_that_are_taken(url: str) -> None:
    assert CreateRequest.model_validate({"users": ["1.1.1.1"], "webhook_url": url}).webhook_url == url


@given(total=st.integers(0, 10_000), number=st.integers(1, 300), limit=st.integers(1, 1000))
def test_pagination_agrees_with_itself(total: int, number: int, limit: int) -> None:
    more = number * limit < total
    pagination = Pagination.of(SessionPage([], total, number, limit, more=more, last=None))
    pages = pagination.paginator.num_pages
    assert pages == max(1, (total + limit - 1) // limit)
    assert pagination.has_next == (number < pages) == (pagination.next_page_number is not None)
    assert pagination.has_previous == (number > 1) == (pagination.previous_page_number is not None)
    if pagination.previous_page_number is not None:
        assert 1 <= pagination.previous_page_number <= pages


def test_the_served_document_has_all_of_the_contract() -> None:
    ours = document()
    theirs = json.loads((Path(__file__).parents[2] / "fixtures" / "edgegap-relays-v1.json").read_text())
    assert set(ours["paths"]) >= set(theirs["paths"])
    for path, methods in theirs["paths"].items():
        assert set(ours["paths"][path]) == set(methods)
        for method, operation in methods.items():
            mine = ours["paths"][path][method]
            assert mine["operationId"] == operation["operationId"]
            assert set(mine["responses"]) >= set(operation["responses"])
    session = theirs["components"]["schemas"]["RelaySession"]
    mine = ours["components"]["schemas"]["RelaySession"]
    assert set(mine["properties"]) == set(session["properties"])
    assert set(mine["required"]) == set(session["required"])


def test_the_document_has_all_that_is_served() -> None:
    served = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert len(served) == 11
    described = document()["paths"]
    assert {path for path in described if not path.startswith("/v1/relays/sessions")} == {
        "/v1/ip",
        "/v1/relays/usage",
        "/v1/relays/nodes/{node_id}",
        "/v1/relays/nodes/{node_id}/sessions",
        "/v1/relays/nodes/{node_id}/usage",
    }
    for route in served:
        method = next(iter(route.methods or ()))
        operation = described[route.path][method.lower()]
        assert operation["security"] == [{"apiKey": []}]
        assert ("Any key will do." in operation["description"]) == (route.path == "/v1/ip")
        assert ("The key needs the scope `" in operation["description"]) == (route.path != "/v1/ip")
        assert ("requestBody" in operation) == (method in ("POST", "PUT"))
        assert {"401", "403", "500", "503"} < set(operation["responses"])
        assert "422" not in operation["responses"]


def test_every_reference_of_the_document_leads_somewhere_and_every_type_is_used() -> None:
    text = json.dumps(document())
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert referred == set(document()["components"]["schemas"])


@pytest.mark.parametrize("model", [CreateRequest, Heartbeat, UsageReport])
def test_what_the_document_says_of_a_body_is_what_is_asked_for(model: type[BaseModel]) -> None:
    described = document()["components"]["schemas"][model.__name__]
    assert described["properties"].keys() == model.model_fields.keys()
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert set(described["required"]) == required


def test_the_page_has_the_document_and_needs_nothing_from_outside() -> None:
    page = docs_page({"info": {"title": "A & B"}, "x": "</script><script src=//evil.example>"})
    assert "<title>A &amp; B</title>" in page
    assert "evil.example" in page
    assert "</script><script src=//evil" not in page, "what the document says ends no element"
    page = docs_page(document())
    (within,) = re.findall('<script type="application/json" id="api">(.*?)</script>', page)
    assert json.loads(within) == document()
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.replace(within, ""))
    assert loaded == ["docs/swagger-ui.css", "data:,", "openapi.json", "docs/swagger-ui-bundle.js", "docs/docs.js"]
