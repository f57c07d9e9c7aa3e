# shellcheck shell=bash
# Starts the EC2 endpoint on loopback. Sourced by hack/up.
#
# Given: $state, $python (folder of the Python environment), $hack, the ports. The account's contents and the endpoint's
# control API (/_tonnage/) are described in hack/endpoint.

start_endpoint() { # port
  spawn endpoint env PYTHONDONTWRITEBYTECODE=1 "$python/bin/python3" "$hack/endpoint/serve.py" --port "$1"
}

endpoint_ready() { curl --silent --fail --max-time 2 "$1/_tonnage/calls"; }
