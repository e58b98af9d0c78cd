// Package ipam decides which Service gets which address: pools × claims × request → addresses, or a typed reason that
// says what to change.
//
// Its place in the flow: package provider reads IPPools, VIPs and Services, keeps an Index of them, asks Index.Decide
// and makes the decision true with VIP objects. Nothing here knows of a client, a clock or a log. The Index is a cache
// and never the last word: the API server's refusal to create a second VIP of the same name is.
//
// # What depends on the order in which things happen
//
// An answer depends only on the pools, claims and Services that the Index has been told of, never on the order in which it
// was told. Two controllers that know the same decide the same, and so does one that has started anew.
//
// Which claims there are depends on the order in which Services were served, as little as can be: the lowest free address of
// the first pool wins. The set of held addresses is the same for every order in which the same Services arrive, though not
// always who holds which, if all reservations, and all Services that ask for an address by name, are known before the first
// is served, and in either of these cases:
//
//   - No pool runs full. Services may be of all kinds; of those with one sharing key all must be able to share with all, and
//     want the same families from the same pools, and none of them has a reservation or asks for an address by name.
//   - Pools run full, but the Services share nothing and differ in nothing that a pool looks at: labels, namespace, the pool
//     that they name. And all want one and the same family; or there is only one pool, and nobody insists on two families.
//
// Outside of that the order counts, because a Service keeps what it has been given:
//
//   - A Service that leaves frees its address only for those that come later.
//   - Where pools run full and Services differ in the pools that they may use, or in their families, who comes first may take
//     what another could have done without, or not: more or fewer are served in the end.
//   - A Service that asks by name for an address that somebody has by then does not get it. A reservation that comes after
//     the Service that it is for does not move that.
//   - Sharing is first-fit: a Service joins the lowest address where it fits. Where not all can share with all, or one of
//     them has an address of its own by name or by reservation, the order decides how many addresses they need.
//   - A pool that starts to drain keeps what it has given until then. Apart from that a pool that drains is as if it were
//     not there.
//
// TestHistoryIndependence shows the first two, TestWhereHistoryCounts each of the others.
//
// # Cost
//
// Memory grows with the addresses that are or were held, not with the size of the pools. An allocation looks at the ranges of
// the pools that come into question and, in those, at no address that is held, however full they are, except once: each
// address that was taken by name, by reservation or in another order is passed over by one later search, at the cost of a
// heap operation at most.
package ipam
