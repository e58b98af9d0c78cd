// Package bgp has this node's BGP sessions (RFC 4271, RFC 4760) and originates its routes. It is a driver around
// github.com/osrg/gobgp/v4, none of whose types leave the package: Set is given a plan.BGP and makes it so, Status reads
// back what became of it.
//
// The speaker dials and does not listen, has no gRPC endpoint, takes in no route and sends none but what it was told to.
// translate.go turns wanted state into gobgp's values and words.go its errors into sentences; both are pure. tap.go reads
// gobgp's log, the only place where it says why a session does not come up.
package bgp
