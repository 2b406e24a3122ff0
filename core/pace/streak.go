package pace

import "time"

// streak counts bad results in a row, in the order explained at Circuit.
type streak struct {
	length int
	bad    time.Time // when the newest bad attempt began
	good   time.Time // when the newest good attempt began
}

// add counts a bad attempt, unless a good one began after it.
func (s *streak) add(began time.Time) bool {
	if began.Before(s.good) {
		return false
	}
	s.length++
	if began.After(s.bad) {
		s.bad = began
	}
	return true
}

// endedBy takes in a good attempt: it ends the streak, unless it was over before
// the newest bad one began.
func (s *streak) endedBy(began, ended time.Time) {
	if ended.Before(s.bad) {
		return
	}
	s.length = 0
	if began.After(s.good) {
		s.good = began
	}
}
