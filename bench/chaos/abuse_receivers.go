package main

import "context"

// hostileReceivers has each endpoint of the second stream answer in its own bad way.
func hostileReceivers(ctx context.Context, a *attack) error {
	a.begin("%d kinds of answers", len(hostilities()))
	a.done.Add(int64(a.w.turnHostile()))
	<-ctx.Done()
	a.w.receiver.turn(nil)
	return nil
}
