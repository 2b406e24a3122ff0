package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealpost/sealpost/core"
	"github.com/sealpost/sealpost/core/frame"
)

// maxLetterRead bounds the payloads of one read of dead letters, in bytes as they are
// in memory afterwards. A single one may be larger.
const maxLetterRead = 4 << 20

// maxListRead bounds the payloads, in bytes as they stand there, that Redis reads to
// list dead letters: a millisecond or two of its time. A single one may be larger.
const maxListRead = 1 << 20

// listFields are the fields of a dead letter that are shown, in the order of the
// reply of listDeadScript.
const listFields = 8

// listDeadScript lists the newest entries of a stream of dead letters without their
// payloads, as many as it can without reading more bytes of these.
//
// KEYS: deadKey. ARGV: where to begin as for XREVRANGE, most entries, most bytes.
// Reply: 1 if there are more, else 0; of each entry its id and listFields.
var listDeadScript = redis.NewScript(luaPage + `
local most = tonumber(ARGV[2])
local names = {'delivery', 'event', 'type', 'accepted', 'attempts', 'reason', 'at', 'size'}
local function size(entry) return #entry[2][#entry[2]] end
local entries, more = page('XREVRANGE', KEYS[1], ARGV[1], '-', most + 1, tonumber(ARGV[3]), size)
local reply = {'0'}
if more or #entries > most then reply[1] = '1' end
for n = 1, math.min(#entries, most) do
	local entry, values = entries[n], {}
	for i = 1, #entry[2], 2 do values[entry[2][i]] = entry[2][i+1] end
	if not values.size then values.size = tostring(#(values.body or '')) end
	reply[#reply+1] = entry[1]
	for _, name in ipairs(names) do reply[#reply+1] = values[name] or '' end
end
return reply
`)

// DeadLetters lists up to limit of an endpoint's dead letters, newest first: those
// before the entry `before`, or from the newest if that is "". It lists fewer when they
// are large, since Redis reads what it lists, and says whether there are more. Their
// events have neither body nor origin. What this version cannot read of one that
// another wrote is left empty.
func (s *Store) DeadLetters(ctx context.Context, ref core.EndpointRef, before string, limit int) (letters []core.KeptLetter, more bool, err error) {
	defer s.metrics.took(opReadDeadLetters, time.Now())
	if limit < 1 {
		return nil, false, nil
	}
	from := "+"
	if before != "" {
		from = "(" + before
	}
	reply, err := listDeadScript.Run(ctx, s.client, []string{deadKey(ref.ID)}, from, limit, maxListRead).StringSlice()
	if err != nil {
		return nil, false, s.fail(opReadDeadLetters, err)
	}
	more, reply = reply[0] == "1", reply[1:]
	letters = make([]core.KeptLetter, 0, len(reply)/(1+listFields))
	for ; len(reply) > listFields; reply = reply[1+listFields:] {
		l, err := listedLetter(ref, reply[:1+listFields])
		if err != nil {
			s.unreadable(ref, reply[0], err)
		}
		letters = append(letters, l)
	}
	return letters, more, nil
}

// listedLetter reads one entry of the reply of listDeadScript.
func listedLetter(ref core.EndpointRef, values []string) (core.KeptLetter, error) {
	var p numbers
	l := core.KeptLetter{
		Entry: values[0], DiedAt: entryTime(values[0]), Size: int(p.integer(values[8])),
		DeadLetter: core.DeadLetter{
			Delivery: core.Delivery{
				ID: values[1], Organization: ref.Organization, Endpoint: ref.ID, Attempts: int(p.integer(values[5])),
				Event: &core.Event{ID: values[2], Type: values[3], AcceptedAt: p.millis(values[4])},
			},
			Reason: core.Reason(values[6]), At: p.millis(values[7]),
		},
	}
	return l, p.err
}

// entryTime returns the time of a stream's entry.
func entryTime(entry string) time.Time {
	ms, _, _ := strings.Cut(entry, "-")
	n, _ := strconv.ParseInt(ms, 10, 64) // Redis made it
	return time.UnixMilli(n).UTC()
}

func (s *Store) unreadable(ref core.EndpointRef, entry string, err error) {
	s.log.Warn("unreadable dead letter", "endpoint", ref.ID, "entry", entry, "error", err)
}

