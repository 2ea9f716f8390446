"""/docs: the OpenAPI document as one page that needs nothing from anywhere else, for machines without internet."""

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; }
h3 { font-size: 1rem; margin-bottom: .25rem; }
small { font-weight: normal; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; margin: .75rem 0; }
th:nth-child(-n+2) { width: 27%; }
th, td { overflow-wrap: anywhere; text-align: left; vertical-align: top; }
th, td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8883; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8886; padding-top: 1rem; }
"""

_EXAMPLE = """\
KEY=rk_…                    # has the scopes sessions:read and sessions:write
URL=http://host:8080/v1/relays/sessions

# create: two users, the host first
curl -H "Authorization: token $KEY" -d '{"users": ["198.51.100.1", "198.51.100.2"]}' $URL
{"session_id":"0724828881e2-S","status":"Initializing","ready":false, …}

# get, until it is ready: relay and tokens are there then
curl -H "Authorization: token $KEY" $URL/0724828881e2-S
{"session_id":"0724828881e2-S","authorization_token":3894650381,"status":"Ready","ready":true, …}
"""


def docs_page(document: Json) -> str:
    """The page for that document."""
    info = document["info"]
    key = document["components"]["securitySchemes"]["apiKey"]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
            f'<p>{_text(info["description"])} The same for machines: <a href="openapi.json">openapi.json</a>.</p>',
            f"<p>Header <code>{escape(key['name'])}</code>: {_text(key['description'])}"
            ' Every error is <code>{"message": "…"}</code>.</p>',
            f"<h2>Example</h2><pre>{escape(_EXAMPLE)}</pre>",
            *_operations(document),
            *_schemas(document),
            "</body></html>",
        ]
    )


def _operations(document: Json) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f'<h2 id="{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code></h2>'
            yield f"<p><b>{escape(operation['summary'])}.</b> {_text(operation['description'])}</p>"
            if operation["parameters"]:
                yield _table(
                    "Parameter",
                    (
                        (one["name"], _kind(one["schema"]), one.get("description", ""))
                        for one in operation["parameters"]
                    ),
                )
            if "requestBody" in operation:
                yield _fields("Body", operation["requestBody"]["content"]["application/json"]["schema"])
            yield _statuses(operation["responses"])


def _schemas(document: Json) -> Iterator[str]:
    yield "<h2>Types</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
        if "properties" in schema:
            yield _fields("Field", schema)
        else:
            yield f"<pre>{escape(json.dumps(schema, indent=1))}</pre>"


def _fields(title: str, schema: Json) -> str:
    required = schema.get("required", ())
    return _table(
        title,
        (
            (name, _kind(one), one.get("description", "") + (" (required)" if name in required else ""))
            for name, one in schema["properties"].items()
        ),
    )


def _table(title: str, rows: Any) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{_text(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<table><tr><th>{title}</th><th>Type</th><th>Meaning</th></tr>{cells}</table>"


def _statuses(responses: Json) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(code)}</code></td><td>{_text(one['description'])}</td><td></td></tr>"
        for code, one in sorted(responses.items())
    )
    return f"<table><tr><th>Status</th><th>Meaning</th><th></th></tr>{cells}</table>"


def _text(text: str) -> str:
    """Words of the document as HTML: they mark code with backticks, as Markdown does."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _kind(schema: Json) -> str:
    """The type of a value, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "allOf" in schema:
        return _kind(schema["allOf"][0]) + (" or null" if schema.get("nullable") else "")
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(escape(one) for one in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'])}"
    if schema["type"] == "object" and "properties" in schema:
        inner = ", ".join(f"{escape(name)}: {_kind(one)}" for name, one in schema["properties"].items())
        return f"{{{inner}}}"
    kind = escape(schema["format"] if "format" in schema else schema["type"])
    return kind + (" or null" if schema.get("nullable") else "")
