// Package agents does for the node agents what no agent can do by itself: it makes the key with which they seal their
// heartbeats, and it removes the Leases of agents that are gone for good, so that they are members of their segments no longer.
//
// It runs in the controller that leads, beside package provider, and has nothing to do with addresses.
package agents
