# shellcheck shell=bash
# Starts the EC2 endpoint, the machines' boot and the fault proxies on loopback. Sourced by hack/up.
#
# Given: $state, $python (folder of the Python environment), $hack, the ports. The account's contents and the endpoint's
# control API (/_tonnage/) are described in hack/endpoint, the fault proxies' in hack/endpoint/faults.py, the boot's in
# hack/boot/boot.py.

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
  spawn_python boot "$hack/boot/boot.py" --control-port "$1" --endpoint "$2" --cluster-name "$cluster_name" \
    --kubeconfig "$state/kubeconfig"
}

boot_ready() { curl --silent --fail --max-time 2 "$1/state"; }

endpoint_ready() { curl --silent --fail --max-time 2 "$1/_tonnage/calls"; }

# Stands before the endpoint and the API server; the latter's own certificate serves here too.
start_faults() { # control port, port before EC2, port before the API server, the endpoint's URL
  spawn_python faults "$hack/endpoint/faults.py" --control-port "$1" --ec2 "$2=$4" --kubernetes "$3=$apiserver" \
    --certificate "$state/certificates/apiserver.crt" --key "$state/certificates/apiserver.key"
}

faults_ready() { curl --silent --fail --max-time 2 "$1/rules"; }
