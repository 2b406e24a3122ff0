package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// letter is a dead letter as the API shows it.
type letter struct {
	ID         string
	Event      string
	EventID    string `json:"event_id"`
	Error      string
	Attempts   int
	AcceptedAt time.Time `json:"accepted_at"`
	DiedAt     time.Time `json:"died_at"`
	Size       int
}

// letters returns an endpoint's dead letters, page by page.
func (c *client) letters(endpoint string) (all []letter) {
	c.s.t.Helper()
	cursor := ""
	for {
		var page struct {
			Data       []letter
			NextCursor *string `json:"next_cursor"`
		}
		c.do(http.StatusOK, "GET", "/api/v1/webhooks/"+endpoint+"/dead-letters?limit=77"+cursor, "").decode(c.s.t, &page)
		all = append(all, page.Data...)
		if page.NextCursor == nil {
			return all
		}
		cursor = "&cursor=" + *page.NextCursor
	}
}

// recoverJob is a job that sends dead letters again.
type recoverJob struct {
	ID                       string
	Status                   string
	Error                    *string
	Total, Replayed, Skipped int
	Held                     bool
	EndedAt                  *string `json:"ended_at"`
}

// TestDeadLettersComeBack: what an endpoint did not take is listed, and reaches it
// when it is replayed: one by hand, all others by a job that no sender is there for at
// first.
func TestDeadLettersComeBack(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "1"})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(500, 400, 204))
	e := acme.subscribe(r.url(), "lead.created")
	hook := "/api/v1/webhooks/" + e.ID
	failed := []string{acme.publish(1, "lead.created", `{"n":"first"}`)}
	s.eventually("a delivery is given up", func() bool { return len(acme.letters(e.ID)) == 1 })
	failed = append(failed, acme.publish(1, "lead.created", `{"n":"second"}`))
	s.eventually("two deliveries are given up", func() bool { return len(acme.letters(e.ID)) == 2 })
	refused := r.all()[:2]

	acme.patch(e.ID, `{"enabled":false}`)
	held := acme.publishBatch(600, "lead.created")
	acme.patch(e.ID, `{"on_disable":"drop"}`)
	s.eventually("what was held is given up", func() bool { return len(acme.letters(e.ID)) == 602 })
	all := acme.letters(e.ID)
	first, last := all[601], all[0]
	if first.EventID != failed[0] || first.Error != "status_5xx" || first.Attempts != 1 || first.Event != "lead.created" ||
		first.Size != len(refused[0].body) || first.DiedAt.Before(first.AcceptedAt) || last.Error != "disabled" || last.Attempts != 0 {
		t.Errorf("the oldest is %+v, the newest %+v", first, last)
	}

	// The API judges before anything is sent.
	one, many, span := hook+"/deliveries/"+first.ID+"/replay", hook+"/dead-letters/replay", hook+"/recover"
	reader, other := s.client("acme", "read"), s.client("other", "admin")
	since := `{"since":"2026-01-01T00:00:00Z"}`
	for _, path := range []string{one, many, span} {
		reader.do(http.StatusForbidden, "POST", path, "[").problem(t, http.StatusForbidden, "missing_scope")
		other.do(http.StatusNotFound, "POST", path, "[").problem(t, http.StatusNotFound, "not_found")
		acme.do(http.StatusUnprocessableEntity, "POST", path, `{"all":true}`).problem(t, http.StatusUnprocessableEntity, "invalid")
	}
	acme.do(http.StatusConflict, "POST", one, "").problem(t, http.StatusConflict, "conflict")
	acme.do(http.StatusConflict, "POST", span, since).problem(t, http.StatusConflict, "conflict")

	acme.patch(e.ID, `{"enabled":true}`)
	var replayed struct {
		ID       string
		ReplayOf string `json:"replay_of"`
		EventID  string `json:"event_id"`
		Held     bool
	}
	acme.do(http.StatusAccepted, "POST", one, "").decode(t, &replayed)
	got := r.await(3)[2]
	if replayed.ReplayOf != first.ID || replayed.EventID != failed[0] || replayed.ID == first.ID || replayed.Held {
		t.Errorf("replayed %+v", replayed)
	}
	if got.id() != failed[0] || string(got.body) != string(refused[0].body) || !verifies(t, e.SigningSecret, &got) {
		t.Errorf("the replay is %s %s", got.id(), got.body)
	}
	s.eventually("the replay is noted", func() bool { return acme.deliveries(e.ID)[0].ID == replayed.ID })
	if row := acme.deliveries(e.ID)[0]; row.Status != "delivered" || row.Attempt != 1 || row.EventID != failed[0] {
		t.Errorf("its row is %+v", row)
	}
	acme.do(http.StatusConflict, "POST", hook+"/deliveries/"+replayed.ID+"/replay", "").problem(t, http.StatusConflict, "payload_expired")
	// Its last row is no longer among the last hundred.
	acme.do(http.StatusNotFound, "POST", one, "").problem(t, http.StatusNotFound, "not_found")

	s.sender.stop()
	var job recoverJob
	location := acme.do(http.StatusAccepted, "POST", span, since).header.Get("Location")
	acme.do(http.StatusOK, "GET", location, "").decode(t, &job)
	if job.Status != "running" || job.Total != 601 || job.Replayed != 0 {
		t.Errorf("without a sender the job is %+v", job)
	}
	acme.do(http.StatusConflict, "POST", many, "{}").problem(t, http.StatusConflict, "conflict")
	s.startSender()
	s.eventually("the job is done", func() bool {
		acme.do(http.StatusOK, "GET", location, "").decode(t, &job)
		return job.Status != "running"
	})
	if job.Status != "done" || job.Total != 601 || job.Replayed != 601 || job.Skipped != 0 || job.EndedAt == nil {
		t.Errorf("the job is %+v", job)
	}
	r.await(2 + 602)
	s.eventually("the backlog is empty", func() bool { return acme.stand(e.ID).Backlog == 0 })
	checkReceived(t, r.all()[2:], append(failed, held...))
	if left := acme.letters(e.ID); len(left) != 0 {
		t.Errorf("%d dead letters are left", len(left))
	}
	for program, want := range map[string]float64{"gateway": 1, "sender": 601} {
		if n := s.metric(program, "sealpost_dead_letters_removed_total", `by="replay"`); n != want {
			t.Errorf("the %s counts %v dead letters as replayed, want %v", program, n, want)
		}
	}
}

