// Package nfnl speaks netlink with the kernel's netfilter: it writes messages and attributes into a buffer, sends them, and
// hands out answers one by one, however many there are. What the messages mean is its users' affair: package nft's for
// nf_tables, package conntrack's for flows. Libraries read all answers into memory before the first is seen, with several
// allocations each: a hundred thousand elements or flows are felt.
package nfnl
