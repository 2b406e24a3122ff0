package publish

import (
	"container/list"
	"sync"
	"time"

	"github.com/sealpost/sealpost/core"
)

const (
	// snapshotLifetime is how long a snapshot serves although nothing moved: a
	// second line behind the version token.
	snapshotLifetime = 60 * time.Second

	// maxSnapshotEntries bounds all snapshots together, in pairs of event type
	// and endpoint (about 60 bytes each). The least recently used go first.
	maxSnapshotEntries = 1 << 20
)

// snapshot is who gets what in an organization at one version of its endpoints.
// It is immutable.
type snapshot struct {
	version  string
	loadedAt time.Time
	byType   map[string]receivers // by event type
	entries  int                  // pairs of type and endpoint in byType, plus one for the snapshot itself
}

// receivers are the endpoints that get the events of one type.
type receivers struct {
	direct []string // ids of those that are sent to at once
	parked []parked // those whose deliveries go to their backlog
}

// countWith returns how many endpoints get an event that has been stored for those in
// before: they count although they may be gone by now.
func (r receivers) countWith(before endpointSet) int {
	n := len(before)
	for _, id := range r.direct {
		if _, ok := before[id]; !ok {
			n++
		}
	}
	for _, p := range r.parked {
		if _, ok := before[p.id]; !ok {
			n++
		}
	}
	return n
}

// parked is an endpoint whose deliveries go to its backlog.
type parked struct {
	id   string
	look time.Duration // how long after that the backlog has to be looked at
}

func newSnapshot(endpoints []core.Endpoint, version string, loadedAt time.Time) *snapshot {
	s := &snapshot{version: version, loadedAt: loadedAt, byType: make(map[string]receivers), entries: 1}
	for i := range endpoints {
		e := &endpoints[i]
		if !e.Takes() {
			continue
		}
		look, parks := e.ParksFresh()
		for _, t := range e.EventTypes {
			r := s.byType[t]
			if parks {
				r.parked = append(r.parked, parked{e.ID, look})
			} else {
				r.direct = append(r.direct, e.ID)
			}
			s.byType[t] = r
			s.entries++
		}
	}
	return s
}

// snapshots is a bounded cache of snapshots, safe for concurrent use.
type snapshots struct {
	maxEntries int

	mu      sync.Mutex
	byName  map[string]*list.Element // value: *cached
	recent  *list.List               // most recently used first
	entries int
}

type cached struct {
	organization string
	snapshot     *snapshot
}

func newSnapshots(maxEntries int) *snapshots {
	return &snapshots{maxEntries: maxEntries, byName: make(map[string]*list.Element), recent: list.New()}
}

// get returns the organization's snapshot if it is of this version and not too
// old, else nil. An organization without a version ("") has always moved.
func (c *snapshots) get(organization, version string, now time.Time) *snapshot {
	s := c.recentOf(organization, now)
	if s == nil || s.version != version {
		return nil
	}
	return s
}

// recentOf returns the organization's snapshot if it has a version and is not too old,
// else nil. Whether it is still valid remains to be seen.
func (c *snapshots) recentOf(organization string, now time.Time) *snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.byName[organization]
	if !ok {
		return nil
	}
	s := element.Value.(*cached).snapshot
	if s.version == "" || now.Sub(s.loadedAt) > snapshotLifetime {
		return nil
	}
	c.recent.MoveToFront(element)
	return s
}

// put keeps s and lets go of the least recently used beyond the bound; s itself
// stays in any case.
func (c *snapshots) put(organization string, s *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.byName[organization]; ok {
		c.removeLocked(element)
	}
	c.byName[organization] = c.recent.PushFront(&cached{organization: organization, snapshot: s})
	c.entries += s.entries
	for c.entries > c.maxEntries && c.recent.Len() > 1 {
		c.removeLocked(c.recent.Back())
	}
}

func (c *snapshots) removeLocked(element *list.Element) {
	old := c.recent.Remove(element).(*cached)
	delete(c.byName, old.organization)
	c.entries -= old.snapshot.entries
}
