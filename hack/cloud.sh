# shellcheck shell=bash
# Starts the EC2 endpoint and the machines' boot on loopback. Sourced by hack/up.
#
# Given: $state, $python (folder of the Python environment), $hack, the ports. The account's contents and the endpoint's
# control API (/_tonnage/) are described in hack/endpoint, the boot's in hack/boot.

# No compiled files beside the sources: the checkout stays as it is.
spawn_python() { # name, script, arguments...
  local name=$1
  shift
  spawn "$name" env PYTHONDONTWRITEBYTECODE=1 "$python/bin/python3" "$@"
}

start_endpoint() { # port
  spawn_python endpoint "$hack/endpoint/serve.py" --port "$1"
}

# Registers a Node for every running instance, at the API server that the instance's user data names.
start_boot() { # control port, the endpoint's URL
  spawn_python boot "$hack/boot/boot.py" --port "$1" --endpoint "$2" --cluster-name "$cluster_name" \
    --server "$apiserver" --authority "$state/ca.crt" --token-file "$state/admin-token"
}

boot_ready() { curl --silent --max-time 2 "$1/settings"; }

endpoint_ready() { curl --silent --fail --max-time 2 "$1/_tonnage/calls"; }
