// Package provider gives Services of type LoadBalancer their addresses: the cloud provider "seamark" for the stock
// service controller of k8s.io/cloud-provider, and what that controller cannot do by itself.
//
// Its place in the flow: it watches Services, namespaces, nodes, IPPools and VIPs; package ipam decides; a decision
// becomes true by creating VIP objects, each named by its address. That creation is the lock: the API server lets one
// succeed, whatever this or another controller believed. A node serves an address only for the Services that the VIP
// names, so an address is given back by deleting its VIP.
//
//   - provider.go, balancer.go: cloudprovider.Interface and its LoadBalancer; request.go turns a Service into a request.
//   - class.go: what the stock controller is shown of Services, and how it is woken. onewrite.go: what it writes.
//     retry.go: when a write that failed is tried again.
//   - allocator.go, vip.go: the index of package ipam, and the writing of VIPs. known.go: what is known of VIPs, from the
//     watch and from writes that it has not shown yet. openings.go: what may let a Service have what it waits for.
//   - waiting.go: Services that found no address, in order of age; when one frees or a pool changes, it is reserved for
//     the first of them that can use it, and the stock controller is woken for that one.
//   - services.go, garbage.go: what follows from changes of Services; VIPs whose Service went away unseen, claims that nothing
//     stands for, statuses that somebody edited.
//   - foreign.go: addresses that belong to nodes, pods and Services. condition.go, pools.go, views.go, metrics.go: what people
//     see: a condition on the Service, the status of IPPools, and that of VIPs and BGPPeers, gathered from what the nodes
//     write.
//
// Nothing is allocated before Services, namespaces, nodes, pools, VIPs and ServiceCIDRs have all been read once. Everything is
// read and followed from the start, also while another replica leads (Watch); writing is for the one that does (Run).
package provider
