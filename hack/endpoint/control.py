"""The endpoint's own HTTP surface beside the AWS APIs: /_tonnage/* for tests and the boot double, and Pricing.

Given: the WSGI application of moto. Gives: the same application, with one lock around everything of EC2, counters of calls
by action, the control API as JSON, and `GetProducts`.
"""

from __future__ import annotations

import io
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import prices
from capacity import Capacity
from fleet import Fleets
from moto.core.exceptions import ServiceException
from seed import account

Start = Callable[..., Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


# Answers of these never change while the endpoint runs; moto takes seconds to write the list of types each time.
_FIXED = ("DescribeInstanceTypes", "DescribeInstanceTypeOfferings")


class Refused(Exception):
    """A control request that is not served: HTTP status and message."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def _record(instance: Any) -> dict[str, Any]:
    options = instance.metadata_options
    known = instance.ec2_backend.volumes
    attached = [(device, known[block.volume_id]) for device, block in instance.get_block_device_mapping if block.volume_id in known]
    volumes = [
        {
            "deviceName": device,
            "sizeGiB": volume.size,
            "type": volume.volume_type,
            # moto keeps what came over the wire: a word in XML, a flag from its own defaults.
            "encrypted": str(volume.encrypted).lower() == "true",
        }
        for device, volume in attached
    ]
    return {
        "id": instance.id,
        "type": instance.instance_type,
        "zone": instance.availability_zone,
        "state": instance.state,
        "capacityType": "spot" if instance.lifecycle == "spot" else "on-demand",
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
        "launchTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "userData": str(instance.user_data or ""),
        "privateDnsName": instance.assigned_dns_name,
        "privateIp": instance.private_ip,
        "subnetId": instance.subnet_id,
        "imageId": instance.image_id,
        "architecture": instance.architecture,
        "instanceProfile": (instance.iam_instance_profile or {}).get("Arn"),
        "securityGroups": [group.id for group in instance.security_groups],
        "metadataOptions": {
            "httpEndpoint": options.http_endpoint,
            "httpTokens": options.http_tokens,
            "httpPutResponseHopLimit": options.http_put_response_hop_limit,
            "httpProtocolIpv6": options.http_protocol_ipv6,
            "instanceMetadataTags": options.instance_metadata_tags,
        },
        "volumes": volumes,
        "launchTemplate": instance.launch_template,
    }


class Control:
    """WSGI application around moto's."""

    def __init__(self, application: App, capacity: Capacity, fleets: Fleets) -> None:
        self._application = application
        self._capacity = capacity
        self._fleets = fleets
        self._lock = threading.RLock()
        self._calls: Counter[str] = Counter()
        self._fixed: dict[bytes, tuple[list[tuple[str, str]], bytes]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size) if size else b""
        environ["wsgi.input"] = io.BytesIO(body)
        path = environ.get("PATH_INFO", "")
        if path.startswith("/_tonnage/"):
            return self._control(environ["REQUEST_METHOD"], path.removeprefix("/_tonnage/"), body, start_response)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        action = target.rpartition(".")[2] or self._action(environ, body)
        with self._lock:
            self._calls[action] += 1
        if target.startswith("AWSPriceListService."):
            return self._pricing(action, body, start_response)
        if "/ec2/" in environ.get("HTTP_AUTHORIZATION", ""):
            with self._lock:
                if action in _FIXED:
                    return self._fixed_answer(environ, body, start_response)
                return list(self._application(environ, start_response))
        return self._application(environ, start_response)

    def _fixed_answer(self, environ: dict[str, Any], body: bytes, start_response: Start) -> list[bytes]:
        """The answer to this very request, remembered from the first time; a refusal is not remembered."""
        # The second and third part of the credential are day and region; offerings differ by region.
        scope = environ["HTTP_AUTHORIZATION"].partition("Credential=")[2].split("/")[2:3]
        key = repr(scope).encode() + body
        if key not in self._fixed:
            seen: list[Any] = []
            payload = b"".join(self._application(environ, lambda status, headers, *more: seen.extend((status, headers))))
            if not seen[0].startswith("200"):
                start_response(*seen)
                return [payload]
            self._fixed[key] = (seen[1], payload)
        headers, payload = self._fixed[key]
        start_response("200 OK", headers)
        return [payload]

    @staticmethod
    def _action(environ: dict[str, Any], body: bytes) -> str:
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            return parse_qs(body.decode("utf-8", "replace")).get("Action", ["other"])[0]
        return "other"

    def _pricing(self, action: str, body: bytes, start_response: Start) -> list[bytes]:
        status, kind = "200 OK", "application/x-amz-json-1.1"
        try:
            if action != "GetProducts":
                raise prices.PricingError("UnknownOperationException", f"{action} is not served by this endpoint.")
            answer: dict[str, Any] = prices.get_products(json.loads(body or b"{}"))
        except (prices.PricingError, ValueError, KeyError) as error:
            status = "400 Bad Request"
            answer = {"__type": getattr(error, "code", "SerializationException"), "message": str(error)}
        return _answer(start_response, status, answer, kind)

    def _control(self, method: str, path: str, body: bytes, start_response: Start) -> list[bytes]:
        try:
            request = json.loads(body) if body else {}
            with self._lock:
                return _answer(start_response, "200 OK", self._serve(method, path, request))
        except Refused as error:
            return _answer(start_response, error.status, {"error": str(error)})
        except ValueError as error:
            return _answer(start_response, "400 Bad Request", {"error": str(error)})

    def _serve(self, method: str, path: str, request: Any) -> Any:
        if not isinstance(request, dict):
            raise Refused("400 Bad Request", "the body must be a JSON object")
        match (method, path):
            case ("GET", "instances"):
                return [_record(instance) for instance in account().all_instances()]
            case ("GET", "calls"):
                return dict(sorted(self._calls.items()))
            case ("GET", "capacity"):
                return {"pools": self._capacity.rows()}
            case ("POST", "capacity"):
                self._capacity.replace(request.get("pools"))
                return {"pools": self._capacity.rows()}
            case ("POST", "prices"):
                prices.hold_spot(request.get("spotPerMille"))
                return {"spotPerMille": request.get("spotPerMille")}
            case ("POST", "terminate"):
                return self._terminate(str(request.get("id", "")))
            case ("POST", "reset"):
                return self._reset()
        raise Refused("404 Not Found", f"{method} /_tonnage/{path} is not served")

    def _terminate(self, instance_id: str) -> dict[str, Any]:
        try:
            account().terminate_instances([instance_id])
        except ServiceException as error:
            raise Refused("404 Not Found", str(error)) from error
        return {"id": instance_id, "state": account().get_instance(instance_id).state}

    def _reset(self) -> dict[str, Any]:
        backend = account()
        instances = backend.all_instances()
        for instance in instances:
            instance.disable_api_termination = False
            instance.terminate()
            backend.tags.pop(instance.id, None)
        for store in (backend.reservations, backend.fleets, backend.spot_instance_requests):
            store.clear()
        for template_id in list(backend.launch_templates):
            backend.tags.pop(template_id, None)
        backend.launch_templates.clear()
        backend.launch_template_name_to_ids.clear()
        self._fleets.clear()
        self._capacity.replace([])
        prices.hold_spot(None)
        self._calls.clear()
        print(f"endpoint: reset, {len(instances)} instances cleared", file=sys.stderr, flush=True)
        return {"cleared": len(instances)}


def _answer(start_response: Start, status: str, answer: Any, kind: str = "application/json") -> list[bytes]:
    payload = json.dumps(answer).encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(payload)))])
    return [payload]