// readDeadScript reads entries of a stream of dead letters, oldest first, until there
// are enough of them or of the bytes of their payloads.
//
// KEYS: deadKey. ARGV: from and to as for XRANGE, most entries, most bytes. Reply:
// the entries as of XRANGE.
var readDeadScript = redis.NewScript(luaPage + luaPayload + `
return (page('XRANGE', KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), payload))
`)

// ReadDeadLetters returns up to limit of an endpoint's dead letters in r with their
// payloads, oldest first, and fewer when these are more than 4 MiB: more may follow
// unless it returns none. One that cannot be read, because a newer version wrote it, is logged
// and has no event.
func (s *Store) ReadDeadLetters(ctx context.Context, ref core.EndpointRef, r core.LetterRange, limit int) ([]core.KeptLetter, error) {
	defer s.metrics.took(opReadDeadLetters, time.Now())
	from, to := "-", "+"
	switch {
	case r.After != "":
		from = "(" + r.After
	case !r.Since.IsZero():
		from = strconv.FormatInt(max(0, r.Since.UnixMilli()), 10)
	}
	if r.Last != "" {
		to = r.Last
	}
	reply, err := readDeadScript.Run(ctx, s.client, []string{deadKey(ref.ID)}, from, to, limit, maxLetterRead).Slice()
	if err != nil {
		return nil, s.fail(opReadDeadLetters, err)
	}
	return s.lettersOf(ref, reply)
}

// luaPayload defines payload, the bytes of the body of an entry of a stream of dead
// letters: as it stands there or, if that is more, when it is read.
const luaPayload = `
local function payload(entry)
	local values = entry[2]
	for i = 1, #values, 2 do
		if values[i] == 'size' then return math.max(tonumber(values[i+1]) or 0, #values[#values]) end
	end
	return #values[#values]
end
`

// findDeadScript reads the dead letters of deliveries until their payloads are too
// many bytes.
//
// KEYS: deadKey, deadIndexKey. ARGV: most bytes, deliveries. Reply: of each delivery
// its entry as of XRANGE, none where there is no dead letter.
var findDeadScript = redis.NewScript(luaPayload + `
local left, reply = tonumber(ARGV[1]), {}
for i = 2, #ARGV do
	local id, found = redis.call('HGET', KEYS[2], ARGV[i]), {}
	if id then found = redis.call('XRANGE', KEYS[1], id, id) end
	if found[1] then
		local bytes = payload(found[1])
		if bytes > left and #reply > 0 then break end
		left = left - bytes
	end
	reply[#reply+1] = found
end
return reply
`)

// FindDeadLetters returns the dead letters of the first of some deliveries with their
// payloads, parallel to ids; nil where there is none. It ends before the payloads are
// more than 4 MiB, and returns at least one of one id. One that cannot be read has no
// event.
func (s *Store) FindDeadLetters(ctx context.Context, ref core.EndpointRef, ids []string) ([]*core.KeptLetter, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	defer s.metrics.took(opReadDeadLetters, time.Now())
	args := make([]any, 0, 1+len(ids))
	args = append(args, maxLetterRead)
	for _, id := range ids {
		args = append(args, id)
	}
	reply, err := findDeadScript.Run(ctx, s.client, []string{deadKey(ref.ID), deadIndexKey(ref.ID)}, args...).Slice()
	if err != nil {
		return nil, s.fail(opReadDeadLetters, err)
	}
	letters := make([]*core.KeptLetter, len(reply))
	for i, v := range reply {
		found, err := s.lettersOf(ref, v)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			letters[i] = &found[0]
		}
	}
	return letters, nil
}

// lettersOf reads entries as of XRANGE.
func (s *Store) lettersOf(ref core.EndpointRef, reply any) ([]core.KeptLetter, error) {
	entries, _ := reply.([]any)
	letters := make([]core.KeptLetter, 0, len(entries))
	for _, v := range entries {
		pair, _ := v.([]any)
		if len(pair) != 2 {
			return nil, s.fail(opReadDeadLetters, fmt.Errorf("an entry of %d parts", len(pair)))
		}
		entry, _ := pair[0].(string)
		flat, _ := pair[1].([]any)
		values := make(map[string]any, len(flat)/2)
		for i := 0; i+1 < len(flat); i += 2 {
			name, _ := flat[i].(string)
			values[name] = flat[i+1]
		}
		letters = append(letters, s.letterOf(ref, entry, values))
	}
	return letters, nil
}

