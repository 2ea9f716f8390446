"""/docs: the OpenAPI document by Swagger UI, whose calls can be tried. Nothing comes from any other machine."""

import json
from html import escape
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, HTMLResponse, Response

from relayd.control_plane.api.openapi import Json
from relayd.control_plane.errors import NotFoundError

_HERE = Path(__file__).parent

# Swagger UI sets styles as it goes; scripts are files alone, and nobody else is asked for anything.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def add_page(app: FastAPI, api: Json) -> None:
    """Adds the page and what it loads."""
    kept = Path(str(files("fastapi_offline"))) / "static"
    page = docs_page(api)

    @app.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    assets = {
        "swagger-ui.css": kept / "swagger-ui.css",
        "swagger-ui-bundle.js": kept / "swagger-ui-bundle.js",
        "docs.js": _HERE / "docs.js",
    }

    @app.get("/docs/{name}")
    async def asset(name: str) -> Response:
        if name not in assets:
            raise NotFoundError("There is nothing at this path; /docs lists what there is.")
        return FileResponse(assets[name])


def docs_page(api: Json) -> str:
    """The page for that document, which it has within."""
    # In a script element nothing ends it but `</`, and that is no part of JSON.
    within = json.dumps(api).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(api["info"]["title"])}</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> has the same for machines.</noscript>
<div id="page"></div>
<script type="application/json" id="api">{within}</script>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/docs.js"></script>
</body>
</html>
"""
