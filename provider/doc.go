// Package provider gives Services of type LoadBalancer their addresses: the cloud provider "seamark" for the stock
// service controller of k8s.io/cloud-provider, and what that controller cannot do by itself.
//
// Its place in the flow: it watches Services, namespaces, nodes, IPPools and VIPs; package ipam decides; a decision
// becomes true by creating VIP objects, each named by its address. That creation is the lock: the API server lets one
// succeed, whatever this or another controller believed. A node serves an address only for the Services that the VIP
// names, so an address is given back by deleting its VIP.
//
//   - provider.go, balancer.go: cloudprovider.Interface and its LoadBalancer.
//   - allocator.go: the index of package ipam, kept up to date from VIPs and from writes that the watch has not shown
//     yet, and the writing of VIPs.
//   - waiting.go: Services that found no address, in order of age; when one frees or a pool changes, it is reserved for
//     the first of them that can use it, and the stock controller is woken for that one (wake.go).
//   - garbage.go: VIPs whose Service went away unseen; claims that nothing stands for.
//   - condition.go, pools.go, views.go: what people see: a condition on the Service, the status of IPPools, and that of
//     VIPs and BGPPeers, gathered from what the nodes write.
//
// Nothing is allocated before Services, namespaces, pools and VIPs have all been read once.
package provider
