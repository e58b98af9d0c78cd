/*
 * Fencing by quorum leases, for one address: the core of docs/decisions/quorum-leases.md, small enough to be searched
 * completely. hack/model checks it with spin, and checks that the variants that it knows to be wrong are found out.
 *
 * Two claimants, three acceptors, and a network that keeps the newest heartbeat from each claimant to each acceptor and the
 * newest acknowledgement back: each arrives at any time, any number of times, or never. Time is discrete; all clocks tick together (that they do not quite is what the margin between lease and grant is for, which the
 * simulator covers with clocks of its own). Nobody has to act before time goes on, so each claimant and each acceptor may be
 * paused at any point for any time: a paused claimant's lease ages like any other, for it is a number that is compared with
 * the clock. Not modelled: several addresses, changes of the members, witnesses, sequence numbers and incarnations; see the
 * simulator (speaker/liveness).
 *
 * All is one process with a choice of actions, each of them atomic.
 */

#define CLAIMANTS 2
#define ACCEPTORS 3
#define MAJORITY  2

#ifndef GRANT
#define GRANT 2 /* an acceptor stands by a grant for so long after it last heard of the holder: the detection time */
#endif
#ifndef LEASE
#define LEASE 2 /* a claimant answers for less than so long after it sent a heartbeat that a majority acknowledged */
#endif

#define OLD LEASE /* an age at which a heartbeat or an acknowledgement is worth nothing; ages are counted no further */

#define at(c, a) ((c) * ACCEPTORS + (a))

/* Of claimants: whether it claims the address, and for each acceptor how long ago it sent the newest heartbeat that came back
 * with a grant. */
bool claims[CLAIMANTS];
byte granted[CLAIMANTS * ACCEPTORS];

/* Of acceptors: to whom the address is granted (claimant + 1), how long that one has been silent, and for how long nothing
 * is granted after a restart. */
byte holder[ACCEPTORS];
byte silent[ACCEPTORS];
byte quiet[ACCEPTORS];

/* On their way: heartbeats, what they say and their age, which nobody asks for in one that lets go; and grants with the age
 * of the heartbeat that they acknowledge. An acceptor that does not grant is not heard of. */
bool beatClaims[CLAIMANTS * ACCEPTORS];
byte beatAge[CLAIMANTS * ACCEPTORS];
byte ackAge[CLAIMANTS * ACCEPTORS];

/* From the moment that it is stable, everything arrives within its tick, each claimant claims and sends in each tick, and
 * nobody restarts or lets go. */
bool stable;

#define votes(c) ((granted[at(c, 0)] < LEASE) + (granted[at(c, 1)] < LEASE) + (granted[at(c, 2)] < LEASE))
#define owns(c)  (claims[c] && votes(c) >= MAJORITY)

#ifdef LIVENESS
/* Once it is stable, somebody owns the address before long, and for good. */
ltl someone { [] (stable -> <> [] (owns(0) || owns(1))) }
#endif

inline older(age) {
	if
	:: age < OLD -> age++
	:: else
	fi
}

inline send(c) {
	a = 0;
	do
	:: a < ACCEPTORS ->
		beatClaims[at(c, a)] = claims[c];
		beatAge[at(c, a)] = (claims[c] -> 0 : OLD);
		a++
	:: else -> break
	od;
	a = 0
}

/* A claimant lets go: it stops answering, and says so only then. What was acknowledged before counts for no later claim:
 * acknowledgements say of which version of the claims they are. */
inline release(c) {
#ifdef LATERELEASE
	claims[c] = false; send(c); claims[c] = true
#else
	claims[c] = false;
	do
	:: a < ACCEPTORS ->
		granted[at(c, a)] = OLD;
#ifndef ANYVERSION
		ackAge[at(c, a)] = OLD;
#endif
		a++
	:: else -> break
	od;
	send(c)
#endif
}

/* A heartbeat arrives at an acceptor, which acknowledges it. */
inline receiveBeat(c, a) {
	if
	:: !beatClaims[at(c, a)] && holder[a] == c + 1 -> holder[a] = 0; silent[a] = 0
#ifdef TWICE
	:: beatClaims[at(c, a)] && quiet[a] == 0 ->
#else
	:: beatClaims[at(c, a)] && quiet[a] == 0 && (holder[a] == 0 || holder[a] == c + 1) ->
#endif
		holder[a] = c + 1;
		silent[a] = 0;
		ackAge[at(c, a)] = beatAge[at(c, a)]
	:: else
	fi
}

/* An acknowledgement arrives at a claimant. It counts from the sending of the heartbeat on. */
inline receiveAck(c, a) {
	if
#ifdef FROMRECEIPT
	:: claims[c] && ackAge[at(c, a)] < OLD -> granted[at(c, a)] = 0
#else
	:: claims[c] && ackAge[at(c, a)] < granted[at(c, a)] -> granted[at(c, a)] = ackAge[at(c, a)]
#endif
	:: else
	fi
}

inline tick() {
	do
	:: a < ACCEPTORS ->
		if
		:: quiet[a] > 0 -> quiet[a]--
		:: else
		fi;
		if
		:: holder[a] != 0 && silent[a] + 1 < GRANT -> silent[a]++
		:: else -> holder[a] = 0; silent[a] = 0
		fi;
		do
		:: c < CLAIMANTS ->
			older(granted[at(c, a)]);
			older(beatAge[at(c, a)]);
			older(ackAge[at(c, a)]);
			c++
		:: else -> break
		od;
		c = 0;
		a++
	:: else -> break
	od;
	a = 0
}

/* What happens in a tick when all is well. */
inline round() {
	tick();
	do
	:: c < CLAIMANTS ->
		claims[c] = true;
		send(c);
		do
		:: a < ACCEPTORS -> receiveBeat(c, a); receiveAck(c, a); a++
		:: else -> break
		od;
		a = 0;
		c++
	:: else -> break
	od;
	c = 0
}

init {
	byte c, a;
	d_step {
		do
		:: c < CLAIMANTS * ACCEPTORS ->
			granted[c] = OLD; beatAge[c] = OLD; ackAge[c] = OLD;
			c++
		:: else -> break
		od;
		c = 0
	}
	do
	/* At no time do two claimants answer. */
	:: d_step { owns(0) && owns(1) -> assert(false) }

	/* Time goes on. */
	:: d_step { !stable -> tick() }
#ifdef LIVENESS
	:: d_step { stable -> round() }
	/* From now on all is well. */
	:: d_step { !stable -> stable = true }
#endif

	:: atomic { !stable ->
		select (c : 0 .. CLAIMANTS - 1);
		if
		:: d_step { !claims[c] -> claims[c] = true; send(c) }
		:: d_step { claims[c] -> send(c) }
		:: d_step { claims[c] -> release(c) }
		fi;
		c = 0
	}

	:: atomic { !stable ->
		select (c : 0 .. CLAIMANTS - 1);
		select (a : 0 .. ACCEPTORS - 1);
		if
		:: d_step { receiveBeat(c, a) }
		:: d_step { receiveAck(c, a) }
		/* An acceptor restarts: its memory is gone, so it grants nothing until what it had granted has expired. */
		:: d_step {
			holder[a] = 0; silent[a] = 0;
#ifndef NOQUIET
			quiet[a] = GRANT
#endif
		}
		fi;
		c = 0; a = 0
	}
	od
}
