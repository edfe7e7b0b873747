"""What a request is refused with: a status, a code for programs and a reason for people."""

from pydantic import BaseModel
from starlette.responses import Response


class Problem(BaseModel):
    """Why a request, or one picture of it, got no tags."""

    code: str
    reason: str


class Refused(BaseModel):
    """The body of every answer that is not a success."""

    error: Problem
    request_id: str


class RequestError(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, code: str, reason: str, retry_after: int | None = None) -> None:
        super().__init__(status, code, reason)
        self.status = status
        self.code = code
        self.reason = reason
        self.retry_after = retry_after

    def response(self, request_id: str) -> Response:
        """As JSON; the id ties it to a line of the log."""
        body = Refused(error=Problem(code=self.code, reason=self.reason), request_id=request_id)
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return Response(body.model_dump_json(), self.status, headers, media_type="application/json")
