package redisstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealpost/sealpost/core"
)

// TestBacklogsFollowTheModel does random things to a few backlogs and compares Redis
// with what should be there after each.
func TestBacklogsFollowTheModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s, _ := setup(t)
			m := model{t: t, s: s, r: rand.New(rand.NewPCG(seed, 5)), claims: make(map[core.EndpointRef]core.Claim), backlogs: make(map[core.EndpointRef][]string)}
			for n := range 4 {
				m.refs = append(m.refs, endpoint("acme", n).Ref())
			}
			for range 250 {
				m.step()
				m.compare()
				if t.Failed() {
					t.Fatalf("after:\n%v", m.steps)
				}
			}
		})
	}
}

// model is what should be in Redis.
type model struct {
	t        *testing.T
	s        *Store
	r        *rand.Rand
	refs     []core.EndpointRef
	steps    []string
	backlogs map[core.EndpointRef][]string   // ids of deliveries, oldest first
	claims   map[core.EndpointRef]core.Claim // in force
	lost     []core.Claim
	settled  []core.Drained // may be written again
}

func (m *model) step() {
	ref := m.refs[m.r.IntN(len(m.refs))]
	kind := m.r.IntN(9)
	m.steps = append(m.steps, fmt.Sprintf("%d %s\n", kind, ref.ID[len(ref.ID)-1:]))
	switch kind {
	case 0, 1:
		m.park(ref)
	case 2, 3:
		m.settle(ref)
	case 4:
		if len(m.settled) > 0 {
			m.record(m.settled[m.r.IntN(len(m.settled))])
		}
	case 5:
		for ref, c := range claim(m.t, m.s) {
			m.lose(ref)
			m.claims[ref] = c
		}
	case 6:
		m.release(ref)
	case 7:
		if m.r.IntN(3) == 0 {
			noError(m.t, m.s.ForgetEndpoint(m.t.Context(), ref))
			m.lose(ref)
			delete(m.backlogs, ref)
		} else if len(m.backlogs[ref]) > 0 {
			makeDue(m.t, m.s, ref) // as when a lease or a wait ends
		}
	case 8:
		noError(m.t, m.s.LookAt(m.t.Context(), ref, m.r.IntN(2) == 0))
		for _, c := range m.lost {
			if hold(m.t, m.s, c) || !release(m.t, m.s, core.Release{Claim: c}) {
				m.t.Error("a lost claim is in force")
			}
		}
		for ref, c := range m.claims {
			if !hold(m.t, m.s, c) {
				m.t.Errorf("the claim on %v is lost", ref)
			}
		}
	}
}

func (m *model) lose(ref core.EndpointRef) {
	if c, ok := m.claims[ref]; ok {
		m.lost = append(m.lost, c)
		delete(m.claims, ref)
	}
}

func (m *model) park(ref core.EndpointRef) {
	other := m.refs[m.r.IntN(len(m.refs))]
	var ps []core.Parking
	for _, ref := range []core.EndpointRef{ref, other} {
		p := core.Parking{Endpoint: ref, Deliveries: parcels(ref, m.r.IntN(5), m.r.IntN(2000))}
		if m.r.IntN(3) == 0 {
			p.Due = time.Now().Add(time.Hour)
		}
		p.Condition.State = core.States()[m.r.IntN(len(core.States()))]
		p.Condition.Until = time.Now().Add(time.Duration(m.r.IntN(100)-50) * time.Minute)
		for _, d := range p.Deliveries {
			m.backlogs[ref] = append(m.backlogs[ref], d.ID)
		}
		ps = append(ps, p)
	}
	park(m.t, m.s, ps...)
}

// settle settles some deliveries, whoever has the claim.
func (m *model) settle(ref core.EndpointRef) {
	waiting := backlog(m.t, m.s, ref)
	d := core.Drained{Endpoint: ref}
	for _, w := range waiting {
		if m.r.IntN(2) == 0 {
			d.Entries = append(d.Entries, w)
			m.backlogs[ref] = slices.DeleteFunc(m.backlogs[ref], func(id string) bool { return id == w.Delivery.ID })
		}
	}
	m.record(d)
	m.settled = append(m.settled, d)
}

func (m *model) record(d core.Drained) { drain(m.t, m.s, d.Endpoint, d.Entries...) }

func (m *model) release(ref core.EndpointRef) {
	c, ok := m.claims[ref]
	if !ok {
		return
	}
	r := core.Release{Claim: c, OnlyEmpty: m.r.IntN(2) == 0}
	if m.r.IntN(2) == 0 {
		r.Due = time.Now().Add(time.Hour)
	}
	want := !r.OnlyEmpty || len(m.backlogs[ref]) == 0
	if released := release(m.t, m.s, r); released != want {
		m.t.Errorf("released %v: %t; want %t", ref, released, want)
	}
	if want {
		m.lose(ref)
	}
}

func (m *model) compare() {
	t, s, ctx := m.t, m.s, m.t.Context()
	bytes, deliveries := 0, 0
	for _, ref := range m.refs {
		size := 0
		var ids []string
		for _, w := range backlog(t, s, ref) {
			ids, size = append(ids, w.Delivery.ID), size+w.Size
		}
		if len(m.backlogs[ref])+len(ids) > 0 {
			if diff := cmp.Diff(m.backlogs[ref], ids); diff != "" {
				t.Errorf("backlog of %v (-want +got):\n%s", ref, diff)
			}
		}
		if got, _ := strconv.Atoi(s.client.HGet(ctx, sizesKey, ref.ID).Val()); got != size {
			t.Errorf("size of %v is %d; want %d", ref, got, size)
		}
		if len(ids) > 0 && s.client.ZScore(ctx, waitingKey, memberOf(ref)).Err() != nil {
			t.Errorf("%v has a backlog and does not wait", ref)
		}
		bytes, deliveries = bytes+size, deliveries+len(ids)
	}
	v, err := s.BacklogOverview(ctx)
	noError(t, err)
	if v.Deliveries != int64(deliveries) || v.Bytes != int64(bytes) || v.Claimed != len(m.claims) {
		t.Errorf("overview %+v; want %d deliveries of %d bytes, %d claims", v, deliveries, bytes, len(m.claims))
	}
}
