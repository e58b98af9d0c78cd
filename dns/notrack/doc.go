// Package notrack exempts DNS at given addresses from connection tracking: a driver of the nftables table
// "inet seamark-dns" by netlink.
//
// A packet that is not tracked is not subject to NAT, so what the service proxy does with these addresses does not
// concern it. The rules stand at priority raw, before connection tracking, for packets to port 53 of the addresses and
// for the replies, both as they arrive and as local processes send them:
//
//	table inet seamark-dns {
//		set ours4 { type ipv4_addr; }
//		set queries4 { type ipv4_addr; }
//		set replies4 { type ipv4_addr; }
//		…
//		chain prerouting {
//			type filter hook prerouting priority raw; policy accept;
//			ip daddr @queries4 udp dport 53 notrack
//			ip saddr @replies4 udp sport 53 notrack
//			…
//		}
//		chain output {
//			…
//			ip saddr @ours4 icmp type destination-unreachable icmp code port-unreachable @th,240,16 0x35 drop
//		}
//	}
//
// The last rule is for the time between the end of one server and the start of the next: a resolver that hears that
// nobody listens gives up at once and its user gets an error; one that hears nothing asks again after some seconds, and
// is answered.
package notrack
