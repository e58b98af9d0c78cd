// Package client is the typed client of Seamark's objects, in the shape of client-go's own clients: IPPools, BGPPeers
// and VIPs with get, list, watch, create, update, patch and delete. It is safe for concurrent use.
package client
