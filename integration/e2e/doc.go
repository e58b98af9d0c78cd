// Package e2e runs Kubernetes' own end-to-end tests in a lab: the judge of whether a service proxy, a DNS server and a load
// balancer do what users of Kubernetes rely on.
//
// Which specs are run stands in lists, one full name a line:
//
//	core.txt          Services, endpoints and DNS: what must pass in every lab
//	dualstack.txt     Services with addresses of both families: needs a lab with both
//	loadbalancer.txt  Services of type LoadBalancer: needs a provider
//	seamark.txt       of those, what passes with Seamark in all its parts; grows only
//	skip.txt          what cannot pass, and why
//
// Of [Feature:LoadBalancer] upstream's v1.36.3 has 17 specs, all in loadbalancer.txt. 14 of them are in seamark.txt, and
// with them the one of core.txt that needs a load balancer's address in a Service's status ("… internal traffic on Type
// LoadBalancer"). The other three are, for reasons that seamark.txt gives:
//
//   - should be able to switch session affinity for LoadBalancer service with Local traffic policy
//   - should not have connectivity disruption during rolling update with externalTrafficPolicy=Cluster
//   - should not have connectivity disruption during rolling update with externalTrafficPolicy=Local
//
// A run is good when each spec that it was to run, and that skip.txt does not name, has run and passed.
//
// Lists and specs → [Select] (pure) → the suite, on the lab's host "remote" → JUnit → [Summary] (pure).
package e2e
