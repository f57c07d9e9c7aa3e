"""Error answers as EC2 and the Kubernetes API server write them.

Given: a rule and the call it falls on. Gives: status, body, content type and further headers.
"""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

from rules import Call, Rule

Answer = tuple[int, bytes, str, dict[str, str]]

# The error code EC2 gives with a status, where a rule names none.
_EC2_CODES = {400: "InvalidParameterValue", 403: "UnauthorizedOperation", 500: "InternalError", 503: "Unavailable"}
_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid",
    429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


def _ec2(status: int, code: str, message: str, json_protocol: bool) -> Answer:
    if json_protocol:
        return status, json.dumps({"__type": code, "message": message}).encode(), "application/x-amz-json-1.1", {}
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error></Errors>"
        "<RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
    )
    return status, body.encode(), "text/xml;charset=UTF-8", {}


def _kubernetes(status: int, reason: str, message: str, added: dict[str, str]) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": status}
    if status == 429:
        body["details"] = {"retryAfterSeconds": 1}
    return status, json.dumps(body).encode(), "application/json", added


def throttle_answer(rule: Rule, call: Call, json_protocol: bool) -> Answer:
    """Too many requests."""
    if call.target == "kubernetes":
        message = "too many requests, please try again later"
        return _kubernetes(429, rule.code or "TooManyRequests", message, {"Retry-After": "1"})
    if json_protocol:
        return _ec2(400, rule.code or "ThrottlingException", "Rate exceeded", True)
    return _ec2(503, rule.code or "RequestLimitExceeded", "Request limit exceeded.", False)


def error_answer(rule: Rule, call: Call, json_protocol: bool) -> Answer:
    """The error that the rule asks for."""
    message = f"an error put in place of the answer to {call.name}"
    if call.target == "kubernetes":
        return _kubernetes(rule.status, rule.code or _REASONS.get(rule.status, "Unknown"), message, {})
    return _ec2(rule.status, rule.code or _EC2_CODES.get(rule.status, "InternalError"), message, json_protocol)