// letterOf reads a dead letter. One that cannot be read is logged and has no event.
func (s *Store) letterOf(ref core.EndpointRef, entry string, values map[string]any) core.KeptLetter {
	l, err := parseLetter(ref, values)
	if err != nil {
		s.unreadable(ref, entry, err)
		l = core.KeptLetter{DeadLetter: core.DeadLetter{Delivery: core.Delivery{Organization: ref.Organization, Endpoint: ref.ID}}}
	}
	l.Entry, l.DiedAt = entry, entryTime(entry)
	return l
}

// parseLetter reads the fields of a dead letter. Before there were frames the event
// stood in fields of its own, without origin and age.
func parseLetter(ref core.EndpointRef, values map[string]any) (core.KeptLetter, error) {
	text := func(field string) string {
		s, _ := values[field].(string)
		return s
	}
	var p numbers
	l := core.KeptLetter{DeadLetter: core.DeadLetter{Reason: core.Reason(text("reason")), At: p.millis(text("at"))}}
	if stored := text("d"); stored != "" {
		ds, err := frame.Decode([]byte(stored))
		if err == nil && len(ds) != 1 {
			err = fmt.Errorf("%w: %d deliveries in one entry", frame.ErrUndecodable, len(ds))
		}
		if err != nil {
			return l, err
		}
		l.Delivery = ds[0]
	} else {
		l.Delivery = core.Delivery{
			ID: text("delivery"), Organization: ref.Organization, Endpoint: ref.ID, Attempts: int(p.integer(text("attempts"))),
			Event: &core.Event{ID: text("event"), Type: text("type"), Body: []byte(text("body")), AcceptedAt: p.millis(text("accepted"))},
		}
	}
	l.Size = len(l.Delivery.Event.Body)
	return l, p.err
}

// luaRemoveLetters defines removed, which removes entries of a stream of dead
// letters, those that are still there, and returns how many were.
const luaRemoveLetters = luaLetters + `
local function removed(stream, index, first)
	local gone, bytes = 0, 0
	for i = first, #ARGV do
		local entry = redis.call('XRANGE', stream, ARGV[i], ARGV[i])[1]
		if entry then
			redis.call('XDEL', stream, ARGV[i])
			redis.call('HDEL', index, entry[2][2])
			gone, bytes = gone + 1, bytes + size(entry)
		end
	end
	if gone > 0 then redis.call('HINCRBY', index, ':bytes', -bytes) end
	return gone
end
`

// removeDeadScript removes dead letters.
//
// KEYS: deadKey, deadIndexKey. ARGV: entries. Reply: how many were there.
var removeDeadScript = redis.NewScript(luaRemoveLetters + `return removed(KEYS[1], KEYS[2], 1)`)

// RemoveReplayed removes dead letters that were replayed; those of its entries that
// are gone do not matter, so it may be called again.
func (s *Store) RemoveReplayed(ctx context.Context, ref core.EndpointRef, entries []string) error {
	if len(entries) == 0 {
		return nil
	}
	defer s.metrics.took(opRemoveDeadLetters, time.Now())
	args := make([]any, len(entries))
	for i, entry := range entries {
		args[i] = entry
	}
	gone, err := removeDeadScript.Run(ctx, s.client, []string{deadKey(ref.ID), deadIndexKey(ref.ID)}, args...).Int()
	if err != nil {
		return s.fail(opRemoveDeadLetters, err)
	}
	s.metrics.replayed.Add(float64(gone))
	s.forgetReplayed(ctx, ref, entries)
	return nil
}

// clearDeadScript removes all dead letters of an endpoint.
//
// KEYS: deadKey, deadIndexKey. Reply: how many there were.
var clearDeadScript = redis.NewScript(`
local count = redis.call('XLEN', KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2])
return count
`)

// ClearDeadLetters removes all dead letters of an endpoint and returns how many there
// were.
func (s *Store) ClearDeadLetters(ctx context.Context, ref core.EndpointRef) (int, error) {
	defer s.metrics.took(opRemoveDeadLetters, time.Now())
	count, err := clearDeadScript.Run(ctx, s.client, []string{deadKey(ref.ID), deadIndexKey(ref.ID)}).Int()
	if err != nil {
		return 0, s.fail(opRemoveDeadLetters, err)
	}
	s.metrics.cleared.Add(float64(count))
	return count, nil
}
