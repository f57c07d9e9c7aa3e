# shellcheck shell=bash
# Starts etcd, the Kubernetes control plane and KWOK on loopback, with a state folder of their own. Sourced by hack/up.
#
# Given: $state, $tools and $python (folders of the programs and of the Python environment), $hack, the ports. Given back: $state/kubeconfig, $state/ca.crt.
# Only for tests and demos: etcd does not sync to disk, and the administrator's token lies in the state folder.

service_cidr=10.100.0.0/16

write_credentials() {
  openssl genrsa -out "$state/service-account.key" 2048 2>/dev/null
  admin_token=$(openssl rand -hex 16)
  echo "$admin_token,admin,admin,system:masters" >"$state/tokens.csv"
}

write_kubeconfig() { # file, server, certificate authority (empty: plain HTTP)
  local authority=""
  [ -z "$3" ] || authority="certificate-authority-data: $(base64 -w0 "$3")"
  cat >"$1" <<YAML
apiVersion: v1
kind: Config
current-context: tonnage-test
clusters:
  - name: tonnage-test
    cluster:
      server: $2
      $authority
users:
  - name: admin
    user:
      token: $admin_token
contexts:
  - name: tonnage-test
    context: {cluster: tonnage-test, user: admin}
YAML
}

start_etcd() { # client port, peer port
  spawn etcd "$tools/etcd" --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$1" --advertise-client-urls "http://127.0.0.1:$1" \
    --listen-peer-urls "http://127.0.0.1:$2" --initial-advertise-peer-urls "http://127.0.0.1:$2" \
    --initial-cluster "default=http://127.0.0.1:$2"
}

start_apiserver() { # port, etcd's client port
  spawn kube-apiserver "$tools/kube-apiserver" --etcd-servers "http://127.0.0.1:$2" \
    --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$1" --cert-dir "$state/certificates" \
    --service-account-key-file "$state/service-account.key" --service-account-signing-key-file "$state/service-account.key" \
    --service-account-issuer "https://kubernetes.default.svc" --service-cluster-ip-range "$service_cidr" \
    --authorization-mode RBAC --token-auth-file "$state/tokens.csv" --allow-privileged=true --profiling=false
}

# Shorter than a cluster's defaults where tests would wait: a kubelet that stopped is noticed after 20 s instead of 50 s
# (its lease is renewed every 5 s, so three renewals may be lost on a busy machine), and autoscalers look every 5 s instead of 15 s.
# Nothing here is a cloud's: nobody but the program under test deletes a Node whose instance has gone.
start_controller_manager() {
  spawn kube-controller-manager "$tools/kube-controller-manager" --kubeconfig "$state/kubeconfig" --leader-elect=false \
    --secure-port 0 --profiling=false --kube-api-qps 200 --kube-api-burst 400 \
    --service-account-private-key-file "$state/service-account.key" --root-ca-file "$state/ca.crt" \
    --controllers '*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller' \
    --node-monitor-period 2s --node-monitor-grace-period 20s --horizontal-pod-autoscaler-sync-period 5s
}

start_scheduler() { # port
  spawn kube-scheduler "$tools/kube-scheduler" --kubeconfig "$state/kubeconfig" --leader-elect=false \
    --bind-address 127.0.0.1 --secure-port "$1" --profiling=false --kube-api-qps 200 --kube-api-burst 400
}

# KWOK plays every node's kubelet by the stages in hack/kwok; freeze.py takes a node out of its hands.
start_kubelets() {
  spawn kwok "$tools/kwok" --kubeconfig "$state/kubeconfig" --manage-all-nodes --node-ip 127.0.0.1 --cidr 10.0.0.0/16 \
    --node-lease-duration-seconds 20 --config "$hack/kwok/nodes.yaml" --config "$hack/kwok/pods.yaml"
  spawn freeze env PYTHONDONTWRITEBYTECODE=1 "$python/bin/python3" "$hack/kwok/freeze.py" "$apiserver" "$state/ca.crt" "$state/admin-token"
}

apiserver_ready() {
  curl --silent --fail --max-time 2 --cacert "$state/ca.crt" --header "Authorization: Bearer $admin_token" "$apiserver/readyz"
}

kubectl_admin() { "$tools/kubectl" --kubeconfig "$state/kubeconfig" --request-timeout 10s "$@"; }

# The machine that the cluster's own components run on. Nothing may be bought for them.
register_system_node() {
  kubectl_admin apply --server-side -f "$hack/kwok/system-node.yaml" >/dev/null
}

node_ready() { # name
  kubectl_admin get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -qx True
}

default_account() { kubectl_admin get serviceaccount default --namespace default; }
scheduler_healthy() { curl --silent --fail --max-time 2 --insecure "https://127.0.0.1:$1/healthz"; }

# etcd and the API server, and nobody who writes but its clients.
start_api_server() { # etcd's client and peer port, the API server's
  local began=$SECONDS
  apiserver="https://127.0.0.1:$3"
  write_credentials
  printf '%s' "$admin_token" >"$state/admin-token"
  start_etcd "$1" "$2"
  start_apiserver "$3" "$1"
  await kube-apiserver 60 "its certificate is written" test -s "$state/certificates/apiserver.crt"
  cp "$state/certificates/apiserver.crt" "$state/ca.crt"
  write_kubeconfig "$state/kubeconfig" "$apiserver" "$state/ca.crt"
  await kube-apiserver 90 "the API server is ready" apiserver_ready
  progress "API server ready after $((SECONDS - began)) s"
}

start_control_plane() { # etcd's client and peer port, the API server's, the scheduler's
  local began=$SECONDS
  start_api_server "$1" "$2" "$3"
  start_controller_manager
  start_scheduler "$4"
  start_kubelets
  register_system_node
  await kwok 60 "node system-0 is Ready" node_ready system-0
  await kube-controller-manager 60 "the default ServiceAccount exists" default_account
  await kube-scheduler 60 "the scheduler is healthy" scheduler_healthy "$4"
  progress "control plane ready after $((SECONDS - began)) s"
}
