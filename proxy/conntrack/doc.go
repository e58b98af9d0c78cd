// Package conntrack ends UDP flows that connection tracking keeps on a way that the rules no longer take.
//
// A translation is decided by the first packet of a flow and kept as long as packets come. TCP notices when its
// endpoint is gone; a UDP client that keeps its port would talk to nobody for ever. So flows to a frontend that do not
// end at one of its serving endpoints are deleted, and their next packet is translated anew. Flows to an endpoint that
// only does not get new flows any more (it terminates, or a traffic policy changed) are left alone, as in kube-proxy.
//
// The table is looked through only after the frontends of a UDP port have changed. All flows are looked at once after the
// start, when those to frontends that went while no agent ran are found too: by the address, which is one of the cluster
// IPs, a VIP, or one of a pool. What went to a node port then is left alone, because a node's addresses have other uses; so
// have those of Services that another proxy serves. The same is done when rules are in force again that somebody else had
// changed, or that could not be made: flows may have been made without them. The kernel is asked for UDP flows only, and for
// those to the frontends in question where these are few; its answers are looked at one by one and not kept.
package conntrack
