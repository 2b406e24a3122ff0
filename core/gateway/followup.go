package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/core"
)

// announceBudget bounds what an announcement may add to the answer of the change
// that it is about.
const announceBudget = time.Second

var errAnnounceBudget = errors.New("the announcement was not stored within its budget")

// Announcer tells an organization's other endpoints what became of one of them;
// *announce.Announcer is one.
type Announcer interface {
	// Disabled says that e was disabled, by request if reason is "".
	Disabled(ctx context.Context, e *core.Endpoint, reason core.Reason) error
	Enabled(ctx context.Context, e *core.Endpoint) error
}

// followUp does what a change of before to after entails. The change is done and
// stays done: what fails here is logged.
func (s *Server) followUp(c *change, before, after *core.Endpoint) {
	s.lookAt(c, before, after)
	if before.Enabled != after.Enabled {
		s.announce(after)
	}
}

// lookAt has the endpoint's backlog looked at as it is to be treated now. What is
// known of the endpoint's condition is forgotten when it is another one from now
// on. If that fails, or never happens because of a crash, drains look again by
// themselves within minutes.
func (s *Server) lookAt(c *change, before, after *core.Endpoint) {
	if !c.concernsBacklog() || after.Holds() {
		return // where everything waits there is nothing to look at
	}
	// Where everything is dropped no pause has to be waited for.
	forget := before.URL != after.URL || !before.Enabled && after.Enabled || before.FIFO && !after.FIFO || !after.Takes()
	ctx, cancel := context.WithTimeoutCause(context.Background(), extraBudget, errStoreBudget)
	defer cancel()
	if err := s.o.Store.LookAt(ctx, after.Ref(), forget); err != nil {
		s.o.Logger.Warn("a changed endpoint's backlog is looked at later", "endpoint", after.ID, "error", err)
	}
}

// announce tells others that e has been enabled or disabled.
func (s *Server) announce(e *core.Endpoint) {
	if s.o.Announcer == nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), announceBudget, errAnnounceBudget)
	defer cancel()
	var err error
	if e.Enabled {
		err = s.o.Announcer.Enabled(ctx, e)
	} else {
		err = s.o.Announcer.Disabled(ctx, e, e.DisabledBy)
	}
	s.metrics.announced.count(err)
	if err != nil {
		s.o.Logger.Warn("a change was not announced to other endpoints", "endpoint", e.ID, "enabled", e.Enabled, "error", err)
	}
}
