"""Answers as HTTP responses. FastAPI is not told their models: it would validate each once more, which takes long."""

from fastapi import Response
from fastapi.responses import JSONResponse

from relayd.admin.answers import Answer


def answered(answer: Answer) -> Response:
    """Status 200, with the answer as JSON."""
    return Response(answer.to_json(), media_type="application/json")


def said(message: str, status: int) -> Response:
    """Why there is no answer."""
    return JSONResponse({"message": message}, status_code=status)


def no_session(session_id: str) -> Response:
    """There is no session of that name."""
    return said(f"no session {session_id} in the table", 404)
