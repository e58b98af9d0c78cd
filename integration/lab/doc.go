// Package lab runs a real Kubernetes cluster on one Linux machine: etcd, the
// control plane, kubelets with containerd, a BIRD router and plain hosts, each
// in namespaces of its own and connected by a switch whose links can be cut.
// Scenario tests, the upstream e2e suite, benchmarks and the demo drive this
// package; the command integration/cmd/lab is a thin layer over it.
//
// # Hosts
//
// A host is a network, a UTS and a mount namespace, held by one sleeping
// process. The network namespace is also bound to /run/netns/LAB-HOST, so that
// `ip -n` and `ip netns exec` work. In the mount namespace /run is fresh, /var
// is the host's own and /etc is an overlay over the machine's. So every host
// has its own /etc/hosts, /run/containerd and /var/lib/kubelet in the usual
// places, and whatever is mounted there is gone when its processes are.
//
//	lan      the switch: one bridge per segment, one port per link
//	cp       etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//	node1…N  containerd, kubelet and, if asked for, kube-proxy
//	client   a plain host on the LAN
//	router   BIRD, between the LAN and the segment behind it
//	router2  a second one (optional)
//	remote   a host behind the routers; also the upstream DNS server
//
// # Cleaning up
//
// Every process of a lab is started inside the cgroup seamark-lab/LAB/HOST of
// the unified hierarchy, atomically with its creation, and whatever it forks
// stays there. That cgroup is the one record of what runs: finding, freezing
// and killing processes read it, and [Down] kills it as a whole, and besides
// what others have started in the hosts' network namespaces. Names of network
// namespaces and cgroups follow from the name of the lab. So Down needs nothing
// but that name, whatever had been reached when up was interrupted. Whoever makes
// or removes anything of a lab holds its lock meanwhile.
//
// The only thing in the machine's own network namespace is one listening socket
// on 127.0.0.1, through which kubectl reaches the API server. Addresses inside
// are of 10.0.0.0/8, fd00::/8, 198.51.100.0/24 and 203.0.113.0/24; tests and
// benchmarks take pools of 198.18.0.0/15 (RFC 2544) beside them.
//
// # Flow
//
// [Options] → [NewPlan] (pure: hosts, links, addresses, routes) → files and
// command lines per host (pure: files.go, and controlplane.go, node.go, router.go)
// → namespaces, links and processes.
package lab
