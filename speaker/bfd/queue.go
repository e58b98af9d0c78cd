package bfd

import "container/heap"

// queue is a heap of sessions by the time at which they want attention. Those that want none are not in it.
type queue []*session

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push is for container/heap.
func (q *queue) Push(x any) {
	s := x.(*session)
	s.place = len(*q)
	*q = append(*q, s)
}

// Pop is for container/heap.
func (q *queue) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	s.place = nowhere
	return s
}

// nowhere is the place of a session that is not in the queue.
const nowhere = -1

// update puts the session where its machine's deadline says.
func (q *queue) update(s *session) {
	due := s.machine.Deadline()
	switch {
	case due.IsZero() && s.place != nowhere:
		heap.Remove(q, s.place)
	case due.IsZero():
	case s.place == nowhere:
		s.due = due
		heap.Push(q, s)
	case !s.due.Equal(due):
		s.due = due
		heap.Fix(q, s.place)
	}
}
