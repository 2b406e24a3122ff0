package gateway

// maxDepth bounds the nesting of arrays and objects in an event or a management
// body, the outermost object included.
const maxDepth = 128

// jsonSpace is what JSON calls white space.
const jsonSpace = " \t\r\n"

// scanner walks JSON (RFC 8259) strictly and without copying. After a method
// has reported false, problem and at say what is wrong and where; the scanner
// must not be used any further.
//
// It checks syntax alone: UTF-8 is checked over whole documents (invalidUTF8),
// duplicate names by those who know the fields. It does not recurse, so that
// no input can exhaust the stack.
type scanner struct {
	data    []byte
	pos     int
	problem string
	at      int // offset of the problem in data

	// tooDeep is the offset of the first bracket that opens a level deeper than
	// allowed, or -1. It is not a syntax error: the scanner walks on, so that in
	// a batch it remains the problem of one event.
	tooDeep int

	open []uint64 // one bit per open container: 1 object, 0 array; bounded by the body
}

// token is a part of the scanned data, from its first byte to the one after its
// last.
type token struct{ start, end int }

// reset starts over with data, keeping what has been allocated.
func (s *scanner) reset(data []byte) {
	const keep = 16 // words; enough for any depth that is not refused
	open := s.open
	if len(open) > keep {
		open = nil
	}
	*s = scanner{data: data, tooDeep: -1, open: open}
}

func (s *scanner) raw(t token) []byte { return s.data[t.start:t.end] }

func (s *scanner) fail(at int, problem string) bool {
	s.at, s.problem = at, problem
	return false
}

// unexpected fails at the current position.
func (s *scanner) unexpected(wanted string) bool {
	if s.pos >= len(s.data) {
		return s.fail(len(s.data), "unexpected end; expected "+wanted)
	}
	return s.fail(s.pos, "expected "+wanted)
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte that is not white space, or 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// end reports whether nothing but white space follows.
func (s *scanner) end() bool {
	if s.space(); s.pos < len(s.data) {
		return s.fail(s.pos, "expected the end: only one JSON value is allowed")
	}
	return true
}

// enter consumes the bracket that opens an object or array, which the caller
// then walks through with member or element.
func (s *scanner) enter() { s.pos++ }

// member reads the next member of an object that was entered. more is false
// after the closing brace. first must be true for the first call.
func (s *scanner) member(first bool, depth int) (name, value token, more, ok bool) {
	switch c := s.peek(); {
	case c == '}':
		s.pos++
		return name, value, false, true
	case first:
	case c == ',':
		s.pos++
		s.space()
	default:
		return name, value, false, s.unexpected("',' or '}'")
	}
	if name, ok = s.name(); !ok {
		return name, value, false, false
	}
	value, ok = s.value(depth)
	return name, value, ok, ok
}

// element moves to the next element of an array that was entered. more is false
// after the closing bracket. first must be true for the first call.
func (s *scanner) element(first bool) (more, ok bool) {
	switch c := s.peek(); {
	case c == ']':
		s.pos++
		return false, true
	case first:
		return true, true
	case c == ',':
		s.pos++
		s.space()
		return true, true
	default:
		return false, s.unexpected("',' or ']'")
	}
}

// name reads a member's name and the colon after it.
func (s *scanner) name() (token, bool) {
	if s.peek() != '"' {
		return token{}, s.unexpected("a member's name")
	}
	t := token{start: s.pos}
	if !s.str() {
		return t, false
	}
	t.end = s.pos
	if s.peek() != ':' {
		return t, s.unexpected("':'")
	}
	s.pos++
	return t, true
}

// value reads one value of any kind. depth is how many levels are open around
// it.
func (s *scanner) value(depth int) (token, bool) {
	s.space()
	t := token{start: s.pos}
	ok := s.walk(depth)
	t.end = s.pos
	return t, ok
}

// walk is value without the token: a loop over a stack of open containers.
func (s *scanner) walk(depth int) bool {
	level := 0
	for {
		switch s.peek() {
		case '{', '[':
			object := s.data[s.pos] == '{'
			s.push(level, object, depth)
			s.pos++
			if c := s.peek(); c == '}' && object || c == ']' && !object {
				s.pos++
				break
			}
			level++
			if object {
				if _, ok := s.name(); !ok {
					return false
				}
			}
			continue
		case '"':
			if !s.str() {
				return false
			}
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			if !s.number() {
				return false
			}
		case 't':
			if !s.literal("true") {
				return false
			}
		case 'f':
			if !s.literal("false") {
				return false
			}
		case 'n':
			if !s.literal("null") {
				return false
			}
		default:
			return s.unexpected("a value")
		}
		if level = s.closeLevels(level); level <= 0 {
			return level == 0
		}
	}
}

// closeLevels goes on after a complete value: past closing brackets up to the
// next value. It returns the level of that value, 0 when the outermost value is
// complete, and -1 on a syntax error.
func (s *scanner) closeLevels(level int) int {
	for level > 0 {
		object := s.open[(level-1)/64]>>((level-1)%64)&1 == 1
		switch c := s.peek(); {
		case c == ',':
			s.pos++
			if object {
				s.space()
				if _, ok := s.name(); !ok {
					return -1
				}
			}
			return level
		case c == '}' && object, c == ']' && !object:
			s.pos++
			level--
		case object:
			s.unexpected("',' or '}'")
			return -1
		default:
			s.unexpected("',' or ']'")
			return -1
		}
	}
	return 0
}

// push notes that a container is opened at level (from 0) under depth others.
func (s *scanner) push(level int, object bool, depth int) {
	if depth+level >= maxDepth && s.tooDeep < 0 {
		s.tooDeep = s.pos
	}
	if level/64 == len(s.open) {
		s.open = append(s.open, 0)
	}
	mask := uint64(1) << (level % 64)
	if s.open[level/64] &^= mask; object {
		s.open[level/64] |= mask
	}
}
