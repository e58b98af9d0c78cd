// Package ipam decides which Service gets which address: pools × claims × request → addresses, or a typed reason that
// says what to change.
//
// Its place in the flow: package provider reads IPPools, VIPs and Services, keeps an Index of them, asks Index.Decide
// and makes the decision true with VIP objects. Nothing here knows of a client, a clock or a log. The Index is a cache
// and never the last word: the API server's refusal to create a second VIP of the same name is.
//
// The lowest free address wins, so which addresses are held does not depend on the order in which Services arrived.
// Memory grows with the addresses that are or were held, not with the size of the pools; an allocation is one heap
// operation, however full the pool is.
package ipam
