// Package nft makes the tables of package ruleset true in the kernel, through netlink; no program is run.
//
// It touches the tables "ip seamark" and "ip6 seamark" and nothing else. Each table changes in one transaction, so
// packets see the old state or the new one. What is there when the agent starts is taken over: only the difference is
// changed, and tables stay when the agent ends, so connections never notice a restart. A transaction that the kernel
// refuses is cut down until the offending Service is found; everything else is programmed.
//
// "nft list ruleset" of nft 1.0.6 (Debian 12) prints the tables, and what it prints loads again, with one exception: it
// cannot load the rules of session affinity over IPv6, whose map has a key of more than 16 bytes.
//
// Rules are encoded with github.com/google/nftables/expr. Sets and elements are encoded here: that library cannot
// write the "typeof" description without which "nft list ruleset" of Debian 12 cannot print our maps, and its ten
// allocations for each element are felt with a hundred thousand of them.
package nft