// TestReplayIsHeld: what is replayed for a disabled endpoint waits until it is enabled,
// and reaches nobody once it is deleted.
func TestReplayIsHeld(t *testing.T) {
	t.Parallel()
	s := newSystem(t, map[string]string{"SEALPOST_RETRY_MAX_ATTEMPTS": "1"})
	acme := s.client("acme", "admin,publish")
	r := newReceiver(t, s.ca, answers(500, 500, 204))
	e := acme.subscribe(r.url(), "lead.created")
	hook := "/api/v1/webhooks/" + e.ID
	var events []string
	for n := 1; n <= 2; n++ {
		events = append(events, acme.publish(1, "lead.created", fmt.Sprint(n)))
		s.eventually("a delivery is given up", func() bool { return len(acme.letters(e.ID)) == n })
	}
	acme.patch(e.ID, `{"enabled":false}`)
	var job recoverJob
	acme.do(http.StatusAccepted, "POST", hook+"/dead-letters/replay", "{}").decode(t, &job)
	if !job.Held || job.Total != 2 {
		t.Errorf("the job is %+v, want two that are held", job)
	}
	s.eventually("the job is done", func() bool {
		acme.do(http.StatusOK, "GET", hook+"/recover/"+job.ID, "").decode(t, &job)
		return job.Status == "done"
	})
	if n := acme.stand(e.ID).Backlog; n != 2 || len(r.all()) != 2 {
		t.Errorf("%d deliveries are held, %d requests were made; want 2 and 2", n, len(r.all()))
	}
	acme.patch(e.ID, `{"enabled":true}`)
	checkReceived(t, r.await(4)[2:], events)

	deleted := acme.do(http.StatusOK, "DELETE", hook, "")
	if deleted.status != http.StatusOK {
		t.Errorf("deletion: %d", deleted.status)
	}
	acme.do(http.StatusNotFound, "GET", hook+"/recover/"+job.ID, "").problem(t, http.StatusNotFound, "not_found")
	acme.do(http.StatusNotFound, "POST", hook+"/dead-letters/replay", "{}").problem(t, http.StatusNotFound, "not_found")
	s.awaitIdle()
	if keys := s.keysOf(e.ID); len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
}
